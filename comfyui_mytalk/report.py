"""What a run of `sync` did, in plain JSON.

f frames
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .landmarks.track import FaceTrack
from .options import SyncOptions
from .video.reader import VideoReader


def report(
    video: str | Path,
    speech: str | Path,
    out: Path,
    options: SyncOptions,
    reader: VideoReader,
    track: FaceTrack,
    references: Tensor,
    seconds: dict[str, float],
    covered: Tensor | None = None,
) -> dict[str, Any]:
    """What was done, in plain JSON: frames spoken, interpolated, passed through, covered in part, and the time."""
    return {
        "video": str(video),
        "speech": str(speech),
        "out": str(out),
        "frames": len(track),
        "fps": float(reader.info.fps),
        "size": [reader.info.width, reader.info.height],
        "face": {
            "found": int(track.found.sum()),
            "interpolated": int((track.usable & ~track.found).sum()),
            "passed_through": spans(~track.usable),
            "people": track.count,
            "covered": spans(covered) if covered is not None else [],
        },
        "references": references.tolist(),
        "options": {name: str(v) if isinstance(v, Path) else v for name, v in asdict(options).items()},
        "seconds": seconds,
    }


def spans(flags: Tensor) -> list[list[int]]:
    """First and last index of every run of true values."""
    edges = torch.cat([flags.new_zeros(1), flags, flags.new_zeros(1)]).int().diff()
    starts, stops = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0] - 1
    return torch.stack([starts, stops], 1).tolist()
