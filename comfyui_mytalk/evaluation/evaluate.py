"""`evaluate`: the shipped pipeline on clips whose answer is known, scored on the pixels that come out.

Protocol `paired`: every clip is given its own speech, so that the original is the right answer. Landmarks are
detected again on the output; the model's own landmarks are never trusted. Frames are compared before they are
encoded, so that no codec is measured.

    f frames   h w picture   n speech samples at 16 kHz
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..appearance.blend import frame_mask
from ..appearance.references import MOUTH_BOX
from ..errors import InputError
from ..landmarks.align import CROP_SIZE, sample_affine
from ..landmarks.canonical import to_canonical
from ..landmarks.track import FaceTrack, track_faces
from ..landmarks.tracker import FaceLandmarker
from ..motion.identity import mouth_opening
from ..pipeline import TensorSource, geometry, render_clip, select_references
from ..speech.audio import Audio, fit_audio, read_audio, speech_16k
from ..sync import BANK, CHUNK, Models, SyncOptions, load_models, speak_track
from ..video.reader import VideoReader
from .baselines import energy_mouth, static_mouth
from .clips import Clip, find_clips
from .metrics import (
    articulation_ratio,
    best_lag,
    correlation,
    identical_share,
    lip_distance,
    psnr,
    sharpness_ratio,
    ssim,
)
from .report import Figures, Table, write_report

logger = logging.getLogger(__name__)
OURS = "mytalk"
OPTIONS = ("seed", "steps", "speech_encoder", "identity", "motion", "appearance", "device", "dtype")


@dataclass(frozen=True)
class Talk:
    """A clip in memory: `frames (f, h, w, 3)` uint8, its landmarks, and its own speech of the same length."""

    frames: Tensor
    track: FaceTrack
    audio: Audio
    fps: float

    @property
    def source(self) -> TensorSource:
        return TensorSource(self.frames, self.fps)


def read_talk(path: Path, landmarker: FaceLandmarker, duration: float | None = None) -> Talk:
    """Read a clip, or its first `duration` seconds; raises InputError when it has no face or no sound."""
    reader = VideoReader(path, duration=duration)
    audio, fps = read_audio(path, duration=duration), float(reader.info.fps)
    chunks = list(reader.chunks(CHUNK))
    track = track_faces(chunks, landmarker)
    audio = fit_audio(audio, (track.times[-1] - track.times[0]).item() + 1 / fps)
    return Talk(torch.cat([torch.as_tensor(frames) for frames, _ in chunks]), track, audio, fps)


def synthesise(models: Models, talk: Talk, options: SyncOptions) -> tuple[Tensor, float]:
    """The clip spoken anew `(f, h, w, 3)` uint8, and the least share of identical pixels outside the mask."""
    spoken = speak_track(models, talk.track, talk.audio, options, None)
    bank = select_references(talk.source, talk.track, geometry(talk.track), BANK)
    place = geometry(talk.track, spoken)
    out, outside = [], []
    for made, _, mask in render_clip(models.appearance, talk.source, spoken, place, bank, CHUNK):
        part = slice(len(out) * CHUNK, len(out) * CHUNK + len(made))
        region = frame_mask(mask, place.transform[part], made.shape[1:3])
        pair = (frames.permute(0, 3, 1, 2) for frames in (made, talk.frames[part]))
        outside.append(identical_share(*pair, region))
        out.append(made)
    return torch.cat(out), min(outside)


def compare_motion(track: FaceTrack, original: FaceTrack) -> Figures:
    """Mouth motion of one track against the original's, over the original's usable frames."""
    use = original.usable
    made, truth = (to_canonical(t.points, t.pose)[use] for t in (track, original))
    opening, wanted = mouth_opening(made), mouth_opening(truth)
    lag, at_lag = best_lag(opening, wanted)
    return {
        "opening_correlation": correlation(opening, wanted),
        "lag_frames": lag,
        "best_lag_correlation": at_lag,
        "articulation": articulation_ratio(opening, wanted),
        "lip_distance_cm": lip_distance(made, truth),
    }


def compare_pictures(frames: Tensor, talk: Talk) -> Figures:
    """Mean mouth-box figures over the usable frames, in the aligned crop of the original."""
    top, bottom, left, right = (round(edge * CROP_SIZE) for edge in MOUTH_BOX)
    use = talk.track.usable.nonzero()[:, 0]
    rows = []
    for part in use.split(CHUNK):
        pair = [
            sample_affine(f[part].permute(0, 3, 1, 2).float() / 255, talk.track.transform[part], (CROP_SIZE,) * 2)
            for f in (frames, talk.frames)
        ]
        made, truth = (crop[:, :, top:bottom, left:right] for crop in pair)
        rows.append(torch.stack([psnr(made, truth), ssim(made, truth), sharpness_ratio(made, truth)], 1))
    return dict(zip(("psnr_mouth", "ssim_mouth", "sharpness"), torch.cat(rows).mean(0).tolist(), strict=True))


def score_clip(models: Models, clip: Clip, options: SyncOptions, duration: float | None) -> dict[str, Figures]:
    """Figures of each method on one clip."""
    talk = read_talk(clip.path, models.landmarker, duration)
    frames, outside = synthesise(models, talk, options)
    seen = track_faces(TensorSource(frames, talk.fps).chunks(CHUNK), models.landmarker)
    ours = compare_pictures(frames, talk) | compare_motion(seen, talk.track) | {"identical_outside": outside}
    return {
        OURS: ours,
        "static mouth": compare_motion(static_mouth(talk.track), talk.track),
        "audio energy": compare_motion(energy_mouth(talk.track, speech_16k(talk.audio)), talk.track),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clips", type=Path, help="folder of talking clips, each with its own speech")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report"), help="folder for the report (default report)"
    )
    parser.add_argument(
        "--index", type=Path, help="JSON list of the clips (default CLIPS/index.json where there is one)"
    )
    parser.add_argument("--split", help="only clips of this split of the index, for example val")
    parser.add_argument("--corpus", help="only clips of this corpus of the index")
    parser.add_argument("--limit", type=int, help="at most so many clips, taken from each corpus in turn")
    parser.add_argument("--duration", type=float, help="only the first seconds of each clip")
    for name in OPTIONS:
        default = getattr(SyncOptions, name)
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, help="as in sync (default %(default)s)")


def main(args: argparse.Namespace) -> None:
    """Score every clip and write the report; a clip that cannot be used is named in the report and left out."""
    if args.output.exists() and not args.output.is_dir():
        raise InputError(f"got the file {args.output} as output, expected a folder for the report")
    clips = find_clips(args.clips, args.index, args.split, args.corpus, args.limit)
    options = SyncOptions(**{name: value for name, value in vars(args).items() if name in OPTIONS})
    models = load_models(options)
    table, left_out = Table(), []
    for clip in tqdm(clips, unit="clip"):
        try:
            scores = score_clip(models, clip, options, args.duration)
        except InputError as error:
            logger.warning("%s is left out: %s", clip.name, error)
            left_out.append(f"{clip.name} ({error})")
            continue
        for method, figures in scores.items():
            table.add("paired", method, clip.name, clip.corpus, figures)
    if not table.rows:
        raise InputError(f"none of the {len(clips)} clips in {args.clips} could be used; the first: {left_out[0]}")
    write_report(args.output, table.summary(), describe(args, len(clips) - len(left_out), left_out))


def describe(args: argparse.Namespace, used: int, left_out: list[str]) -> dict[str, object]:
    return {
        "clips": used,
        "left out": "; ".join(left_out) or "none",
        **{name.replace("_", " "): getattr(args, name) for name in OPTIONS},
        "seconds of each clip": args.duration or "all",
        "baselines": "scored on their landmarks, before any picture is made, and given the clip's own range of mouths",
    }
