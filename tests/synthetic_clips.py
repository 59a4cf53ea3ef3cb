"""Prepared clips made from the canonical face, whose mouth follows the loudness of a synthetic voice.

f frames   n points (478)
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from comfyui_mytalk.landmarks.align import crop_transform
from comfyui_mytalk.landmarks.canonical import Pose, canonical_face, fit_pose, from_canonical
from comfyui_mytalk.landmarks.sets import landmark_set

RATE = 16_000
SIDE = 64  # of the crops, pixels


def face(width: float = 1.0) -> Tensor:
    """A resting face `(478, 3)`, canonical cm: the canonical one with irises, its lower part `width` times as wide."""
    mesh = canonical_face()
    right, left = mesh[[33, 133]].mean(0), mesh[[263, 362]].mean(0)
    points = torch.cat([mesh, right.expand(5, 3), left.expand(5, 3)]).clone()
    points[landmark_set("generated"), 0] *= width
    return points


def opening_curve(times: Tensor, seed: int) -> Tensor:
    """Mouth opening `(f,)`, cm, 0..1.6: syllables at about 3 Hz with a rhythm of their own."""
    draw = torch.Generator().manual_seed(seed)
    rate, phase = 2.5 + torch.rand(1, generator=draw), 2 * math.pi * torch.rand(2, generator=draw)
    carrier = (2 * math.pi * rate * times + phase[0]).sin().clamp(min=0)
    return (1.6 * carrier * (0.6 + 0.4 * (2 * math.pi * 0.4 * times + phase[1]).sin())).float()


def talking(resting: Tensor, opening: Tensor) -> Tensor:
    """Canonical landmarks `(f, 478, 3)` whose lower lip and jaw drop by `opening (f,)`."""
    lower = torch.isin(torch.arange(478), landmark_set("generated")) & (resting[:, 1] < resting[14, 1] + 1e-3)
    points = resting.expand(len(opening), -1, -1).clone()
    points[:, :, 1] -= opening[:, None] * lower
    return points


def pose(frames: int, pixels_per_cm: float = 10.0) -> Pose:
    """A head that slowly turns and drifts."""
    angle = 0.15 * torch.linspace(0, 3, frames).sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = [angle.cos(), zero, angle.sin(), zero, one, zero, -angle.sin(), zero, angle.cos()]
    place = torch.tensor([128.0, -128.0, 0.0]) + torch.linspace(0, 5, frames)[:, None]
    return Pose(one * pixels_per_cm, torch.stack(rows, -1).view(-1, 3, 3), place)


def talking_points(frames: int, fps: float = 25.0, seed: int = 0, width: float = 1.0) -> tuple[Tensor, Tensor]:
    """Pixels `(f, 478, 3)`, with detector noise, and times `(f,)` of a talking head in a 256 x 256 picture."""
    times = torch.arange(frames, dtype=torch.float64) / fps
    canonical = talking(face(width), opening_curve(times, seed))
    jitter = torch.randn(canonical.shape, generator=torch.Generator().manual_seed(seed))
    return from_canonical(canonical + 0.005 * jitter, pose(frames)), times


def voice(seconds: float, seed: int) -> Tensor:
    """Speech `(n,)` at 16 kHz as loud as the mouth of `opening_curve` is open."""
    times = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    pitch = 100 + 20 * (seed % 7)
    return (
        0.3
        * opening_curve(times, seed)
        * sum((2 * math.pi * pitch * k * times).sin() / k for k in (1, 2, 5, 9)).float()
    )


Draw = Callable[[int, float, int], Tensor]  # frames, fps, seed -> crops (f, 3, SIDE, SIDE) uint8


def flat_crops(identity: int, frames: int) -> list[Image.Image]:
    """Crops without a face, each frame in a shade of its own."""
    return [Image.new("RGB", (SIDE, SIDE), (40 * identity % 255, 120, frame % 255)) for frame in range(frames)]


def write_clip(
    folder: Path,
    split: str,
    identity: int,
    take: int,
    frames: int = 50,
    fps: float = 25.0,
    crops: Draw | None = None,
) -> Path:
    """Write one prepared clip (the format of `training/clips.py`) and return its path."""
    seed = 100 * identity + take
    points, times = talking_points(frames, fps, seed, width=0.8 + 0.1 * identity)
    images = flat_crops(identity, frames)
    if crops is not None:
        images = [Image.fromarray(crop.numpy()) for crop in crops(frames, fps, seed).permute(0, 2, 3, 1)]
    blobs = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        blobs.append(buffer.getvalue())
    tensors = {
        "points": points,
        "found": torch.ones(frames, dtype=torch.bool),
        "times": times,
        "speech": (32767 * voice(frames / fps, seed).clamp(-1, 1)).to(torch.int16),
        "crops": torch.frombuffer(bytearray(b"".join(blobs)), dtype=torch.uint8),
        "crop_offsets": torch.tensor([0, *map(len, blobs)]).cumsum(0),
        "crop_transform": crop_transform(fit_pose(points), SIDE),
    }
    metadata = {
        "crop_size": str(SIDE),
        "format": "mytalk-prepared", "clip": f"{split}/{identity}_{take}", "split": split,
        "identity": f"{split}{identity}",
        "corpus": "synthetic", "fps": str(fps), "face_px": "150", "av_offset_ms": "0",
    }  # fmt: skip
    path = folder / f"{split}__{identity}_{take}.safetensors"
    save_file(tensors, path, metadata)
    return path


def write_clips(folder: Path, identities: int = 3, takes: int = 2, frames: int = 50, crops: Draw | None = None) -> Path:
    """A folder with `takes` clips of each of `identities` people in the train split, and of as many in val."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        for identity in range(identities):
            for take in range(takes):
                write_clip(folder, split, identity, take, frames, crops=crops)
    return folder
