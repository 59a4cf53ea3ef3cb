"""Aligned crops: a square around the lower face that follows the head's pose and nothing else.

    f frames   n points   s crop side in pixels

The crop is placed by the pose, which depends on the upper face only. A mouth that opens or closes
therefore never moves the crop, and two crops of one person differ only where the face really differs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sampling import sample_repeating
from .canonical import Pose, from_canonical

CROP_SIZE = 256
CROP_CENTRE = (0.0, -3.7, 4.0)  # canonical cm: mid lower face, at the mean depth of lips and jaw
WINDOW_MARGIN = 4.0  # pixels of a crop beyond its edge that bicubic sampling and area averaging may read
WINDOW_GRID = 60  # frame pixels between places where windows may begin: a moving face changes them rarely
CROP_HALF = 9.5  # canonical cm: brows to below the open jaw, ear to ear


def crop_transform(pose: Pose, size: int = CROP_SIZE, smooth: float = 1.0) -> Tensor:
    """Affine maps `(f, 2, 3)` from crop pixels to frame pixels (pixel-edge coordinates).

    `smooth` is the sigma, in frames, of a Gaussian over time: detector noise must not shake the crop.
    """
    centre = from_canonical(pose.scale.new_tensor(CROP_CENTRE).expand(len(pose), 1, 3), pose)[:, 0, :2]
    axis = torch.stack([pose.roll.cos(), pose.roll.sin()], -1) * (pose.scale * 2 * CROP_HALF / size)[:, None]
    similarity = gaussian_smooth(torch.cat([centre, axis], -1), smooth)
    (x, y), (c, s) = similarity[:, :2].unbind(-1), similarity[:, 2:].unbind(-1)
    half = size / 2
    rows = [torch.stack([c, -s, x - half * (c - s)], -1), torch.stack([s, c, y - half * (s + c)], -1)]
    return torch.stack(rows, 1)


def gaussian_smooth(x: Tensor, sigma: float) -> Tensor:
    """Gaussian over the first axis of `x (f, c)`, edges repeated; `sigma` in frames, 0 is the identity."""
    if sigma <= 0 or len(x) < 2:
        return x
    radius = int(3 * sigma + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x.device) / sigma) ** 2).to(x.dtype)
    padded = torch.cat([x[:1].expand(radius, -1), x, x[-1:].expand(radius, -1)])
    return F.conv1d(padded.T[:, None], (kernel / kernel.sum())[None, None])[:, 0].T


def invert(transform: Tensor) -> Tensor:
    """Inverse of affine maps `(f, 2, 3)`."""
    linear = torch.linalg.inv(transform[:, :, :2].double())
    return torch.cat([linear, -linear @ transform[:, :, 2:].double()], -1).to(transform.dtype)


def resized(transform: Tensor, size: int) -> Tensor:
    """`transform (f, 2, 3)` of crops with 256 pixels on a side -> of the same crops with `size`."""
    return torch.cat([transform[:, :, :2] * (CROP_SIZE / size), transform[:, :, 2:]], -1)


def apply_transform(transform: Tensor, points: Tensor) -> Tensor:
    """Map points `(f, n, 2)` by `(f, 2, 3)`; pass `invert(t)` to go from the frame to the crop."""
    return points @ transform[:, :, :2].mT + transform[:, None, :, 2]


def sample_affine(
    images: Tensor, transform: Tensor, size: tuple[int, int], mode: str = "bilinear", repeating: bool = False
) -> Tensor:
    """Resample `images (f, c, h, w)` at `transform (f, 2, 3)` of each output pixel -> `(f, c, *size)`.

    Outside are zeros, or the edge is repeated. Where the map shrinks much, the source is first blurred by
    area averaging, so that close-ups do not alias. `mode` "bilinear" stays in the pictures' range, as masks must;
    "bicubic" may overshoot it a little, and keeps pictures sharp: cut and pasted back bilinearly they lose 15 to 35 %
    of their Laplacian energy.
    """
    factors = _block_sides(transform, mode)
    if len(set(factors)) > 1:  # each picture as it would be alone: batches must not change results
        alone = zip(images.split(1), transform.split(1), strict=True)
        return torch.cat([sample_affine(image, own, size, mode, repeating) for image, own in alone])
    factor = factors[0] if factors else 1
    if factor > 1:
        images = F.avg_pool2d(images, factor, ceil_mode=True, count_include_pad=False)
        transform = transform / factor
    grid = sampling_grid(transform, size, images.shape[-2:]).to(images.dtype)
    if repeating:
        return sample_repeating(images, grid, mode)
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)


def _block_sides(transform: Tensor, mode: str) -> list[int]:
    """Pixels along a side of the blocks that are averaged before sampling, for each map of `transform (f, 2, 3)`."""
    shrink = transform[:, :, 0].norm(dim=-1)
    return [max(1, int(times)) for times in (shrink if mode == "bilinear" else shrink / 1.5).tolist()]


def sampling_grid(transform: Tensor, size: tuple[int, int], source: tuple[int, int]) -> Tensor:
    """Where `transform (f, 2, 3)` fetches each output pixel from, `(f, *size, 2)`; -1..1 across `source (h, w)`.

    As a sum of a row and a column, which takes a tenth of the time of a product for every pixel.
    """
    scale = 2 / transform.new_tensor([source[1], source[0]])
    x, y = (torch.arange(n, device=transform.device, dtype=transform.dtype) + 0.5 for n in (size[1], size[0]))
    linear, offset = transform[:, :, :2] * scale[:, None], transform[:, :, 2] * scale - 1
    along, down = x[:, None] * linear[:, None, :, 0], y[:, None] * linear[:, None, :, 1] + offset[:, None]
    return along[:, None] + down[:, :, None]


def crop_window(transform: Tensor, frame: tuple[int, int], size: int = CROP_SIZE) -> tuple[slice, slice, Tensor]:
    """The rows and columns of frames of `frame (h, w)` that hold all crops, and `transform (f, 2, 3)` within them.

    Cutting crops there is the same as in the whole frames, and touches no more pixels than it must.
    """
    corners = transform.new_tensor([[0, 0], [size, 0], [0, size], [size, size]])
    corners = apply_transform(transform, corners.expand(len(transform), -1, -1)).flatten(0, 1)
    margin = WINDOW_MARGIN * max(1.0, transform[:, :, 0].norm(dim=-1).max().item())
    step = math.lcm(WINDOW_GRID, *_block_sides(transform, "bicubic"))  # where blocks of area averaging begin, too
    first, last = ((corners.amin(0) - margin) / step).floor() * step, (corners.amax(0) + margin).ceil()
    parts = [
        slice(min(max(int(first[axis]), 0), frame[1 - axis] - 1), min(max(int(last[axis]), 1), frame[1 - axis]))
        for axis in (1, 0)
    ]
    shift = transform.new_tensor([parts[1].start, parts[0].start])
    return parts[0], parts[1], torch.cat([transform[:, :, :2], transform[:, :, 2:] - shift[:, None]], -1)


def cut_crops(images: Tensor, transform: Tensor, size: int = CROP_SIZE, repeating: bool = False) -> Tensor:
    """The crops `(f, c, size, size)` of `images (f, c, h, w)` in 0..1, placed by `transform (f, 2, 3)`.

    Black outside, or the edge `repeating`.
    """
    return sample_affine(images, transform, (size, size), "bicubic", repeating).clamp(0, 1)
