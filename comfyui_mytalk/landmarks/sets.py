"""The 478 points partitioned: what speech moves, what conditions it, what is left alone."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ..data import read_data

POINTS = 478
AROUND = ("lips_outer", "perioral", "chin", "jaw")  # what is painted of a face


@cache
@torch.inference_mode(False)  # kept for later callers, who may train
def landmark_set(name: str) -> Tensor:
    """Indices `(n,)` of a set: `generated` (180), `prefix` (103), `remaining` (195), `jaw`, `chin`, …

    Raises ValueError naming the sets when `name` is none of them.
    """
    sets = read_data("landmark_sets.json")["sets"]
    if name not in sets:
        raise ValueError(f"got landmark set {name!r}, expected one of {', '.join(sorted(sets))}")
    return torch.tensor(sets[name], dtype=torch.long)


@cache
@torch.inference_mode(False)
def landmark_sets(*names: str) -> Tensor:
    """Indices of several sets, one after the other."""
    return torch.cat([landmark_set(name) for name in names])


@cache
@torch.inference_mode(False)
def contour(name: str) -> Tensor:
    """Ordered closed ring of indices for drawing: `lips_outer_ring`, `lips_inner_ring`, `face_oval_ring`."""
    return torch.tensor(read_data("landmark_sets.json")["contours"][name], dtype=torch.long)


@cache
@torch.inference_mode(False)
def mirror_index() -> Tensor:
    """`(478,)`: the point that takes each point's place when the picture is flipped left to right."""
    return torch.tensor(read_data("landmark_sets.json")["sets"]["mirror"], dtype=torch.long)


def mirror_canonical(points: Tensor) -> Tensor:
    """Mirror canonical or centred landmarks `(..., 478, c)` about x = 0; its own inverse."""
    flipped = points[..., mirror_index().to(points.device), :].clone()
    flipped[..., 0] = -flipped[..., 0]
    return flipped
