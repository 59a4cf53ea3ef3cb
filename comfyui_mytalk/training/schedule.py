"""Learning rates over a run."""

from __future__ import annotations

import math

import torch


def anneal(progress: float, floor: float = 0.0) -> float:
    """Half a cosine from 1 at progress 0 down to `floor` at 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all groups; a group's own `scale` (default 1) multiplies it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)
