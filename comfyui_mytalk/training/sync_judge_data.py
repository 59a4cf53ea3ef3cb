"""What the judge's trainer draws from: grey mouth pictures at 25 fps, all in memory, and the speech beside them.

b sequences   t frames at 25 fps   s picture side   n speech samples at 16 kHz
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ..evaluation.sync_judge import CACHED, MARGIN, MELS, PER_FRAME, PICTURE, mouth_pictures
from ..evaluation.sync_score import FPS, SAMPLES, SPEECH_RATE, frames_at_25
from ..output import write_aside
from ..speech.mel import MelPower
from .augment_speech import augment, stretch
from .clips import PreparedClip, content_key, say_left_out, spoken_clips

STRENGTH = 0.4  # of `augment`: a few epochs do not learn from the hardest recordings


@dataclass(frozen=True)
class SyncClip:
    """Mouth pictures `(t, 72, 72)` uint8 at 25 fps, which of them show a face, and speech `(t * 640,)` int16."""

    name: str
    identity: str
    corpus: str
    mouths: Tensor
    usable: Tensor
    speech: np.ndarray

    def __len__(self) -> int:
        return len(self.mouths)

    @property
    def sound(self) -> Tensor:
        """Speech `(t * 640,)` float -1..1."""
        return torch.from_numpy(self.speech.astype(np.float32) / 32768)


def known_bad(clip: PreparedClip) -> bool:
    """Whether the index says that picture and sound of the clip do not fit."""
    return float(clip.metadata.get("av_offset_ms") or 0) != 0


def mouths_of(clip: PreparedClip, cache: Path | None) -> tuple[Tensor, Tensor]:
    """Mouth pictures `(t, 72, 72)` uint8 and usable frames `(t,)` at 25 fps, kept in the folder `cache`."""
    key = content_key(clip.times, clip.found, clip.transform, clip.offsets)  # offsets: as good as the pictures
    file = cache / f"{key}.safetensors" if cache else None
    if file is not None and file.is_file():
        stored = load_file(file)
        return stored["mouths"], stored["usable"]
    index = frames_at_25(clip.times)
    kept, place = index.unique(return_inverse=True)
    mouths = torch.cat([mouth_pictures(clip.crops(part.tolist())) for part in kept.split(32)])[place]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with write_aside(file) as part:
            save_file({"mouths": mouths, "usable": clip.found[index]}, part)
    return mouths, clip.found[index]


def load_clip(clip: PreparedClip, late: float = 0.0, cache: Path | None = None) -> SyncClip:
    """Read one clip; its speech is `late` seconds late (its picture, where that is negative), and moved back."""
    first = max(math.ceil(-late * FPS - 1e-6), 0)  # picture with sound
    mouths, usable = (tensor[first:] for tensor in mouths_of(clip, cache))
    speech = (clip.speech * 32768).short().numpy()[first * SAMPLES + round(late * SPEECH_RATE) :]
    count = min(len(mouths), len(speech) // SAMPLES)
    cut = mouths[:count].clone(), usable[:count], speech[: count * SAMPLES].copy()
    return SyncClip(clip.path.stem, clip.identity, clip.corpus, *cut)


def load_clips(
    clips: list[PreparedClip], offsets: dict[str, float] | None = None, cache: Path | None = None
) -> list[SyncClip]:
    """Clips with sound and a face in most frames; those known to be out of sync are left out, unless `offsets`, the
    seconds by which speech is late by clip name, mends them. Says how many are left out."""
    offsets = offsets or {}
    spoken = spoken_clips(clips)
    chosen = [clip for clip in spoken if clip.path.stem in offsets or not known_bad(clip)]
    say_left_out(len(clips), {"out of sync by their av_offset_ms, and without an offset": len(spoken) - len(chosen)})
    bar = tqdm(chosen, desc="mouths", mininterval=5)
    return [load_clip(clip, offsets.get(clip.path.stem, 0.0), cache) for clip in bar]


@dataclass(frozen=True)
class Stretches:
    """Sequences: pictures `(b, t, 64, 64)` 0..1 and mel power `(b, 4 t, 40)` of their speech."""

    pictures: Tensor
    power: Tensor


class StretchSampler:
    """Draws sequences of `length` frames from clips that have so many with a face, people alike up to a square root."""

    def __init__(self, clips: list[SyncClip], length: int) -> None:
        self.length, self.mel = length, MelPower(MELS)
        self.starts = [whole_stretches(clip.usable, length) for clip in clips]
        self.clips = [clip for clip, starts in zip(clips, self.starts, strict=True) if len(starts)]
        self.starts = [starts for starts in self.starts if len(starts)]
        frames = {clip.identity: 0 for clip in self.clips}
        for clip in self.clips:
            frames[clip.identity] += len(clip)
        weight = np.array([len(clip) / frames[clip.identity] ** 0.5 for clip in self.clips])
        self.weight = weight / weight.sum()

    def draw(self, count: int, rng: np.random.Generator) -> Stretches:
        """`count` sequences of different clips where there are so many."""
        several = np.count_nonzero(self.weight) < count
        picks = rng.choice(len(self.clips), count, several, self.weight)
        rows = [self._one(int(pick), rng) for pick in picks]
        mouths, sounds = zip(*rows, strict=True)
        pictures = change_pictures(torch.stack(mouths).float() / 255, rng)
        voices = [sounds[(i + 1) % count] for i in range(count)]
        power = [augment(a, b, rng, STRENGTH) for a, b in zip(sounds, voices, strict=True)]
        return Stretches(pictures, torch.from_numpy(np.stack(power)))

    def _one(self, pick: int, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
        """One sequence, half of the time a little faster or slower."""
        clip, starts = self.clips[pick], self.starts[pick]
        start, room = int(rng.choice(starts)), len(clip)
        speed = float(rng.uniform(0.9, 1.1)) if rng.random() < 0.5 else 1.0
        if start + speed * self.length > room:
            speed = (room - start) / self.length
        index = (start + (np.arange(self.length) + 0.5) * speed).astype(int)
        if not clip.usable[index].all():
            index, speed = np.arange(start, start + self.length), 1.0
        first = start * SAMPLES
        power = self._hear(clip.speech[first : first + round(self.length * SAMPLES * speed)])
        positions = (np.arange(PER_FRAME * self.length) + 0.5) * speed - 0.5
        return clip.mouths[index], stretch(power, positions)

    def _hear(self, speech: np.ndarray) -> np.ndarray:
        """Mel power `(m, 40)` of 16-bit speech `(n,)`, brought to unit power."""
        sound = torch.from_numpy(speech.astype(np.float32) / 32768)
        sound = sound / sound.square().mean().sqrt().clamp_min(1e-3)
        return self.mel(F.pad(sound, (MARGIN, MARGIN))).numpy()


def whole_stretches(usable: Tensor, length: int) -> np.ndarray:
    """Where `length` usable frames in a row begin."""
    if len(usable) < length:
        return np.zeros(0, int)
    return usable.unfold(0, length, 1).all(1).nonzero()[:, 0].numpy()


def change_pictures(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Mouth pictures `(b, t, 72, 72)` -> `(b, t, 64, 64)`; each sequence seen, lit and recorded in a way of its own."""
    count = len(pictures)
    angle, grow = rng.normal(0, 0.08, count), np.exp(rng.normal(0, 0.06, count)) * PICTURE / CACHED
    shift = rng.normal(0, 0.05, (count, 2)).clip(-0.12, 0.12)
    flip = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    c, s = grow * np.cos(angle), grow * np.sin(angle)
    rows = np.stack([np.stack([flip * c, -s, shift[:, 0]], 1), np.stack([flip * s, c, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(torch.from_numpy(rows).float(), (count, 1, PICTURE, PICTURE), align_corners=False)
    seen = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def draw(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).float()[:, None, None, None]

    seen = seen.clamp(1e-3, 1) ** draw(np.exp(rng.normal(0, 0.3, count)))
    soft = F.avg_pool2d(F.pad(seen, (1, 1, 1, 1), mode="replicate"), 3, 1)
    seen = torch.lerp(soft, seen, draw(rng.choice([0.0, 1.0, 1.0, 1.5], count)))
    noise = torch.from_numpy(rng.standard_normal(seen.shape, dtype=np.float32))
    return seen + noise * draw(rng.choice([0.0, 0.01, 0.02], count))
