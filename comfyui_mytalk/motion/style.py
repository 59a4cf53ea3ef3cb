"""Audio-aware style reference: how this person shapes the lips at sounds like these (arXiv 2408.05412).

    b batch   t motion frames   n reference frames (25 fps)   c generated channels   e width of encoded speech

Everybody has lip shapes of their own for the same sounds. A reference clip of the person shows them: what is heard in
it is compared with what is to be said, by cross-attention, and the lip motion seen at like sounds is mixed. As in the
paper, queries are the new speech, keys the reference's speech and values its lips; places play no part. The result
depends on neither noise nor step, so it is computed once for a clip, and enters every block of the denoiser.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .params import MotionParams

ENOUGH = 50.0  # reference frames that are half believed, at the start of training
SHARPNESS = 12.0  # of the attention at the start of training: a mean of many frames errs less than the likest alone


class StyleMemory(NamedTuple):
    """A reference: encoded speech `(b, n, e)`, lip motion `(b, n, c)`, and which frames count `(b, n)`."""

    heard: Tensor
    shown: Tensor
    known: Tensor


class StyleAttention(nn.Module):
    """Mixes the lip motion of like sounds. Speech is compared by its deviation from the reference's mean, by angle."""

    def __init__(self, params: MotionParams) -> None:
        super().__init__()
        self.heads = params.style_heads
        self.ask = nn.Linear(params.speech_dim, params.dim)  # the same for both: like sounds match
        self.show = nn.Linear(params.channels, params.dim)
        self.sharpness = nn.Parameter(torch.full((self.heads,), SHARPNESS).log())
        self.enough = nn.Parameter(torch.tensor(ENOUGH).log())

    def forward(self, speech: Tensor, memory: StyleMemory) -> Tensor:
        """Encoded speech `(b, t, e)` -> what the person's lips do at it `(b, t, dim)`: less of it the shorter the
        reference, 0 without one."""
        known = memory.known[..., None].to(speech)
        centre = (memory.heard * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp_min(1)
        query, key = (F.normalize(self._split(self.ask(x - centre)), dim=-1) for x in (speech, memory.heard))
        sharpness = self.sharpness.exp()[:, None, None]
        likeness = (query @ key.mT * sharpness).masked_fill(~memory.known[:, None, None], -1e4)
        mixed = (likeness.softmax(-1) @ self._split(self.show(memory.shown))).transpose(1, 2).flatten(2)
        count = known.sum(1, keepdim=True)
        return mixed * count / (count + self.enough.exp())

    def _split(self, x: Tensor) -> Tensor:
        """`(b, t, dim)` -> `(b, heads, t, dim / heads)`."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
