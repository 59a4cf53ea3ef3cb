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


def enlarge(pictures: Tensor, size: int) -> Tensor:
    """`pictures (b, c, s, s)` or masks at `size` pixels, bilinear: values stay in their range.

    Each channel by itself: three at once take torch two to three times as long on a CPU.
    """
    if pictures.shape[-1] == size:
        return pictures
    alone = pictures.flatten(0, 1)[:, None]
    return F.interpolate(alone, size=(size, size), mode="bilinear").view(*pictures.shape[:2], size, size)


def add_fine_detail(crops: Tensor, target: Tensor, fine: Fine, window: Window) -> Tensor:
    """The `window` of `crops (b, 3, s, s)` with landmarks `target (b, 478, 2)`, enlarged and with the film's detail.

    `window` is rows and columns of the crop; landmarks in pixels of a 256 crop. Returns `(b, 3, h F / s, w F / s)`;
    values may overshoot 0..1 a little.
    """
    times, unit = fine.pictures.shape[-1] // crops.shape[-1], crops.shape[-1] / CROP_SIZE
    moved = align_references(fine.pictures[:, None], fine.points[:, None] * unit, target * unit, window, times)[:, 0]
    coarse, crops = F.avg_pool2d(moved, times), crops[..., window[0] : window[1], window[2] : window[3]]
    apart = (crops - coarse).abs().mean(1, keepdim=True)
    share = torch.exp(-(blur(apart, AGREEMENT_BLUR) / AGREEMENT).square())
    share = F.interpolate(share, scale_factor=times, mode="bilinear")
    made, coarse = F.interpolate(torch.cat([crops, coarse]), scale_factor=times, mode="bicubic").chunk(2)
    return made + share * (moved - coarse)
