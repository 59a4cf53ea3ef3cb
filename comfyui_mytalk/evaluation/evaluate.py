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
from ..appearance.model import AppearanceModel, load_appearance
from ..appearance.references import MOUTH_BOX, mouth_shape
from ..devices import pick_device
from ..errors import InputError
from ..landmarks.align import CROP_SIZE, sample_affine
from ..landmarks.canonical import to_canonical
from ..landmarks.track import FaceTrack, load_face_landmarker, track_faces
from ..landmarks.tracker import FaceLandmarker
from ..motion.generate import MotionOptions, speak
from ..motion.identity import IdentityExtractor, identity_tokens, load_identity, mouth_opening
from ..motion.model import MotionModel, load_motion
from ..pipeline import TensorSource, geometry, reference_schedule, render_frames, select_references
from ..speech.audio import read_audio, speech_16k
from ..speech.features import SpeechFeatures, load_speech_encoder
from ..video.reader import VideoReader
from .baselines import RATE, energy_mouth, static_mouth
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
CHUNK = 16  # frames rendered and compared at once
BANK = 32  # references the pipeline may choose from
OURS = "mytalk"


@dataclass(frozen=True)
class Models:
    """Everything the pipeline needs."""

    landmarker: FaceLandmarker
    encoder: SpeechFeatures
    identity: IdentityExtractor
    motion: MotionModel
    appearance: AppearanceModel


@dataclass(frozen=True)
class Talk:
    """A clip in memory: `frames (f, h, w, 3)` uint8, its landmarks, and its own speech `(n,)` of the same length."""

    frames: Tensor
    track: FaceTrack
    speech: Tensor
    fps: float

    @property
    def source(self) -> TensorSource:
        return TensorSource(self.frames, self.fps)


def read_talk(path: Path, landmarker: FaceLandmarker, duration: float | None = None) -> Talk:
    """Read a clip, or its first `duration` seconds; raises InputError when it has no face or no sound."""
    reader = VideoReader(path, duration=duration)
    chunks = [(torch.as_tensor(frames), torch.as_tensor(times)) for frames, times in reader.chunks(CHUNK)]
    track = track_faces(iter(chunks), landmarker)
    frames, fps = torch.cat([frames for frames, _ in chunks]), float(reader.info.fps)
    speech = speech_16k(read_audio(path, duration=duration))
    wanted = round((track.times[-1] - track.times[0]).item() * RATE + RATE / fps)
    speech = torch.nn.functional.pad(speech, (0, max(0, wanted - len(speech))))[:wanted]
    return Talk(frames, track, speech, fps)


def synthesise(models: Models, talk: Talk, options: MotionOptions) -> tuple[Tensor, float]:
    """The clip spoken anew `(f, h, w, 3)` uint8, and the share of identical pixels outside the mask."""
    features = models.encoder(talk.speech)
    spoken = speak(models.motion, talk.track, features, identity_tokens(models.identity, talk.track), options)
    place = geometry(talk.track, spoken)
    bank = select_references(talk.source, talk.track, place, BANK)
    count = models.appearance.params.references
    schedule = reference_schedule(bank, mouth_shape(to_canonical(spoken.points, place.pose)), count)
    out, outside = [], []
    for start in range(0, len(talk.frames), CHUNK):
        part = slice(start, start + CHUNK)
        references, usable = bank.gather(schedule[part]), talk.track.usable[part]
        frames = talk.frames[part]
        made, mask = render_frames(models.appearance, frames, place[part], spoken.points[part], references, usable)
        region = frame_mask(mask, place.transform[part], frames.shape[1:3])
        outside.append(identical_share(made.permute(0, 3, 1, 2), frames.permute(0, 3, 1, 2), region))
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


def score_clip(models: Models, clip: Clip, options: MotionOptions, duration: float | None) -> dict[str, Figures]:
    """Figures of each method on one clip."""
    talk = read_talk(clip.path, models.landmarker, duration)
    frames, outside = synthesise(models, talk, options)
    seen = track_faces(TensorSource(frames, talk.fps).chunks(CHUNK), models.landmarker)
    ours = compare_pictures(frames, talk) | compare_motion(seen, talk.track) | {"identical_outside": outside}
    return {
        OURS: ours,
        "static mouth": compare_motion(static_mouth(talk.track), talk.track),
        "audio energy": compare_motion(energy_mouth(talk.track, talk.speech), talk.track),
    }


def load_models(args: argparse.Namespace) -> Models:
    device = pick_device(args.device)
    return Models(
        load_face_landmarker(device),
        load_speech_encoder(args.speech_encoder, device),
        load_identity(args.identity, device),
        load_motion(args.motion, device),
        load_appearance(args.appearance, device),
    )


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
    parser.add_argument("--seed", type=int, default=0, help="of the motion sampler (default 0)")
    parser.add_argument(
        "--steps", type=int, default=MotionOptions.steps, help="of the motion sampler (default %(default)s)"
    )
    parser.add_argument("--speech-encoder", default="speech_small", help="name or path (default %(default)s)")
    parser.add_argument("--identity", default="identity_small", help="name or path (default %(default)s)")
    parser.add_argument("--motion", default="motion_small", help="name or path (default %(default)s)")
    parser.add_argument("--appearance", default="appearance_small", help="name or path (default %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default auto)")


def main(args: argparse.Namespace) -> None:
    """Score every clip and write the report; a clip that cannot be used is named in the report and left out."""
    clips = find_clips(args.clips, args.index, args.split, args.corpus, args.limit)
    models, options = load_models(args), MotionOptions(steps=args.steps, seed=args.seed)
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
        "weights": ", ".join([args.speech_encoder, args.identity, args.motion, args.appearance]),
        "steps": args.steps,
        "seed": args.seed,
        "seconds of each clip": args.duration or "all",
        "baselines": "scored on their landmarks, before any picture is made, and given the clip's own range of mouths",
    }
