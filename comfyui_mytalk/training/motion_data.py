"""What the motion trainer draws from: clips at 25 fps, pose-free, with speech features computed once.

t motion frames   s speech frames (2 t)   b batch   r resting frames   d feature width
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torchaudio.functional as AF
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ..errors import InputError
from ..landmarks.sets import landmark_set, mirror_canonical
from ..motion.generate import resample
from ..motion.identity import resting_frames
from ..motion.params import FPS
from ..output import write_aside
from .clips import MIN_FOUND, PreparedClip, content_key, say_left_out, spoken_clips

logger = logging.getLogger(__name__)
RATE = 16_000
SPEECH_FPS = 50
Encode = Callable[[Tensor], Tensor]  # speech (n,) at 16 kHz -> features (s, d)


@dataclass(frozen=True)
class Version:
    """One way to hear a clip: `speed` changes tempo and pitch together, `noise` adds hiss and a gain."""

    speed: float = 1.0
    noise: bool = False

    @property
    def name(self) -> str:
        return f"{self.speed:g}{'n' if self.noise else ''}"


CLEAN = Version()
VERSIONS = (CLEAN, Version(speed=0.9), Version(noise=True), Version(speed=1.12))


@dataclass(frozen=True)
class Take:
    """One version of one clip: landmarks `(t, 478, 2)` in canonical cm, features `(2 t, d)`, resting frames `(r,)`."""

    name: str
    identity: str
    corpus: str
    landmarks: Tensor
    features: Tensor
    rest: Tensor

    def __len__(self) -> int:
        return len(self.landmarks)


def speech_of(clip: PreparedClip, version: Version, frames: int) -> Tensor:
    """The clip's speech `(frames * 640,)`, changed as `version` says."""
    speech = clip.speech
    if version.speed != 1:
        speech = AF.resample(speech, round(RATE * version.speed), RATE)
    if version.noise:
        seed = int.from_bytes(hashlib.sha256(clip.path.name.encode()).digest()[:4], "big")
        draw = torch.Generator().manual_seed(seed)
        level = speech.std() * 10 ** (-(8 + 14 * torch.rand(1, generator=draw)) / 20)
        gain = 10 ** ((torch.rand(1, generator=draw) * 20 - 14) / 20)
        speech = gain * (speech + level * torch.randn(len(speech), generator=draw))
    wanted = frames * RATE // FPS
    return torch.nn.functional.pad(speech, (0, max(0, wanted - len(speech))))[:wanted]


def cached_features(path: Path, encode: Encode, speech: Callable[[], Tensor]) -> Tensor:
    """Features of what `speech` gives in half precision, from the file `path` when it exists."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        features = encode(speech()).half().contiguous()
        with write_aside(path) as part:
            save_file({"features": features}, part)
    return load_file(path)["features"]


def load_takes(
    clips: list[PreparedClip],
    encode: Encode,
    cache: Path,
    versions: tuple[Version, ...] = (CLEAN,),
    offsets: dict[str, float] | None = None,
    shortest: int = 25,
) -> list[Take]:
    """Every version of every clip with sound, a face in most of its frames and at least `shortest` motion frames.

    `offsets` gives, by clip name, the seconds by which speech comes late; it overrides the clip's own `av_offset_ms`.
    Says how many clips are left out, and raises InputError when all are.
    """
    takes, short = [], 0
    for clip in tqdm(spoken_clips(clips), desc="features", mininterval=5):
        if _frames_of(clip, CLEAN) < shortest:
            short += 1
            continue
        late = (offsets or {}).get(clip.path.stem, -float(clip.metadata.get("av_offset_ms") or 0) / 1000)
        heard = [version for version in versions if _frames_of(clip, version) >= shortest]
        takes += [_take_of(clip, version, encode, cache, late) for version in heard]
        clip.forget()
    say_left_out(len(clips), {f"shorter than {shortest / FPS:g} s": short})
    if not takes:
        raise InputError(
            f"none of the {len(clips)} clips can be used: each needs sound, a face in at least {MIN_FOUND:.0%} of its "
            f"frames and {shortest / FPS:g} s; prepare other videos (thinned clips have no sound)"
        )
    logger.info("%d takes of %d clips, %.1f minutes", len(takes), len(clips), sum(map(len, takes)) / FPS / 60)
    return takes


def _frames_of(clip: PreparedClip, version: Version) -> int:
    """Motion frames of one version of a clip."""
    return int((clip.times[-1] - clip.times[0]).item() * FPS / version.speed + 1e-6) + 1


def _take_of(clip: PreparedClip, version: Version, encode: Encode, cache: Path, late: float) -> Take:
    """One version of a clip whose speech is `late` seconds late."""
    frames, times = _frames_of(clip, version), clip.times - clip.times[0]
    grid = torch.arange(frames, dtype=torch.float64) * version.speed / FPS
    landmarks = resample(clip.canonical[clip.found][..., :2], times[clip.found], grid)
    key = content_key(clip.speech, version.name, frames, clip.path.name if version.noise else "")
    features = cached_features(cache / f"{key}.safetensors", encode, lambda: speech_of(clip, version, frames))
    heard = torch.arange(2 * frames) + round(late * SPEECH_FPS / version.speed)
    features = features[heard.clamp(0, 2 * frames - 1)]
    rest = resting_frames(landmarks, torch.ones(frames, dtype=torch.bool))
    return Take(clip.path.stem, clip.identity, clip.corpus, landmarks, features, rest)


@dataclass(frozen=True)
class Batch:
    """Crops of equal length: landmarks `(b, t, 478, 2)`, mean upper face of each take, features, resting landmarks."""

    landmarks: Tensor
    upper_mean: Tensor  # (b, 103, 2)
    features: Tensor  # (b, 2 t, d)
    rest: Tensor  # (b, r, 478, 2)

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, f.name).to(device) for f in fields(self)))


class Sampler:
    """Draws batches of crops of one length; lengths are such that no crop needs padding (Table 9 pads to 250)."""

    def __init__(self, takes: list[Take], tokens: int, lengths: tuple[int, ...] = (25, 72, 144, 250)) -> None:
        self.tokens, self.lengths = tokens, lengths
        self.classes = [[] for _ in lengths]
        for take in takes:
            fitting = [index for index, length in enumerate(lengths) if len(take) >= length]
            self.classes[fitting[-1]].append(take)
        frames = np.array([sum(map(len, group)) for group in self.classes], dtype=float)
        self.share = frames / frames.sum()
        self.weights = [np.array([len(take) for take in group], dtype=float) for group in self.classes]

    def draw(self, rng: np.random.Generator) -> Batch:
        """A batch of `tokens` motion frames: one length, clips in proportion to theirs, half of them mirrored."""
        index = rng.choice(len(self.lengths), p=self.share)
        length, group, weight = self.lengths[index], self.classes[index], self.weights[index]
        picks = rng.choice(len(group), size=max(1, self.tokens // length), p=weight / weight.sum())
        rows = [crop(group[pick], length, rng) for pick in picks]
        return Batch(*(torch.stack(column) for column in zip(*rows, strict=True)))


def crop(take: Take, length: int, rng: np.random.Generator, count: int = 8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A random stretch of `length` frames: landmarks, the take's mean upper face, features, resting landmarks."""
    start = int(rng.integers(len(take) - length + 1))
    landmarks = take.landmarks[start : start + length]
    rest = take.landmarks[take.rest[rng.integers(len(take.rest), size=count)]]
    mean = take.landmarks.mean(0)
    if rng.random() < 0.5:
        landmarks, rest, mean = (mirror_canonical(x) for x in (landmarks, rest, mean))
    features = take.features[2 * start : 2 * (start + length)].float()
    return landmarks, mean[landmark_set("prefix")], features, rest
