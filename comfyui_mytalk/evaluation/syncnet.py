"""A SyncNet checkpoint in its original format as judge, in place of ours: the figures papers call LSE-C and LSE-D.

    f frames of the clip   t frames at 25 fps   w windows   m MFCC frames (100 per second)   n samples at 16 kHz

Layers and names are those that the published `syncnet_v2.model` holds (Chung and Zisserman 2016), written anew. The
checkpoint is the user's own: nothing is shipped or downloaded. It is a torch file, read as tensors only
(`weights_only=True`: no code in it can run), or a safetensors file with the same names.

Two things differ from published pipelines, so expect figures near theirs, not equal: the face's place comes from our
pose, not from the S3FD detector, and what lies beyond our crop is its edge repeated.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct
from torch import Tensor, nn

from ..errors import InputError
from ..landmarks.align import CROP_CENTRE, CROP_HALF
from .foreign import read_state
from .sync_judge import check_clip
from .sync_score import SAMPLES, WINDOW, SyncScore, frames_at_25, score_embeddings, whole_windows

PICTURE = 224
FACE_TOP, FACE_BOTTOM = 7.5, -9.5  # canonical cm: about what a face detector's box spans, forehead to chin
ABOVE, BELOW, BESIDE = 1.0, 1.8, 1.4  # half boxes that the network's picture reaches from the box's centre
MFCC, PER_WINDOW = 13, 20  # cepstral coefficients, and MFCC frames of one window
FRAME, HOP, SPECTRUM, FILTERS, LIFTER = 400, 160, 512, 26, 22
BATCH = 32  # windows at once

# Output channels, kernel, stride, padding of each convolution; kernel, stride, padding of the pooling after it.
Row = tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[tuple[int, ...], ...] | None]
SPEECH_ROWS: tuple[Row, ...] = (
    (64, (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1), (0, 0))),
    (192, (3, 3), (1, 1), (1, 1), ((3, 3), (1, 2), (0, 0))),
    (384, (3, 3), (1, 1), (1, 1), None),
    (256, (3, 3), (1, 1), (1, 1), None),
    (256, (3, 3), (1, 1), (1, 1), ((3, 3), (2, 2), (0, 0))),
    (512, (5, 4), (1, 1), (0, 0), None),
)
PICTURE_ROWS: tuple[Row, ...] = (
    (96, (5, 7, 7), (1, 2, 2), (0, 0, 0), ((1, 3, 3), (1, 2, 2), (0, 0, 0))),
    (256, (1, 5, 5), (1, 2, 2), (0, 1, 1), ((1, 3, 3), (1, 2, 2), (0, 1, 1))),
    (256, (1, 3, 3), (1, 1, 1), (0, 1, 1), None),
    (256, (1, 3, 3), (1, 1, 1), (0, 1, 1), None),
    (256, (1, 3, 3), (1, 1, 1), (0, 1, 1), ((1, 3, 3), (1, 2, 2), (0, 0, 0))),
    (512, (1, 6, 6), (1, 1, 1), (0, 0, 0), None),
)


def tower(channels: int, rows: tuple[Row, ...], flat: bool) -> nn.Sequential:
    """Convolution, batch norm, ReLU and pooling by `rows`, in two dimensions (`flat`) or three."""
    conv, norm, pool = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d) if flat else (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d)
    layers: list[nn.Module] = []
    for width, kernel, stride, padding, pooling in rows:
        layers += [conv(channels, width, kernel, stride, padding), norm(width), nn.ReLU()]
        if pooling is not None:
            layers.append(pool(*pooling))
        channels = width
    return nn.Sequential(*layers)


def projection(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, width))


class SyncNet(nn.Module):
    """The original network; scores like `sync_judge.SyncJudge`."""

    def __init__(self, width: int = 1024) -> None:
        super().__init__()
        self.name = ""
        self.netcnnaud, self.netfcaud = tower(1, SPEECH_ROWS, flat=True), projection(width)
        self.netcnnlip, self.netfclip = tower(3, PICTURE_ROWS, flat=False), projection(width)

    def see(self, pictures: Tensor) -> Tensor:
        """BGR pictures `(t, 3, 224, 224)` 0..255 -> `(t - 4, width)`; the first layer alone spans time."""
        features = self.netcnnlip(pictures.transpose(0, 1)[None])
        return self.netfclip(features[0, :, :, 0, 0].T)

    def hear(self, mfcc: Tensor) -> Tensor:
        """MFCC `(m, 13)` -> `(w, width)`, a window of 20 every 4."""
        windows = mfcc.unfold(0, PER_WINDOW, SAMPLES // HOP)
        return self.netfcaud(self.netcnnaud(windows[:, None]).flatten(1))

    @torch.inference_mode()
    def score(self, crops: Tensor, times: Tensor, speech: Tensor, usable: Tensor | None = None) -> SyncScore:
        """As `SyncJudge.score`: aligned crops `(f, 3, s, s)` at `times (f,)`, and `speech (n,)` at 16 kHz."""
        check_clip(crops, times, speech)
        index = frames_at_25(times)
        # One window less than fits, as the original counts.
        count = min(len(index), len(speech) // SAMPLES) - WINDOW
        if count < 1:
            return score_embeddings(torch.zeros(0, 1), torch.zeros(0, 1))
        device = next(self.parameters()).device
        seen = []
        for part in torch.arange(count).split(BATCH):
            frames = index[part[0] : part[-1] + WINDOW]
            seen.append(self.see(whole_face(crops[frames].to(device))))
        heard = self.hear(mfcc(speech[: (count + WINDOW) * SAMPLES]).to(device))[:count]
        windows = None if usable is None else whole_windows(usable[index])[:count]
        return score_embeddings(torch.cat(seen), heard, windows, padded=True)


def whole_face(crops: Tensor) -> Tensor:
    """Aligned crops `(t, 3, s, s)` RGB -> BGR `(t, 3, 224, 224)` 0..255, framed as around a detector's box."""
    half = (FACE_TOP - FACE_BOTTOM) / 2
    centre = (FACE_TOP + FACE_BOTTOM) / 2
    scale = PICTURE / (half * (ABOVE + BELOW))  # pixels per cm
    size = round(2 * CROP_HALF * scale)
    top = round((centre + ABOVE * half - (CROP_CENTRE[1] + CROP_HALF)) * scale)
    left = round((BESIDE * half - CROP_HALF) * scale)
    values = crops.float() if crops.dtype == torch.uint8 else crops.float() * 255
    values = F.interpolate(values.flip(1), (size, size), mode="bilinear", align_corners=False, antialias=True)
    return F.pad(values, (left, PICTURE - left - size, top, PICTURE - top - size), mode="replicate")


def mfcc(speech: Tensor) -> Tensor:
    """Mel frequency cepstral coefficients `(m, 13)` of `speech (n,)` at 16 kHz, as SyncNet was trained on.

    Frames of 25 ms every 10 ms without a window function, pre-emphasis 0.97, 26 filters up to 8 kHz, sine lifter of 22;
    the first coefficient is the logarithm of the energy. Values are those of 16-bit samples.
    """
    samples = (speech.double().cpu().numpy() * 32768).round().clip(-32768, 32767)
    samples = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    count = 1 + max(0, math.ceil((len(samples) - FRAME) / HOP))
    samples = np.pad(samples, (0, (count - 1) * HOP + FRAME - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames, SPECTRUM)) ** 2 / SPECTRUM
    least = np.finfo(float).eps
    bands = np.log(np.maximum(power @ mel_filters().T, least))
    cepstrum = dct(bands, type=2, norm="ortho")[:, :MFCC] * (1 + LIFTER / 2 * np.sin(np.pi * np.arange(MFCC) / LIFTER))
    cepstrum[:, 0] = np.log(np.maximum(power.sum(1), least))
    return torch.from_numpy(cepstrum).float()


@lru_cache
def mel_filters() -> np.ndarray:
    """Triangles `(26, 257)` between whole bins that are even on the mel scale."""
    top = 2595 * np.log10(1 + 8000 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, FILTERS + 2) / 2595) - 1)
    edges = np.floor((SPECTRUM + 1) * hertz / 16_000)
    bins = np.arange(SPECTRUM // 2 + 1)
    rows = zip(edges[:-2], edges[1:-1], edges[2:], strict=True)
    return np.stack([np.interp(bins, row, [0, 1, 0], 0, 0) for row in rows])


def load_syncnet(path: str | Path, device: str | torch.device = "cpu") -> SyncNet:
    """Read a checkpoint of the original format; raises InputError when it is none, or holds more than tensors."""
    state = read_state(path, "SyncNet checkpoint")
    try:
        net = SyncNet(state["netfclip.3.weight"].shape[0])
        # Files older than torch 0.4.1 do not count batches, and scoring does not need it.
        counts = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
        net.load_state_dict(counts | state)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no SyncNet checkpoint in the original format: {reason}") from error
    net.name = Path(path).stem
    return net.to(device).eval()
