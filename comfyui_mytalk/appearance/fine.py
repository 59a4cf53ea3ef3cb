"""Fine detail of close-ups: what the film shows of lips and skin, and a crop of 256 pixels cannot hold.

    b batch   m pictures in the bank   s crop side in pixels   F side of the same crop at the film's own resolution

The nearest picture of the bank is kept at the film's resolution too, and moved onto the wanted landmarks. What it has
beyond the network's resolution is laid over the network's picture, as far as the two agree: not on teeth that are
elsewhere. Not in the paper, whose pictures are 256 pixels wide.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks.align import CROP_SIZE
from .layers import blur
from .warp import Window, align_references

MOST = 3  # times the network's resolution: 39 pixels per centimetre of face
LEAST_SOFT = 0.2  # crops enlarged by 1.3 are soft enough to be worth more pixels
AGREEMENT = 0.06  # difference, 0..1, at which a third of the detail is left
AGREEMENT_BLUR = 1.5  # pixels of a 256 crop around one that are asked whether they agree


class Fine(NamedTuple):
    """The nearest picture of each frame at the film's resolution `(b, 3, F, F)`, 0..1, and its landmarks
    `(b, 478, 2)` in pixels of a 256 crop."""

    pictures: Tensor
    points: Tensor


def fine_size(transform: Tensor) -> int:
    """Side of crops that hold what frames show: 256, 512 or 768; from `transform (f, 2, 3)`, 256 crop to frame."""
    scale = transform[:, :, 0].norm(dim=-1).median().item() if len(transform) else 1.0
    return CROP_SIZE * min(MOST, max(1, round(scale + LEAST_SOFT)))


def enlarge(pictures: Tensor, size: int, mode: str = "bicubic") -> Tensor:
    """`pictures (b, c, s, s)` at `size` pixels; bicubic may overshoot a little, "bilinear" does not."""
    if pictures.shape[-1] == size:
        return pictures
    return F.interpolate(pictures, size=(size, size), mode=mode, align_corners=False)


def add_fine_detail(crops: Tensor, target: Tensor, fine: Fine, window: Window | None = None) -> Tensor:
    """`crops (b, 3, s, s)` with landmarks `target (b, 478, 2)`, pixels of a 256 crop -> `(b, 3, F, F)`.

    Only rows and columns in `window` (of `s`) get detail; the others are just enlarged.
    """
    b, _, size, _ = crops.shape
    full = fine.pictures.shape[-1]
    times, unit = full // size, full / CROP_SIZE
    window = window or (0, size, 0, size)
    top, bottom, left, right = window
    wide = tuple(edge * times for edge in window)
    moved = align_references(fine.pictures[:, None], fine.points[:, None] * unit, target * unit, wide)[:, 0]
    coarse = F.avg_pool2d(moved, times)
    apart = (crops[..., top:bottom, left:right] - coarse).abs().mean(1, keepdim=True)
    share = torch.exp(-(blur(apart, AGREEMENT_BLUR) / AGREEMENT).square())
    share, coarse = (
        F.interpolate(x, scale_factor=times, mode=mode, align_corners=False)
        for x, mode in ((share, "bilinear"), (coarse, "bicubic"))
    )
    result = enlarge(crops, full)
    result[..., wide[0] : wide[1], wide[2] : wide[3]] += share * (moved - coarse)
    return result
