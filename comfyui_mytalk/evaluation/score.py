"""The figures of one video in one case. Its landmarks are detected again on its pixels: no model's word is taken.

f frames   t motion frames at 25 fps   h w picture
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..appearance.blend import frame_mask
from ..appearance.references import MOUTH_BOX
from ..errors import InputError
from ..frames import TensorSource
from ..landmarks.align import CROP_SIZE
from ..landmarks.canonical import mouth_opening, to_canonical
from ..landmarks.track import FaceTrack, track_faces
from ..landmarks.tracker import FaceLandmarker
from ..motion.identity import IdentityExtractor, identity_tokens
from .arcface import ArcFace
from .metrics import (
    articulation_ratio,
    best_lag,
    closure_scores,
    correlation,
    jerk_ratio,
    lip_distance,
    silence,
    silent_movement,
    speech_level,
)
from .perceptual import lpips
from .pictures import flicker, identical_share, psnr, seam_ratio, sharpness_ratio, ssim
from .sheet import pick_moments
from .sync_score import SyncScore
from .talks import CHUNK, UNPAIRED, Case, aligned_crops, on_motion_grid

Figures = dict[str, float]
LOOKED = 10  # frames of a clip whose pictures are compared: neighbours are nearly the same evidence, and SSIM is slow


class Sync(Protocol):
    """A judge of lip sync: our own or a SyncNet."""

    def score(self, crops: Tensor, times: Tensor, speech: Tensor, usable: Tensor | None = None) -> SyncScore: ...


@dataclass(frozen=True)
class Judges:
    """The networks that look at results; none of them made any. What is None, or off, is not measured."""

    landmarker: FaceLandmarker
    identity: IdentityExtractor
    sync: Sync | None = None
    arcface: ArcFace | None = None
    lpips: bool = False
    fid: bool = False

    def track(self, frames: Tensor, fps: float) -> FaceTrack:
        """Landmarks of `frames (f, h, w, 3)` uint8; raises InputError when no face is found."""
        return track_faces(TensorSource(frames, fps).chunks(CHUNK), self.landmarker)


class Series(NamedTuple):
    """What a plot shows: mouth opening of result and speaker in cm, and the level of the speech, all `(t,)`."""

    made: Tensor
    truth: Tensor
    level: Tensor


@dataclass(frozen=True)
class Score:
    """Figures of one video, and what is needed to show it."""

    figures: Figures
    series: Series
    track: FaceTrack


def score(case: Case, frames: Tensor, mask: Tensor, judges: Judges) -> Score:
    """Judge `frames (f, h, w, 3)` uint8, made from the case's source within `mask (f, 1, s, s)` of the aligned crop.

    Raises InputError when no face is found in the frames.
    """
    source = case.talk.track
    same = frames is case.frames
    track = source if same else judges.track(frames, case.talk.fps).replace(times=source.times)
    made = case.crops if same else aligned_crops(frames, source)
    motion, series = score_motion(case, track)
    figures = {
        **score_pictures(case, made, mask, judges.lpips),
        "identical_outside": identical_outside(case, frames, mask),
        **motion,
        **score_sync(judges.sync, case, made),
        "identity": same_person(judges.identity, track, source),
        "face_lost": (~track.usable[source.usable]).float().mean().item(),
    }
    if judges.arcface is not None:
        shown = source[source.usable]
        faces = [judges.arcface.embed(pixels[source.usable], shown) for pixels in (frames, case.frames)]
        figures["arcface"] = (faces[0] * faces[1]).sum(-1).mean().item()
    return Score({name: value for name, value in figures.items() if not isnan(value)}, series, track)


def score_motion(case: Case, track: FaceTrack) -> tuple[Figures, Series]:
    """The mouth of `track` against the mouth of whoever first said these words."""
    (made, seen), (truth, true_seen) = on_motion_grid(track), on_motion_grid(case.speaker.track)
    length = min(len(made), len(truth))
    use = seen[:length] & true_seen[:length]
    if use.sum() < 4:
        raise InputError("fewer than four frames show a face to compare")
    level = speech_level(case.speech, length)
    silent, level = silence(level)[use], level[use]
    made, truth = made[:length][use], truth[:length][use]
    opening, wanted = mouth_opening(made), mouth_opening(truth)
    lag, at_lag = best_lag(opening, wanted)
    figures = {
        "opening_correlation": correlation(opening, wanted),
        "lag_frames": float(lag),
        "best_lag_correlation": at_lag,
        "articulation": articulation_ratio(opening, wanted),
        "lip_distance_cm": lip_distance(made, truth) if case.held_out else float("nan"),  # two faces differ anyhow
        **{f"closure_{name}": value for name, value in closure_scores(opening, wanted).items()},
        "silent_movement": silent_movement(opening, silent),
        "jerk": jerk_ratio(made, truth),
    }
    if case.protocol == UNPAIRED:
        figures["leak"] = opening_agreement(track, case.talk.track)
    return figures, Series(opening, wanted, level)


def opening_agreement(track: FaceTrack, other: FaceTrack) -> float:
    """Correlation of two tracks' mouth openings over the frames that both show."""
    use = track.usable & other.usable
    openings = (mouth_opening(to_canonical(t.points, t.pose)[use]) for t in (track, other))
    return correlation(*openings)


def same_person(extractor: IdentityExtractor, track: FaceTrack, source: FaceTrack) -> float:
    """Cosine of the mean landmark identity embeddings of two tracks, at rest."""
    means = (identity_tokens(extractor, t).float().cpu().mean(0) for t in (track, source))
    return F.cosine_similarity(*means, dim=0).item()


def score_sync(judge: Sync | None, case: Case, crops: Tensor) -> Figures:
    """What an independent judge of lip sync says of aligned `crops (f, 3, s, s)`; nothing of too short a clip."""
    if judge is None:
        return {}
    found = judge.score(crops, case.talk.track.times, case.speech, case.talk.track.usable)
    figures = {"sync_confidence": found.confidence, "sync_distance": found.distance, "sync_offset": found.offset_frames}
    return {} if isnan(found.confidence) else figures | {"in_sync": float(found.in_sync)}


def score_pictures(case: Case, made: Tensor, mask: Tensor, with_lpips: bool = False) -> Figures:
    """Picture figures of aligned crops `made (f, 3, s, s)` uint8; likeness where the original is the right answer.

    `LOOKED` frames spread over the clip are looked at, all of them for flicker.
    """
    usable, truth = case.talk.track.usable, case.crops
    looked = usable.nonzero()[:, 0][pick_moments(int(usable.sum()), LOOKED)]
    found = [compare_crops(made[p], truth[p], mask[p], case.held_out, with_lpips) for p in looked.split(CHUNK)]
    figures = {name: torch.cat([row[name] for row in found]).mean().item() for name in found[0]}
    restless = [flicker(crops[usable], mask[usable]) for crops in (made, truth)]
    return figures | {"flicker": restless[0] / max(restless[1], 1e-6)}


def compare_crops(made: Tensor, truth: Tensor, mask: Tensor, same_words: bool, with_lpips: bool) -> dict[str, Tensor]:
    """Figures `(b,)` of crops `(b, 3, s, s)` uint8; likeness only where both say the same."""
    made, truth = made.float() / 255, truth.float() / 255
    top, bottom, left, right = (round(edge * CROP_SIZE) for edge in MOUTH_BOX)
    mouth = [crops[:, :, top:bottom, left:right] for crops in (made, truth)]
    figures = {"sharpness": sharpness_ratio(*mouth), "seam": seam_ratio(made, truth, mask)}
    if same_words:
        figures |= {"psnr": psnr(made, truth), "ssim": ssim(made, truth)}
        figures |= {"psnr_mouth": psnr(*mouth), "ssim_mouth": ssim(*mouth)}
        figures |= {"lpips": lpips(made, truth)} if with_lpips else {}
    return figures


def identical_outside(case: Case, frames: Tensor, mask: Tensor) -> float:
    """The least share of identical pixels outside the mask in any stretch of `frames (f, h, w, 3)`."""
    shares = []
    for part in torch.arange(len(frames)).split(CHUNK):
        region = frame_mask(mask[part], case.talk.track.transform[part], frames.shape[1:3])
        pair = (pixels[part].permute(0, 3, 1, 2) for pixels in (frames, case.frames))
        shares.append(identical_share(*pair, region))
    return min(shares)
