"""The denoiser: lower-face motion from noise, under speech, identity and the upper face (MyTalk, section 3.3).

b batch   t motion frames   r identity tokens   c generated channels   u upper-face channels
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..conformer import ConformerBlock, sinusoid
from .params import MotionParams


def mlp(inner: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inner, dim), nn.SiLU(), nn.Linear(dim, dim))


class DenoiserBlock(nn.Module):
    """A Conformer block with its own projections of the conditions: step and speech added, the person attended to."""

    def __init__(self, params: MotionParams) -> None:
        super().__init__()
        p, d = params, params.dim
        attends = p.condition in ("embedding", "cross")
        self.step, self.speech = nn.Linear(d, d), mlp(p.speech_dim, d)
        self.identity = mlp(p.identity_dim, d) if attends else None
        self.style = nn.Linear(d, d, bias=False) if p.style_heads else None
        if self.style is not None:  # weights trained without it stay what they are
            nn.init.zeros_(self.style.weight)
        self.block = ConformerBlock(d, p.ffn, p.heads, p.kernel, p.dropout, p.rotary, cross=attends)

    def forward(self, x: Tensor, step: Tensor, speech: Tensor, identity: Tensor, style: Tensor | None) -> Tensor:
        x = x + self.step(step)[:, None] + self.speech(speech)
        if self.style is not None and style is not None:
            x = x + self.style(style)
        return self.block(x, None if self.identity is None else self.identity(identity))


class MotionDenoiser(nn.Module):
    """Predicts the clean motion `x0` (equation 4) from the noisy one.

    The upper face enters as the prefix of each frame: one linear layer on the two side by side.
    """

    def __init__(self, params: MotionParams) -> None:
        super().__init__()
        self.params = params
        self.lower_in = nn.Linear(params.channels, params.dim)
        self.upper_in = nn.Linear(2 * params.upper, params.dim)
        key = {"concat": nn.Linear, "add": mlp}.get(params.condition)
        self.key_in = key(params.identity_dim, params.dim) if key else None
        self.step = mlp(params.dim, params.dim)
        self.blocks = nn.ModuleList(DenoiserBlock(params) for _ in range(params.layers))
        self.out = nn.Linear(params.dim, params.channels)
        if params.zero_init:
            nn.init.zeros_(self.out.weight)

    def forward(
        self, x: Tensor, upper: Tensor, step: Tensor, speech: Tensor, identity: Tensor, style: Tensor | None = None
    ) -> Tensor:
        """`x (b, t, c)`, `upper (b, t, u)`, `step (b,)`, `speech (b, t, d)`, `identity (b, r, d)` -> x0 `(b, t, c)`.

        `style (b, t, dim)` is what `StyleAttention` found in a reference of the person.
        """
        hidden = self.lower_in(x) + self.upper_in(upper)
        if self.key_in is not None:
            hidden = hidden + self.key_in(identity.mean(1, keepdim=True))
        if not self.params.rotary:
            hidden = hidden + sinusoid(torch.arange(x.shape[1], device=x.device), self.params.dim).to(x.dtype)
        time = self.step(sinusoid(step, self.params.dim).to(x.dtype))
        for block in self.blocks:
            hidden = block(hidden, time, speech, identity, style)
        return self.out(hidden)
