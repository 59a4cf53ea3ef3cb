"""Landmark pictures: what the appearance model is told to draw, and what people can look at.

    f frames   n points   m lines   p side of the patch a line is drawn in

A line only touches the pixels around it: each is drawn into a small patch at its middle, and the patches are
merged into the picture by maximum, which is hundreds of times cheaper than every line against every pixel.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from .sets import contour, landmark_set, mirror_index

LINE_WIDTH = 1.5  # pixels at 256
LIPS, JAW, REST = range(3)  # channels
LIP_RINGS = (
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
    (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 408, 304, 303, 302, 11, 72, 73, 74, 184),
    (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 407, 272, 271, 268, 12, 38, 41, 42, 183),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191),
)
EYE_RING = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
BROW_RING = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
IRIS_RING = (469, 470, 471, 472)
NOSE_BRIDGE = (168, 6, 197, 195, 5, 4, 1, 19, 94, 2)
NOSE_WING = (220, 115, 48, 64, 98, 97, 2)


def render_landmarks(points: Tensor, size: int = 256) -> Tensor:
    """Draw `points (f, 478, ≥ 2)` in crop pixels -> `(f, 3, size, size)`, 0..1, on the points' device.

    Anti-aliased lines on black: red the four lip rings, green jaw and lower contour, blue everything else.
    Points outside the picture are allowed; frames are independent of each other.
    """
    return draw_lines(points, (size, size), LINE_WIDTH * size / 256)


def draw_over(pictures: Tensor, points: Tensor, opacity: float = 1.0, width: float = 2.0) -> Tensor:
    """`pictures (f, 3, h, w)`, 0..1, with the lines of `points (f, 478, ≥ 2)` in their pixels, `width` pixels wide.

    Where no line is, values stay bit by bit.
    """
    ink = draw_lines(points, (pictures.shape[2], pictures.shape[3]), width)
    return pictures * (1 - opacity * ink.amax(1, keepdim=True)) + opacity * ink


def draw_lines(points: Tensor, size: tuple[int, int], width: float, only: int | None = None) -> Tensor:
    """Lines of `width` pixels between `points (f, 478, ≥ 2)` on black `(f, 3, h, w)` of `size (h, w)`.

    `only` leaves all channels but one black, which takes less time.
    """
    height, across = size
    ends, channel = (table.to(points.device) for table in lines())
    if only is not None:
        ends, channel = ends[channel == only], channel[channel == only]
    start, stop = points[:, ends, :2].float().unbind(2)  # (f, m, 2)
    side = patch_side(start, stop, width, max(size))
    corner = ((start + stop) / 2 - side / 2).floor().clamp(-side, max(size))
    axis = torch.arange(side, device=points.device, dtype=torch.float32)
    x, y = corner[..., 0, None] + axis, corner[..., 1, None] + axis  # (f, m, p) whole pixels
    distance = line_distance(x[..., None, :] + 0.5, y[..., :, None] + 0.5, start, stop)
    ink = ((width + 1) / 2 - distance).clamp(0, 1)
    visible_x, visible_y = (x >= 0) & (x < across), (y >= 0) & (y < height)
    ink = ink * (visible_y[..., :, None] & visible_x[..., None, :])
    row = channel[None, :, None] * height + y.clamp(0, height - 1).long()
    place = row[..., :, None] * across + x.clamp(0, across - 1).long()[..., None, :]
    picture = points.new_zeros(len(points), 3 * height * across, dtype=torch.float32)
    picture.scatter_reduce_(1, place.flatten(1), ink.flatten(1), "amax")
    return picture.view(-1, 3, height, across)


def patch_side(start: Tensor, stop: Tensor, width: float, size: int) -> int:
    """Side of a patch that holds every line with its ink."""
    longest = (stop - start).abs().max().item() if start.numel() else 0.0
    return min(math.ceil(longest + width) + 3, 2 * size)


def line_distance(x: Tensor, y: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Distance `(f, m, p, p)` of places x `(f, m, 1, p)` and y `(f, m, p, 1)` from lines `(f, m, 2)`."""
    along = (stop - start)[..., None, None]
    from_x, from_y = x - start[..., 0, None, None], y - start[..., 1, None, None]
    dx, dy = along[:, :, 0], along[:, :, 1]
    share = ((from_x * dx + from_y * dy) / (dx * dx + dy * dy).clamp(min=1e-12)).clamp(0, 1)
    return torch.hypot(from_x - share * dx, from_y - share * dy)


@cache
def lines() -> tuple[Tensor, Tensor]:
    """Pairs of points `(m, 2)` and the channel `(m,)` of each line."""
    drawn = [(LIPS, pair) for ring in LIP_RINGS for pair in chain(ring, closed=True)]
    jaw = set(landmark_set("jaw").tolist())
    for pair in chain(tuple(contour("face_oval_ring").tolist()), closed=True):
        drawn.append((JAW if jaw & set(pair) else REST, pair))
    one_side = [pair for ring in (EYE_RING, BROW_RING, IRIS_RING) for pair in chain(ring, closed=True)] + chain(
        NOSE_WING
    )
    mirror = mirror_index().tolist()
    other_side = [(mirror[a], mirror[b]) for a, b in one_side]
    drawn += [(REST, pair) for pair in one_side + other_side + chain(NOSE_BRIDGE)]
    return torch.tensor([pair for _, pair in drawn]), torch.tensor([channel for channel, _ in drawn])


def chain(points: tuple[int, ...], closed: bool = False) -> list[tuple[int, int]]:
    """Neighbouring pairs along a line of points."""
    following = points[1:] + points[:1] if closed else points[1:]
    return list(zip(points, following, strict=closed))
