"""Conformer blocks (Gulati et al. 2020, arXiv 2005.08100) shared by the speech encoder and the denoiser.

b batch   t time   r context tokens   d width
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoid(position: Tensor, dim: int) -> Tensor:
    """Sinusoidal encoding `(..., dim)` of `position (...)` (Vaswani et al. 2017)."""
    frequency = torch.exp(-math.log(1e4) * torch.arange(dim // 2, device=position.device) / (dim // 2))
    angle = position[..., None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)


def rotate(x: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) on `x (b, heads, t, d)`: attention then sees distances, not places."""
    cos, sin = sinusoid(torch.arange(x.shape[-2], device=x.device), x.shape[-1]).to(x.dtype).chunk(2, -1)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class FeedForward(nn.Sequential):
    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        layers = nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.SiLU(), nn.Dropout(dropout)
        super().__init__(*layers, nn.Linear(hidden, dim), nn.Dropout(dropout))


class Attention(nn.Module):
    """Pre-norm multi-head attention over `x` itself, or over `context` when it is given."""

    def __init__(self, dim: int, heads: int, dropout: float, rotary: bool = False) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.norm = nn.LayerNorm(dim)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`x (b, t, d)`, `context (b, r, d)` -> `(b, t, d)`."""
        x = self.norm(x)
        context = x if context is None else context
        query, key, value = (
            layer(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, source in ((self.query, x), (self.key, context), (self.value, context))
        )
        if self.rotary:
            query, key = rotate(query), rotate(key)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))


class Convolution(nn.Module):
    """Pointwise, GLU, depthwise over time, pointwise.

    The norm is a LayerNorm: batch statistics would mix clips of different lengths, people and noise levels.
    """

    def __init__(self, dim: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.inner_norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.expand(self.norm(x)), -1)
        x = self.depthwise(x.mT).mT
        return self.dropout(self.project(F.silu(self.inner_norm(x))))


class ConformerBlock(nn.Module):
    """Half feed-forward, self-attention, optional cross-attention, convolution, half feed-forward, norm."""

    def __init__(
        self, dim: int, ffn: int, heads: int, kernel: int, dropout: float, rotary: bool = False, cross: bool = False
    ) -> None:
        super().__init__()
        self.feed_in, self.feed_out = FeedForward(dim, ffn, dropout), FeedForward(dim, ffn, dropout)
        self.attention = Attention(dim, heads, dropout, rotary)
        self.cross = Attention(dim, heads, dropout) if cross else None
        self.convolution = Convolution(dim, kernel, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`x (b, t, d)`, `context (b, r, d)` -> `(b, t, d)`."""
        x = x + 0.5 * self.feed_in(x)
        x = x + self.attention(x)
        if self.cross is not None:
            x = x + self.cross(x, context)
        x = x + self.convolution(x)
        return self.norm(x + 0.5 * self.feed_out(x))
