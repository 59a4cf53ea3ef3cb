"""Long clips: overlapping windows of the trained length, blended into one estimate at every diffusion step.

t frames   w windows   c channels
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def window_starts(frames: int, size: int, overlap: int) -> list[int]:
    """First frames of windows of `size` that cover `frames`; the last one ends with the clip."""
    if frames <= size:
        return [0]
    return [*range(0, frames - size, size - overlap), frames - size]


def cut_windows(x: Tensor, starts: list[int], size: int) -> Tensor:
    """`x (t, c)` -> windows `(w, size, c)`."""
    return torch.stack([x[start : start + size] for start in starts])


def trapezoid(size: int, overlap: int) -> Tensor:
    """Weights `(size,)` that rise over the overlap, stay flat and fall."""
    ramp = torch.arange(1, size + 1).float()
    return torch.minimum(ramp, ramp.flip(0)).clamp(max=max(overlap, 1))


def fuse_windows(windows: Tensor, starts: list[int], frames: int, overlap: int) -> Tensor:
    """Blend windows `(w, size, c)` into `(frames, c)`, as MultiDiffusion does (arXiv 2302.08113)."""
    size = windows.shape[1]
    weight = trapezoid(size, overlap).to(windows)[:, None]
    total, norm = windows.new_zeros(frames, windows.shape[2]), windows.new_zeros(frames, 1)
    for start, window in zip(starts, windows, strict=True):
        total[start : start + size] += weight * window
        norm[start : start + size] += weight
    return total / norm


def in_batches(function: Callable[..., Tensor], batch: int, *arguments: Tensor) -> Tensor:
    """`function(*arguments)` over the first axis, at most `batch` rows at a time: bounds memory, not the result."""
    pieces = zip(*(argument.split(batch) for argument in arguments), strict=True)
    return torch.cat([function(*piece) for piece in pieces])
