"""Rotated square crops exactly as MediaPipe's CPU path makes them, so that the networks see what they expect.

    f frames   r regions of interest   s crop side in pixels

A region of interest is `(centre x, centre y, side, angle)` in frame pixels and radians. Two habits of
OpenCV's `warpPerspective`, which the networks' inputs went through, are reproduced: output pixel `j` reads
source index `x0 + j * side / s` (no half-pixel shift), and places are rounded to a lattice of 1/32 pixel
before a bilinear mean that is rounded to whole grey levels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sampling import sample_repeating

LATTICE = 32
HALF = 0.5 + 0.4 / LATTICE**2  # halves round up; the rest of the step is room for float32's noise
SPARSE = 32  # pixels of a part for each of the crop's, above which reading them one by one is faster


def crop_regions(frames: Tensor, index: Tensor, regions: Tensor, size: int, outside: str) -> Tensor:
    """Crops `(r, 3, size, size)`, whole grey levels 0..255 as float, of `frames (f, h, w, 3)` uint8.

    `index (r,)` says which frame each of `regions (r, 4)` is in; `outside` is "edge" (repeat the border)
    or "black". Only the part of a frame that a region touches is converted, whatever the frame's size, and of a large
    part only the pixels that are read.
    """
    places = zip(index.tolist(), *lattice_places(regions, size), strict=True)
    return torch.cat([crop_one(frames[i], x, y, outside) for i, x, y in places])


def lattice_places(regions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Source places `(r, size, size)` of the crops' pixels in whole 1/32 pixels, x and y.

    In float64 on the CPU: in float32 some places would round to the neighbouring lattice point.
    """
    x, y, side, angle = regions.cpu().double()[:, :, None, None].unbind(1)
    across = torch.arange(size, dtype=torch.float64)[None, None] / size - 0.5
    down = across.mT
    c, s = angle.cos() * side * LATTICE, angle.sin() * side * LATTICE
    return (x * LATTICE + c * across - s * down).round(), (y * LATTICE + s * across + c * down).round()


def crop_one(frame: Tensor, x: Tensor, y: Tensor, outside: str) -> Tensor:
    """Sample one frame `(h, w, 3)` at lattice places `(s, s)` -> `(1, 3, s, s)`."""
    left, right = touched(x, frame.shape[1])
    top, bottom = touched(y, frame.shape[0])
    if (right - left) * (bottom - top) > SPARSE * x.numel():
        return gathered(frame, x, y, outside)
    part = frame[top:bottom, left:right].float().permute(2, 0, 1)[None]
    grid_x = (x - left * LATTICE) * (2 / LATTICE / (right - left - 1)) - 1
    grid_y = (y - top * LATTICE) * (2 / LATTICE / (bottom - top - 1)) - 1
    grid = torch.stack([grid_x, grid_y], -1)[None].to(frame.device, torch.float32)
    if outside == "edge":
        return sample_repeating(part, grid, align_corners=True).add_(HALF).floor_()
    return F.grid_sample(part, grid, "bilinear", "zeros", align_corners=True).add_(HALF).floor_()


def touched(places: Tensor, extent: int) -> tuple[int, int]:
    """First and last-but-one pixel, at least two, of `extent` pixels that the places read."""
    low, high = int(places.min()) // LATTICE, int(places.max()) // LATTICE + 2
    first = min(max(low, 0), extent - 2)
    return first, max(min(high, extent), first + 2)


def gathered(frame: Tensor, x: Tensor, y: Tensor, outside: str) -> Tensor:
    """What `crop_one` samples, of the four neighbours of each place alone."""
    (column, across), (row, down) = (
        neighbours(places, extent, outside, frame.device)
        for places, extent in ((x, frame.shape[1]), (y, frame.shape[0]))
    )
    first = row * frame.shape[1] + column
    pairs = frame.reshape(-1).as_strided((frame.numel() // 3 - 1, 6), (3, 1))  # every pixel and the one after it
    upper, lower = (pairs.index_select(0, at).T.float() for at in (first, first + frame.shape[1]))
    both = upper * down[0] + lower * down[1]
    mean = (both[:3] * across[0] + both[3:] * across[1]) / LATTICE**2
    return mean.add_(HALF).floor_().view(1, 3, *x.shape)


def neighbours(places: Tensor, extent: int, outside: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first `(n,)` of the two of `extent` pixels between which lattice `places` lie, and both weights `(2, n)`."""
    places = places.flatten().long()
    if outside == "edge":
        places = places.clamp(0, (extent - 1) * LATTICE)
    first = places.div(LATTICE, rounding_mode="floor").clamp(0, extent - 2)
    away = places - first * LATTICE
    weights = LATTICE - torch.stack([away, away - LATTICE]).abs()
    return first.to(device), weights.clamp_min(0).float().to(device)
