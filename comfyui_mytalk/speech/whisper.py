"""The speech encoder that ships: the first blocks of a Whisper encoder, called like one of the wav2vec family.

    b windows   n samples at 16 kHz   s features at 50 Hz   d width

Whisper (arXiv 2212.04356, section 2.2) has heard far more voices than any films of mouths could teach. Its middle
blocks say the most about the mouth (`benchmarks/probe_speech.py`), so later ones need not be loaded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor, nn

from ..errors import InputError

FAMILY = "whisper"  # `model_type` of its configuration
RATE, FFT, MEL_HOP = 16_000, 400, 160
LEAST_POWER, RANGE = 1e-10, 8.0  # of the log-mel: the least power, and decades below the loudest cell that are kept


class Encoded(NamedTuple):
    """Features `(b, s, d)`, under the name that they have in the wav2vec family."""

    last_hidden_state: Tensor


@dataclass(frozen=True)
class WhisperParams:
    """Sizes: width, blocks, attention heads, feed-forward width, mel bands, known positions at 50 Hz.

    last: speech ends at the last position, as Smart Turn was trained, instead of beginning at the first. scale: what
    features are divided by, so that they are of unit size.
    """

    hidden_size: int = 384
    layers: int = 3
    heads: int = 6
    ffn: int = 1536
    bands: int = 80
    positions: int = 1500
    last: bool = False
    scale: float = 1.0


class WhisperEncoder(nn.Module):
    """Speech `(b, 320 s + 80)`, loudness normalised, -> features `(b, s, d)`, feature i centred on sample 320 i + 200.

    Only what is heard is encoded: Whisper's padding to a fixed length would multiply the work for short windows.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, params: WhisperParams | None = None) -> None:
        super().__init__()
        p = self.config = params or WhisperParams()
        d = p.hidden_size
        filters = AF.melscale_fbanks(FFT // 2 + 1, 0.0, RATE / 2, p.bands, RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        self.conv1 = nn.Conv1d(p.bands, d, 3, padding=1)
        self.conv2 = nn.Conv1d(d, d, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(p.positions, d))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(d, p.heads, p.ffn, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(p.layers)
        )

    def forward(self, speech: Tensor) -> Encoded:
        """Raises InputError when the window is longer than the positions that the encoder knows."""
        x = F.gelu(self.conv1(self.log_mel(speech)))
        x = F.gelu(self.conv2(x)).mT
        count, known = x.shape[1], self.config.positions
        if count > known:
            raise InputError(f"got a window of {count} speech features, expected at most the encoder's {known}")
        x = x + (self.positions[known - count :] if self.config.last else self.positions[:count])
        for block in self.blocks:
            x = block(x)
        return Encoded(x / self.config.scale)

    def log_mel(self, speech: Tensor) -> Tensor:
        """`(b, 320 s + 80)` -> `(b, bands, 2 s)`, about -1 to 1; frame k is centred on sample 160 k + 200."""
        count = 2 * ((speech.shape[-1] - 80) // 320)
        frames = F.pad(speech, (0, MEL_HOP)).unfold(-1, FFT, MEL_HOP)[:, :count] * self.window
        power = torch.fft.rfft(frames).abs().square() @ self.filters
        mel = power.clamp(min=LEAST_POWER).log10()
        mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - RANGE)
        return (mel.mT + 4) / 4

    def describe(self) -> dict[str, Any]:
        """The configuration for a checkpoint."""
        return {"model_type": FAMILY} | asdict(self.config)


def build_whisper_encoder(config: dict[str, Any], state: dict[str, Tensor]) -> WhisperEncoder:
    """The encoder of a checkpoint of ours."""
    encoder = WhisperEncoder(WhisperParams(**{name: value for name, value in config.items() if name != "model_type"}))
    encoder.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return encoder.eval()


def is_whisper(state: dict[str, Tensor]) -> bool:
    """Whether the tensors are those of a Whisper model or encoder, under Hugging Face's names."""
    return any(name.endswith("embed_positions.weight") for name in state) and any("conv1.weight" in n for n in state)


def from_hugging_face(state: dict[str, Tensor], layers: int | None = None, **changes: Any) -> WhisperEncoder:
    """A Whisper encoder from Hugging Face's tensors, of a whole model or its encoder; the first `layers`, default all.

    Shapes give all sizes away: heads are 64 wide in all of Whisper. `changes` override parameters. Raises InputError
    when tensors are missing.
    """
    heard = {name.removeprefix("model."): tensor for name, tensor in state.items() if "decoder." not in name}
    state = {name.removeprefix("encoder."): tensor.float() for name, tensor in heard.items()}
    try:
        width, bands, _ = state["conv1.weight"].shape
        positions, ffn = state["embed_positions.weight"], len(state["layers.0.fc1.bias"])
        found = len({name.split(".")[1] for name in state if name.startswith("layers.")})
        params = WhisperParams(width, layers or found, width // 64, ffn, bands, len(positions), **changes)
        renamed = {f"{conv}.{part}": state[f"{conv}.{part}"] for conv in ("conv1", "conv2") for part in PARTS}
        for index in range(params.layers):
            renamed |= block_state(state, f"layers.{index}.", f"blocks.{index}.")
    except KeyError as error:
        raise InputError(f"the Whisper encoder lacks the tensor {error}; download it again") from error
    encoder = WhisperEncoder(params)
    encoder.load_state_dict(renamed | {"positions": positions})
    return encoder.eval()


PARTS = ("weight", "bias")
NAMES = {
    "self_attn.out_proj": "self_attn.out_proj",
    "fc1": "linear1",
    "fc2": "linear2",
    "self_attn_layer_norm": "norm1",
    "final_layer_norm": "norm2",
}


def block_state(state: dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """One block's tensors under PyTorch's names; queries, keys and values are one matrix there, keys have no bias."""
    query, key, value = (f"{theirs}self_attn.{which}_proj." for which in ("q", "k", "v"))
    bias = state[query + "bias"]
    result = {f"{ours}{new}.{part}": state[f"{theirs}{old}.{part}"] for old, new in NAMES.items() for part in PARTS}
    result[f"{ours}self_attn.in_proj_weight"] = torch.cat([state[p + "weight"] for p in (query, key, value)])
    result[f"{ours}self_attn.in_proj_bias"] = torch.cat([bias, torch.zeros_like(bias), state[value + "bias"]])
    return result
