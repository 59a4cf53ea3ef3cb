"""What a run of `sync` did, in plain JSON.

f frames
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .inputs import Inputs
from .landmarks.track import FaceTrack
from .motion.reference import StyleReference
from .options import SyncOptions


def report(
    video: str | Path,
    speech: str | Path,
    given: Inputs,
    options: SyncOptions,
    track: FaceTrack,
    style: StyleReference,
    references: Tensor,
    seconds: dict[str, float],
    covered: Tensor | None = None,
) -> dict[str, Any]:
    """What was done: frames spoken, interpolated, passed through, covered in part, the style reference, the time.

    `style_reference`: the `clip` that was listened to, whether it was `used`, and why, or why not.
    """
    info = given.film.info
    return {
        "video": str(video),
        "speech": str(speech),
        "out": str(given.out),
        "frames": len(track),
        "fps": float(info.fps),
        "size": [info.width, info.height],
        "face": {
            "found": int(track.found.sum()),
            "interpolated": int((track.usable & ~track.found).sum()),
            "passed_through": spans(~track.usable),
            "people": track.count,
            "covered": spans(covered) if covered is not None else [],
        },
        "style_reference": {
            "clip": str(options.style_video or video),
            "used": style.memory is not None,
            "why": style.why,
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
