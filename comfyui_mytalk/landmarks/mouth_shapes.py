"""The mouths that a person could make: shapes that a clip shows, and how they may be changed.

f frames   n lower-face points (180)   k movements   c shapes
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .sets import landmark_set

SHAPES, COMPONENTS = 24, 8  # of the clip: to start from, and to vary by
OPENINGS = (0.5, 1.0, 1.6, 2.4)  # cm: mouths to start from that the clip may never have shown
JAW, WHOLE, LOCAL = 0.5, 0.3, 0.15  # cm of one standard deviation: the jaw's drop, moving and stretching, lips locally
NEAR, FAR = 2.0, 3.0  # cm above and below the mouth over which local and whole movements fade
LOCAL_AT = (-1.0, -0.5, 0.0, 0.5, 1.0)  # half mouth widths from its middle


class MouthShapes(NamedTuple):
    """Lower faces to start from `(c, n, 3)`, and movements of about a standard deviation `(k, n, 3)`, centimetres."""

    starts: Tensor
    moves: Tensor

    @classmethod
    def of(cls, shapes: Tensor) -> MouthShapes:
        """From pose-free landmarks `shapes (f, 478, 3)` of one person; one frame is enough."""
        lower = shapes[:, landmark_set("generated")]
        top, bottom, right, left = (landmark_set("generated").tolist().index(point) for point in (13, 14, 61, 291))
        opening = (lower[:, top] - lower[:, bottom]).norm(dim=-1)
        order = opening.argsort(stable=True)
        spread = order[torch.linspace(0, len(order) - 1, min(SHAPES, len(order))).round().long()]
        mean, wide = lower.mean(0), lower[order[-max(1, len(order) // 10) :]].mean(0)
        gap = (wide[top] - wide[bottom])[1].clamp(min=0.1)
        below = (0.5 - (wide[:, 1] - (wide[top] + wide[bottom])[1] / 2) / gap).clamp(0, 1)[:, None]
        centre, half = (mean[top] + mean[bottom]) / 2, (mean[right] - mean[left])[0].abs() / 2
        across, up, _ = (mean - centre).split(1, dim=-1)
        jaw = -below * torch.exp(-((across / (1.3 * half)) ** 2)) * mean.new_tensor([0.0, 1.0, 0.0])
        starts = [lower[spread], *(lower[order[:1]] + drop * jaw for drop in OPENINGS)]
        moves = [principal(lower - mean), JAW * jaw[None], whole(across, up), local(across / half, up, below)]
        return cls(torch.cat(starts), torch.cat(moves))


def principal(changes: Tensor) -> Tensor:
    """Principal components of `changes (f, n, 3)`, each of one standard deviation `(≤ COMPONENTS, n, 3)`."""
    _, size, directions = torch.linalg.svd(changes.flatten(1), full_matrices=False)
    return (directions * size[:, None] / len(changes) ** 0.5)[:COMPONENTS].unflatten(1, changes.shape[1:])


def whole(across: Tensor, up: Tensor) -> Tensor:
    """The lower face shifted and stretched along both axes `(4, n, 3)`; `across` and `up` `(n, 1)` centimetres."""
    fade = WHOLE * torch.exp(-((up / FAR) ** 2))
    x, y = axes(fade)
    return torch.stack([x, y, x * across, y * up])


def local(across: Tensor, up: Tensor, below: Tensor) -> Tensor:
    """Places along the lower lip, by `below (n, 1)`, and along the upper one, moved along both axes `(20, n, 3)`."""
    fade = LOCAL * torch.exp(-((up / NEAR) ** 2))
    bumps = [part * fade * torch.exp(-2 * (across - at) ** 2) for part in (below, 1 - below) for at in LOCAL_AT]
    return torch.stack([move for bump in bumps for move in axes(bump)])


def axes(amount: Tensor) -> tuple[Tensor, Tensor]:
    """`amount (n, 1)` along x and along y, each `(n, 3)`."""
    return amount * amount.new_tensor([1.0, 0.0, 0.0]), amount * amount.new_tensor([0.0, 1.0, 0.0])
