"""A speech encoder of our own: log-mel and Conformer blocks, called like an encoder of the wav2vec family.

    b windows   n samples at 16 kHz   m mel frames at 100 Hz   s features at 50 Hz   d width

Convolutions over the waveform must learn a filter bank from the data first; with hours of speech instead of thousands
of hours, a fixed one leaves more of a short training for the phones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torchaudio.functional as AF
from torch import Tensor, nn

from ..conformer import ConformerBlock
from .whisper import Encoded

FAMILY = "mel-conformer"  # `model_type` of its configuration
RATE, WINDOW, MEL_HOP, FFT = 16_000, 400, 160, 512
FLOOR = 1e-4  # of mel power; speech has unit power


@dataclass(frozen=True)
class MelParams:
    """Sizes: mel bands, width, blocks, attention heads, depthwise kernel, feed-forward width."""

    bands: int = 80
    hidden_size: int = 256
    layers: int = 4
    heads: int = 4
    kernel: int = 15
    ffn: int = 512
    dropout: float = 0.1


class MelPower(nn.Module):
    """Mel power `(b, m, bands)` of speech `(b, n)`; frame k is centred on sample 160 k + 200, m = (n - 240) // 160."""

    filters: Tensor
    window: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        filters = AF.melscale_fbanks(FFT // 2 + 1, 60.0, 7600.0, bands, RATE, norm="slaney")
        self.register_buffer("filters", filters / filters.sum(0), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def forward(self, speech: Tensor) -> Tensor:
        frames = speech.unfold(-1, WINDOW, MEL_HOP) * self.window
        power = torch.fft.rfft(frames, FFT).abs().square() / self.window.square().sum()
        return power @ self.filters


class MelEncoder(nn.Module):
    """Speech `(b, 320 s + 80)`, loudness normalised, -> features `(b, s, d)`, feature i centred on sample 320 i + 200.

    The blocks run at 25 Hz, the rate of the motion, and give two features each: half the work, and s must be even.
    """

    def __init__(self, params: MelParams | None = None) -> None:
        super().__init__()
        p = self.config = params or MelParams()
        d = p.hidden_size
        self.power = MelPower(p.bands)
        widths = p.bands, d // 2, d, d
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, 5, stride, padding=2)
            for before, after, stride in zip(widths[:-1], widths[1:], (1, 2, 1), strict=True)
        )
        self.pair = nn.Linear(2 * d, d)
        self.blocks = nn.ModuleList(
            ConformerBlock(d, p.ffn, p.heads, p.kernel, p.dropout, rotary=True) for _ in range(p.layers)
        )
        self.unpair = nn.Linear(d, 2 * d)
        self.skip, self.norm = nn.Linear(d, d), nn.LayerNorm(d)

    def forward(self, speech: Tensor) -> Encoded:
        return Encoded(self.encode_mel((self.power(speech) + FLOOR).log()))

    def encode_mel(self, mel: Tensor) -> Tensor:
        """Log-mel `(b, 2 s - 1, bands)` -> features `(b, s, d)`."""
        x = (mel / 4 + 1).mT
        for convolution in self.convolutions:
            x = nn.functional.gelu(convolution(x))
        fine = x.mT
        x = self.pair(fine.unflatten(1, (-1, 2)).flatten(2))
        for block in self.blocks:
            x = block(x)
        return self.norm(self.unpair(x).unflatten(2, (2, -1)).flatten(1, 2) + self.skip(fine))

    def describe(self) -> dict[str, Any]:
        """The configuration for a checkpoint."""
        return {"model_type": FAMILY} | asdict(self.config)


def build_mel_encoder(config: dict[str, Any], state: dict[str, Tensor]) -> MelEncoder:
    """The encoder of a checkpoint written by the speech trainer."""
    sizes = {name: value for name, value in config.items() if name != "model_type"}
    encoder = MelEncoder(MelParams(**sizes))
    encoder.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return encoder.eval()
