"""Prepared clips: what every trainer reads. One safetensors file per clip, written by `prepare.py`.

f frames   n speech samples at 16 kHz
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from ..errors import InputError
from ..landmarks.align import apply_transform, invert
from ..landmarks.canonical import Pose, fit_pose, to_canonical

FORMAT = "mytalk-prepared"
OFFSET_FPS = 25  # of `offset_frames`
logger = logging.getLogger(__name__)


@dataclass
class PreparedClip:
    """One clip on disk. Landmarks are read at once, speech and crops when asked for."""

    path: Path
    metadata: dict[str, str]
    points: Tensor = field(repr=False)  # (f, 478, 3) pixels of the source frame
    found: Tensor = field(repr=False)  # (f,) bool
    times: Tensor = field(repr=False)  # (f,) seconds
    transform: Tensor = field(repr=False)  # (f, 2, 3) crop pixels -> frame pixels
    offsets: Tensor = field(repr=False)  # (f + 1,) bytes

    def __len__(self) -> int:
        return len(self.points)

    @property
    def identity(self) -> str:
        return self.metadata["identity"]

    @property
    def corpus(self) -> str:
        return self.metadata["corpus"]

    @property
    def fps(self) -> float:
        return float(self.metadata["fps"])

    @property
    def face_px(self) -> float:
        return float(self.metadata.get("face_px") or 0)

    @cached_property
    def pose(self) -> Pose:
        return fit_pose(self.points)

    @cached_property
    def canonical(self) -> Tensor:
        """Pose-free landmarks `(f, 478, 3)`, centimetres."""
        return to_canonical(self.points, self.pose)

    @cached_property
    def speech(self) -> Tensor:
        """Mono speech at 16 kHz `(n,)`, float -1..1, starting with the first frame."""
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor("speech").float() / 32768

    def crop_points(self, frames: slice | list[int]) -> Tensor:
        """Landmarks in crop pixels `(len(frames), 478, 2)`."""
        return apply_transform(invert(self.transform[frames]), self.points[frames][..., :2])

    def crop(self, frame: int) -> Tensor:
        """The aligned crop of one frame `(3, s, s)`, uint8."""
        start, stop = self.offsets[frame : frame + 2].tolist()
        with safe_open(self.path, framework="pt") as file:
            data = file.get_slice("crops")[start:stop].numpy().tobytes()
        return torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB"))).permute(2, 0, 1)

    def crops(self, frames: list[int]) -> Tensor:
        """Aligned crops `(len(frames), 3, s, s)`, uint8."""
        return torch.stack([self.crop(frame) for frame in frames])


def read_clip(path: Path) -> PreparedClip:
    """Open one prepared clip; raises InputError when the file is not one."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise InputError(
                f"{path} is not a prepared clip; run `python -m comfyui_mytalk prepare` on the videos first"
            )
        names = ("points", "found", "times", "crop_transform", "crop_offsets")
        return PreparedClip(path, metadata, *(file.get_tensor(name) for name in names))


def read_clips(folder: str | Path, split: str | None = None) -> list[PreparedClip]:
    """All prepared clips of `folder` (of one split), in name order; raises InputError when there are none."""
    paths = sorted(Path(folder).glob("*.safetensors"))
    clips = [clip for clip in map(read_clip, paths) if split in (None, clip.metadata.get("split"))]
    if not clips:
        wanted = f"{split} clips" if split else "clips"
        raise InputError(
            f"no prepared {wanted} in {folder}; run `python -m comfyui_mytalk prepare VIDEOS -o {folder}` first"
        )
    return clips


def read_offsets(path: str | Path) -> dict[str, float]:
    """Seconds by which each clip's speech is late, by clip name, from a JSON such as `scripts/align_clips.py` writes.

    Rows of `scripts/estimate_offsets.py`, whose `offset_frames` say by how many frames the picture is late, are read
    too; those without a number, of clips too short to say, are passed over. Raises InputError when the file cannot be
    read, or holds no clip or anything else.
    """
    try:
        rows = {name: _seconds_late(row) for name, row in json.loads(Path(path).read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"cannot read the offsets {path} ({error!r}): expected JSON such as {{clip: seconds}}, made by "
            f"`python -m scripts.align_clips FOLDER -o {path}`"
        ) from error
    offsets = {name: seconds for name, seconds in rows.items() if seconds is not None}
    if not offsets:
        raise InputError(f"the offsets {path} hold no clip: expected JSON such as {{clip: seconds}}")
    return offsets


def _seconds_late(row: Any) -> float | None:
    """Seconds by which speech is late, from a row of an offsets file; raises ValueError when it says no such thing."""
    frames = isinstance(row, dict)
    value = row["offset_frames"] if frames else row
    if frames and value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{row!r} is no number")
    return -value / OFFSET_FPS if frames else float(value)


def check_offsets(offsets: dict[str, float] | None, clips: Iterable[PreparedClip]) -> None:
    """Warn how many of `clips` have none of `offsets`, if any was given; raises InputError when all are without."""
    names = [clip.path.stem for clip in clips]
    if not offsets or all(name in offsets for name in names):
        return
    known = sum(name in offsets for name in names)
    if not known:
        raise InputError(
            f"none of the {len(names)} clips has an offset: expected names such as {names[0]}, "
            f"got {next(iter(offsets))}; make the offsets of this folder with `python -m scripts.align_clips`"
        )
    logger.warning("%d of %d clips have an offset, the others are taken as they say of themselves", known, len(names))
