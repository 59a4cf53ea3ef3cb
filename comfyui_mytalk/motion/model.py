"""The motion model: speech encoder, denoiser, and the coordinates that they work in.

b batch   s speech frames (50 Hz)   t motion frames (25 fps)   r identity tokens   c generated channels
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints import build_network, find_weights, load_checkpoint
from ..conformer import ConformerBlock, sinusoid
from ..errors import InputError
from .denoiser import MotionDenoiser
from .params import MotionParams
from .style import StyleAttention


@dataclass(frozen=True)
class Needs:
    """The other networks that a motion model was trained with, by file hash; an empty hash accepts any."""

    speech: str = ""
    speech_sha256: str = ""
    identity: str = ""
    identity_sha256: str = ""


class SpeechEncoder(nn.Module):
    """Speech features at 50 Hz -> conditions at 25 fps: linear, four Conformer blocks, one strided convolution."""

    def __init__(self, params: MotionParams) -> None:
        super().__init__()
        p, d = params, params.speech_dim
        self.rotary = p.rotary
        self.project = nn.Linear(p.speech_in, d)
        self.blocks = nn.ModuleList(
            ConformerBlock(d, p.speech_ffn, p.speech_heads, p.speech_kernel, p.dropout, p.rotary)
            for _ in range(p.speech_layers)
        )
        self.downsample = nn.Conv1d(d, d, 3, stride=2, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """`(b, s, speech_in)` -> `(b, s / 2, speech_dim)`."""
        x = self.project(features)
        if not self.rotary:
            x = x + sinusoid(torch.arange(x.shape[1], device=x.device), x.shape[2]).to(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.downsample(x.mT).mT


class MotionModel(nn.Module):
    """Everything that generation needs besides speech features and identity tokens.

    `encode` and `decode` map canonical centimetres to the channels in which noise is added and back.
    """

    lower_mean: Tensor
    to_channels: Tensor
    from_channels: Tensor
    upper_mean: Tensor
    upper_map: Tensor

    def __init__(self, params: MotionParams, needs: Needs | None = None) -> None:
        super().__init__()
        self.params, self.needs = params, needs or Needs()
        self.speech_encoder = SpeechEncoder(params)
        self.denoiser = MotionDenoiser(params)
        self.style = StyleAttention(params) if params.style_heads else None
        lower = 2 * params.lower
        self.register_buffer("lower_mean", torch.zeros(lower))
        self.register_buffer("to_channels", torch.eye(lower)[:, : params.channels].contiguous())
        self.register_buffer("from_channels", torch.eye(lower)[: params.channels].contiguous())
        upper = 2 * params.upper
        self.register_buffer("upper_mean", torch.zeros(upper))
        self.register_buffer("upper_map", torch.eye(upper))

    def encode(self, lower: Tensor, reference: Tensor) -> Tensor:
        """Lower faces `(b, t, 180, 2)`, centimetres, of people resting at `reference (b, 180, 2)` -> `(b, t, c)`."""
        origin = reference[:, None] if self.params.relative else 0
        return ((lower - origin).flatten(2) - self.lower_mean) @ self.to_channels

    def decode(self, x: Tensor, reference: Tensor) -> Tensor:
        """Inverse of `encode` (up to what the components leave out): `(b, t, c)` -> `(b, t, 180, 2)`."""
        lower = (x @ self.from_channels + self.lower_mean).unflatten(2, (-1, 2))
        return lower + reference[:, None] if self.params.relative else lower

    def encode_upper(self, upper: Tensor, mean: Tensor | None = None) -> Tensor:
        """Upper faces of one whole clip `(b, t, 103, 2)`, cm -> `(b, t, 206)`.

        If `relative`, they are taken about their `mean (b, 103, 2)`, by default that of these very frames.
        """
        mean = upper.mean(1) if mean is None else mean
        origin = mean[:, None] if self.params.relative else 0
        return ((upper - origin).flatten(2) - self.upper_mean) @ self.upper_map

    def config(self) -> dict[str, Any]:
        """What `load_motion` needs to rebuild the model."""
        return {"params": asdict(self.params), "needs": asdict(self.needs)}


def load_motion(name: str = "motion_small", device: str | torch.device = "cpu") -> MotionModel:
    """A trained motion model, by name or path; raises InputError when the file is missing or does not fit."""
    checkpoint = load_checkpoint(find_weights(name, "motion"), "motion")
    model = build_network(checkpoint, lambda c: MotionModel(MotionParams(**c["params"]), Needs(**c["needs"])))
    return model.eval().to(device)


def check_needs(model: MotionModel, speech: Any, identity: Any) -> None:
    """Raise InputError unless `speech` and `identity` are the networks that `model` was trained with.

    `speech` has `name`, `dim` and `sha256`; `identity` is an IdentityExtractor.
    """
    needs = model.needs
    if speech.dim != model.params.speech_in or needs.speech_sha256 not in ("", speech.sha256):
        raise InputError(
            f"the motion weights need speech features of {needs.speech or 'another encoder'}, "
            f"{model.params.speech_in} wide, got {speech.name}, {speech.dim} wide; "
            "choose that speech encoder or train motion weights on this one"
        )
    if identity.params.dim != model.params.identity_dim or needs.identity_sha256 not in ("", identity.sha256):
        raise InputError(
            f"the motion weights need the identity extractor {needs.identity or 'they were trained with'}, "
            "got another one; choose the matching identity weights or train motion weights with these"
        )
