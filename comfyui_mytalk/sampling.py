"""Sampling pictures beyond their edges, on every device."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

COMPLETE = ("cpu", "cuda", "xpu", "meta")  # devices whose grid_sample repeats edges, and samples bicubically


def sample_repeating(pictures: Tensor, grid: Tensor, mode: str = "bilinear", align_corners: bool = False) -> Tensor:
    """`pictures (n, c, h, w)` at `grid (n, y, x, 2)`, -1..1, the edge repeated outside -> `(n, c, y, x)`.

    Apple's GPUs know neither the repeated edge (before torch 2.13) nor bicubic sampling; there, and on devices that we
    know nothing of, it is done on the CPU.
    """
    if pictures.device.type in COMPLETE:
        return F.grid_sample(pictures, grid, mode, "border", align_corners)
    return F.grid_sample(pictures.cpu(), grid.cpu(), mode, "border", align_corners).to(pictures.device)
