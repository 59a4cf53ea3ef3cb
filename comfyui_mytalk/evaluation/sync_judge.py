"""The sync judge: a small SyncNet of our own that hears 0.2 s of speech and sees the five mouth pictures beside it.

    f frames of the clip   t frames at 25 fps   w windows (t - 4)   n speech samples at 16 kHz   d embedding width

After Chung and Zisserman 2016 ("Out of time: automated lip sync in the wild"): two convolutional towers whose vectors
are close when picture and sound belong together. It reads pixels. All it takes from the landmarks is the place of the
crop, which follows the upper face alone (`landmarks/align.py`), so it knows nothing of where our mesh sees the mouth.

A judge must not have trained the accused: it learned from the train split alone (`training/sync_judge.py`), and no
generator may ever use it, or anything made from it, as a loss, for guidance or to choose among results.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints import build_network, find_weights, load_checkpoint, params_from
from ..errors import InputError
from ..speech.features import normalise_loudness
from ..speech.mel import FLOOR, MEL_HOP, MelPower
from ..speech.mel import WINDOW as WINDOW_SAMPLES
from .sync_score import (
    SAMPLES,
    WINDOW,
    SyncScore,
    frames_at_25,
    score_embeddings,
    whole_windows,
)

__all__ = ["PRESETS", "JudgeParams", "SyncJudge", "SyncScore", "load_sync_judge", "mouth_pictures"]

# Share of the aligned crop (top, bottom, left, right): nose base to below the open jaw, twice as wide as the lips.
MOUTH = (0.34375, 0.90625, 0.21875, 0.78125)
CACHED = 72  # pixels of a mouth picture: the network sees the middle, training also what is around
PICTURE = 64
FOLD = 4
MELS = 40
PER_FRAME = SAMPLES // MEL_HOP
MARGIN = (WINDOW_SAMPLES - MEL_HOP) // 2  # of silence around speech: centres each column on its own 10 ms
BATCH = 64  # windows that go through the picture tower at once
GREY = (0.299, 0.587, 0.114)  # Rec. 601


@dataclass(frozen=True)
class JudgeParams:
    """Channels of the levels of the two towers, and widths of the hidden layer and of the output."""

    picture: tuple[int, ...] = (48, 96, 192)
    speech: tuple[int, ...] = (64, 128, 192, 256)
    hidden: int = 256
    dim: int = 128
    dropout: float = 0.2


PRESETS = {"small": JudgeParams(), "tiny": JudgeParams((16, 16, 32), (16, 16, 32, 32), 32, 16, 0.0)}


def mouth_pictures(crops: Tensor) -> Tensor:
    """Aligned crops `(f, 3, s, s)`, uint8 or float 0..1 -> grey mouth pictures `(f, 72, 72)` uint8."""
    size = crops.shape[-1]
    top, bottom, left, right = (round(edge * size) for edge in MOUTH)
    mouths = crops[..., top:bottom, left:right]
    mouths = mouths.float() if crops.dtype == torch.uint8 else mouths.float() * 255
    grey = (mouths * mouths.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)
    grey = F.interpolate(grey, (CACHED, CACHED), mode="bilinear", align_corners=False, antialias=True)
    return grey[:, 0].round().clamp(0, 255).byte()


def convolution(
    before: int, after: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class Unit(nn.Module):
    """A convolution that halves the picture, then a residual one."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.down = convolution(before, after, (3, 3), (2, 2), (1, 1))
        self.more = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return F.relu(x + self.more(x))


def head(width: int, p: JudgeParams) -> nn.Sequential:
    """Features `(w, width)` -> `(w, d)`."""
    return nn.Sequential(
        nn.Dropout(p.dropout),
        nn.Linear(width, p.hidden),
        nn.BatchNorm1d(p.hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(p.dropout),
        nn.Linear(p.hidden, p.dim),
    )


class SyncJudge(nn.Module):
    """Both towers, and what turns a clip into their input.

    Pixels go to channels at once (`FOLD`): layers at full resolution cost most on a CPU and learn least here. The
    speech tower has no padding in time and sees exactly 20 spectrogram columns, every 4: windows share its work.
    """

    def __init__(self, params: JudgeParams) -> None:
        super().__init__()
        self.params, self.name, self.sha256 = params, "", ""
        a, b, c = params.picture
        side = PICTURE // FOLD
        self.picture_tower = nn.Sequential(
            convolution(WINDOW * FOLD**2, a, (3, 3), (1, 1), (1, 1)), Unit(a, b), Unit(b, c), nn.Flatten()
        )
        self.picture_head = head(c * (side // 4) ** 2, params)
        a, b, c, d = params.speech
        self.speech_tower = nn.Sequential(
            convolution(1, a, (5, 4), (2, 2), (2, 0)),
            convolution(a, b, (3, 3), (2, 2), (1, 0)),
            convolution(b, c, (3, 3), (1, 1), (1, 0)),
            convolution(c, d, (3, 2), (2, 1), (1, 0)),
        )
        self.speech_head = head(d * MELS // 8, params)
        self.power = MelPower(MELS)

    def log_mel(self, speech: Tensor) -> Tensor:
        """Speech of about unit power `(b, n)` -> `(b, 40, n // 160)`; column `i` is centred on `(i + 0.5) * 10 ms`."""
        return self.compress(self.power(F.pad(speech, (MARGIN, MARGIN))))

    @staticmethod
    def compress(power: Tensor) -> Tensor:
        """Mel power `(b, m, 40)` -> what the speech tower takes, `(b, 40, m)`."""
        return ((power + FLOOR).log() / 4 + 1).mT

    def see(self, pictures: Tensor, stride: int = 1) -> Tensor:
        """Mouth pictures `(b, t, 64, 64)` 0..1 -> unit vectors `(b, w, d)` of every `stride`-th window of five."""
        mean, deviation = pictures.mean((2, 3), keepdim=True), pictures.std((2, 3), keepdim=True)
        folded = F.pixel_unshuffle(((pictures - mean) / (deviation + 0.05)).flatten(0, 1)[:, None], FOLD)
        windows = folded.unflatten(0, pictures.shape[:2]).unfold(1, WINDOW, stride).permute(0, 1, 5, 2, 3, 4)
        flat = windows.flatten(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        vectors = self.picture_head(self.picture_tower(flat))
        return F.normalize(vectors.float(), dim=-1).unflatten(0, windows.shape[:2])

    def hear(self, log_mel: Tensor) -> Tensor:
        """Spectrogram `(b, 40, 4 t)` -> unit vectors `(b, t - 4, d)`."""
        features = self.speech_tower(log_mel[:, None].contiguous(memory_format=torch.channels_last))
        features = features.permute(0, 3, 1, 2).flatten(2)
        vectors = self.speech_head(features.flatten(0, 1))
        return F.normalize(vectors.float(), dim=-1).unflatten(0, features.shape[:2])

    @torch.inference_mode()
    def embed(self, mouths: Tensor, speech: Tensor) -> tuple[Tensor, Tensor]:
        """Mouth pictures `(t, 72, 72)` uint8 at 25 fps and speech `(n,)` -> unit vectors `(w, d)` of both."""
        self.eval()
        count = min(len(mouths), len(speech) // SAMPLES)
        if count < WINDOW:
            return torch.zeros(2, 0, self.params.dim).unbind(0)
        edge = (CACHED - PICTURE) // 2
        pictures = mouths[:count, edge:-edge, edge:-edge].to(self.power.window.device).float() / 255
        starts = range(0, count - WINDOW + 1, BATCH)
        seen = [self.see(pictures[None, start : start + BATCH + WINDOW - 1])[0] for start in starts]
        sound = normalise_loudness(speech[: count * SAMPLES].float()).to(self.power.window.device)
        heard = self.hear(self.log_mel(sound[None]))[0]
        return torch.cat(seen), heard

    def score(self, crops: Tensor, times: Tensor, speech: Tensor, usable: Tensor | None = None) -> SyncScore:
        """How well the mouth in `crops (f, 3, s, s)` (aligned; uint8 or float 0..1) fits `speech (n,)` at 16 kHz.

        The crops are shown at `times (f,)`, seconds; the speech begins with the first. Frames that are not `usable
        (f,)` do not count. A clip under about 1.1 seconds scores nan. Raises InputError when the shapes are not those.
        """
        check_clip(crops, times, speech)
        index = frames_at_25(times)
        mouths = torch.cat([mouth_pictures(part) for part in crops.split(BATCH)]) if len(crops) else crops[:, 0]
        seen, heard = self.embed(mouths[index], speech)
        windows = None if usable is None or not len(seen) else whole_windows(usable[index])[: len(seen)]
        return score_embeddings(seen, heard, windows)


def check_clip(crops: Tensor, times: Tensor, speech: Tensor) -> None:
    """Raise InputError when `crops` are no pictures `(f, 3, s, s)` at `times (f,)`, or `speech` is not one channel."""
    if crops.ndim != 4 or crops.shape[1] != 3 or crops.shape[2] != crops.shape[3]:
        raise InputError(f"got crops of shape {tuple(crops.shape)}, expected aligned crops (f, 3, 256, 256)")
    if speech.ndim != 1:
        raise InputError(f"got speech of shape {tuple(speech.shape)}, expected one channel (n,) at 16 kHz")
    if len(times) != len(crops):
        raise InputError(f"got {len(crops)} crops and times of {len(times)}, expected as many of both")


def judge_config(params: JudgeParams) -> dict[str, object]:
    """What a checkpoint has to say for `load_sync_judge` to build the network again."""
    return asdict(params)


def load_sync_judge(name_or_path: str | Path = "sync_judge_small", device: str | torch.device = "cpu") -> SyncJudge:
    """The judge by the name of its weights or their path; raises InputError when there are none, or they do not fit."""
    path = find_weights(name_or_path, "sync_judge")
    checkpoint = load_checkpoint(path, "sync_judge")
    judge = build_network(checkpoint, lambda config: SyncJudge(params_from(JudgeParams, config)))
    judge.name, judge.sha256 = path.stem, checkpoint.sha256
    return judge.to(device).eval()
