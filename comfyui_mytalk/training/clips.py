"""Prepared clips: what every trainer reads. One safetensors file per clip, written by `prepare.py`.

f frames   n speech samples at 16 kHz
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import InputError
from ..landmarks.align import apply_transform, invert
from ..landmarks.canonical import Pose, fit_pose, to_canonical

FORMAT = "mytalk-prepared"
OFFSET_FPS = 25  # of `offset_frames`
MIN_FOUND = 0.8  # share of the frames with a face, where speech and mouth are learnt together
logger = logging.getLogger(__name__)


@dataclass
class PreparedClip:
    """One clip on disk. What is small is read at once; landmarks, speech and crops when asked for."""

    path: Path
    metadata: dict[str, str]
    samples: int  # of speech at 16 kHz
    found: Tensor = field(repr=False)  # (f,) bool
    times: Tensor = field(repr=False)  # (f,) seconds
    transform: Tensor = field(repr=False)  # (f, 2, 3) crop pixels -> frame pixels
    offsets: Tensor = field(repr=False)  # (f + 1,) bytes

    def __len__(self) -> int:
        return len(self.found)

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

    @property
    def points(self) -> Tensor:
        """Landmarks in pixels of the source frame `(f, 478, 3)`, read anew each time: memory holds few whole sets."""
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor("points").clone()

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

    def forget(self) -> None:
        """Let go of what was computed from the landmarks: of hundreds of hours it fills the memory."""
        for name in ("pose", "canonical"):
            self.__dict__.pop(name, None)

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
    """Open one prepared clip; raises InputError, which names the file, when it is damaged or not one."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(
                    f"{path} is not a prepared clip; run `python -m comfyui_mytalk prepare` on the videos first"
                )
            samples = file.get_slice("speech").get_shape()[0]
            names = ("found", "times", "crop_transform", "crop_offsets")
            # copies: a tensor of the file keeps all of it mapped, and a process may map some 65,000 files
            return PreparedClip(path, metadata, samples, *(file.get_tensor(name).clone() for name in names))
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"cannot read the prepared clip {path} ({error}): delete it and run `python -m comfyui_mytalk prepare` "
            "once more"
        ) from error


def clip_paths(folder: str | Path) -> list[Path]:
    """The files of a folder's prepared clips in name order; hidden ones are still being written, or were left so."""
    return sorted(path for path in Path(folder).glob("*.safetensors") if not path.name.startswith("."))


def read_clips(folder: str | Path, split: str | None = None) -> list[PreparedClip]:
    """All prepared clips of `folder` (of one split), in name order; raises InputError when there are none."""
    every = [read_clip(path) for path in clip_paths(folder)]
    clips = [clip for clip in every if split in (None, clip.metadata.get("split"))]
    if clips:
        return clips
    if not every:
        raise InputError(
            f"no prepared clips in {folder}; run `python -m comfyui_mytalk prepare VIDEOS -o {folder}` first"
        )
    there = " and ".join(f"{n} {name}" for name, n in Counter(clip.metadata.get("split") for clip in every).items())
    people = len({clip.identity for clip in every})
    raise InputError(
        f"no {split} clips in {folder}, where {there} clips of {people} {'people' if people > 1 else 'person'} are: "
        "whole people are kept for validation, so at least two are needed; prepare videos of somebody else into "
        f"{folder} too, or give the splits in an index (docs/training.md)"
    )


def spoken_clips(clips: list[PreparedClip]) -> list[PreparedClip]:
    """Those with speech and a face in most of their frames; one line says how many are left out, and why."""
    heard = [clip for clip in clips if clip.samples]
    spoken = [clip for clip in heard if clip.found.float().mean() >= MIN_FOUND]
    reasons = {
        "without sound": len(clips) - len(heard),
        f"with a face in less than {MIN_FOUND:.0%} of their frames": len(heard) - len(spoken),
    }
    say_left_out(len(clips), reasons)
    return spoken


def say_left_out(count: int, reasons: dict[str, int]) -> None:
    """Warn how many of `count` clips are not used, and why; nothing when all are."""
    reasons = {reason: number for reason, number in reasons.items() if number}
    if reasons:
        parts = ", ".join(f"{number} {reason}" for reason, number in reasons.items())
        logger.warning("left out %d of %d clips: %s", sum(reasons.values()), count, parts)


def content_key(*parts: Tensor | str | float) -> str:
    """A name for what `parts` hold, for files made from them: clips of one name may differ."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.contiguous().numpy().tobytes() if isinstance(part, Tensor) else f"|{part}|".encode())
    return digest.hexdigest()[:32]


def read_offsets(path: str | Path | None, clips: Iterable[PreparedClip] | None = None) -> dict[str, float]:
    """Seconds by which each clip's speech is late, by clip name, from a JSON such as `scripts/align_clips.py` writes.

    None without a file. They are checked against `clips`, when given (`check_offsets`).
    Rows of `scripts/estimate_offsets.py`, whose `offset_frames` say by how many frames the picture is late, are read
    too; those without a number, of clips too short to say, are passed over. Raises InputError when the file cannot be
    read, or holds no clip or anything else.
    """
    if path is None:
        return {}
    try:
        rows = {name: _seconds_late(row) for name, row in json.loads(Path(path).read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"cannot read the offsets {path} ({error!r}): expected JSON such as {{clip: seconds}}, made by "
            "`python -m scripts.align_clips FOLDER -o offsets.json`"
        ) from error
    offsets = {name: seconds for name, seconds in rows.items() if seconds is not None}
    if not offsets:
        raise InputError(f"the offsets {path} hold no clip: expected JSON such as {{clip: seconds}}")
    if clips is not None:
        check_offsets(offsets, clips)
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
