"""What the speech trainer draws from: crops of real clips with their mouths, crops of synthetic speech with its phones.

b crops   n samples at 16 kHz   s features at 50 Hz   k mouth targets (principal components, then the opening)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..landmarks.sets import landmark_set
from ..speech.features import HOP, MARGIN, normalise_loudness
from .augment_speech import augment, stretch
from .clips import PreparedClip
from .synthetic_speech import SyntheticSpeech

COMPONENTS = 8
IGNORED = -100
MIN_FEATURES = 30
LIP_TOP, LIP_BOTTOM = 13, 14


@dataclass(frozen=True)
class SpeechTraining:
    """What a run is made of."""

    real_per_batch: int = 3
    synthetic_per_batch: int = 3
    length: int = 128  # features per crop
    rate: float = 1.0e-3
    warmup: int = 200
    mouth_weight: float = 1.0
    conv_weight: float = 0.3  # cross-entropy straight from the convolutions: they learn early
    strength: float = 1.0  # of the augmentation
    validate_every: int = 350


@dataclass
class MouthClip:
    """A real clip's speech and the mouth to predict from it, in units of the training split's deviation."""

    speech: np.ndarray  # (n,)
    times: np.ndarray  # (f,) seconds
    mouth: np.ndarray  # (f, k)
    opening: np.ndarray  # (f,) cm
    clip: PreparedClip

    def targets(self, seconds: np.ndarray) -> np.ndarray:
        """Mouth `(s, k)` at any times."""
        return np.stack([np.interp(seconds, self.times, column) for column in self.mouth.T], 1).astype(np.float32)


@dataclass(frozen=True)
class MouthSpace:
    """Principal components of the generated landmarks' motion: `basis (360, 8)`, `scale (9,)`."""

    basis: np.ndarray
    scale: np.ndarray

    def project(self, motion: np.ndarray, opening: np.ndarray) -> np.ndarray:
        return np.concatenate([motion @ self.basis, opening[:, None] - opening.mean()], 1) / self.scale


def mouth_motion(clip: PreparedClip) -> np.ndarray:
    """Generated landmarks, x and y, less their mean over the clip `(f, 360)`, centimetres."""
    points = clip.canonical[:, landmark_set("generated"), :2].flatten(1).numpy()
    return points - points.mean(0)


def mouth_opening(clip: PreparedClip) -> np.ndarray:
    """Distance of the inner lips `(f,)`, centimetres."""
    return (clip.canonical[:, LIP_TOP, :2] - clip.canonical[:, LIP_BOTTOM, :2]).norm(dim=-1).numpy()


def mouth_space(clips: list[PreparedClip]) -> MouthSpace:
    motion = np.concatenate([mouth_motion(clip) for clip in clips])
    basis = np.linalg.eigh(motion.T @ motion)[1][:, ::-1][:, :COMPONENTS]
    basis = basis * np.sign(basis.sum(0))  # so that a resumed run has the same signs
    opening = np.concatenate([mouth_opening(clip) - mouth_opening(clip).mean() for clip in clips])
    return MouthSpace(basis, np.concatenate([(motion @ basis).std(0), [opening.std()]]))


def known_offsets(clips: list[PreparedClip]) -> dict[str, float]:
    """Seconds that a clip's picture runs ahead of its sound, where its metadata says so, by file name."""
    offsets = {clip.path.stem: -float(clip.metadata.get("av_offset_ms") or 0) / 1000 for clip in clips}
    return {name: seconds for name, seconds in offsets.items() if seconds}


def mouth_clips(
    clips: list[PreparedClip], space: MouthSpace, offsets: dict[str, float] | None = None
) -> list[MouthClip]:
    """Clips with both a face and speech; `offsets` (see `known_offsets`) are added to the face's times."""
    result = []
    for clip in clips:
        opening, times = mouth_opening(clip), clip.times.numpy() + (offsets or {}).get(clip.path.stem, 0.0)
        mouth = space.project(mouth_motion(clip), opening)
        keep = clip.found.numpy()
        if keep.sum() > 8 and len(clip.speech) > MIN_FEATURES * HOP:
            result.append(MouthClip(clip.speech.numpy(), times[keep], mouth[keep], opening[keep], clip))
    return result


class SpeechBatches:
    """Draws batches: real crops with their mouths and synthetic crops with their phones."""

    def __init__(self, real: list[MouthClip], synthetic: list[SyntheticSpeech], options: SpeechTraining) -> None:
        self.real, self.synthetic, self.options = real, synthetic, options
        self.utterances = [(shard, index) for shard in synthetic for index in range(len(shard))]
        seconds = np.array([min(len(clip.speech) / 16000, 10.0) for clip in real])
        corpora = np.array([clip.clip.corpus for clip in real])
        share = {name: seconds[corpora == name].sum() ** -0.4 for name in set(corpora)}
        weight = seconds * np.array([share[name] for name in corpora])
        self.weight = weight / weight.sum() if len(real) else weight

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Speech `(b, n)`, phones `(b, s)`, mouth `(b, s, k)` and where the mouth is known `(b, s)`."""
        items = [self._synthetic(rng) for _ in range(self.options.synthetic_per_batch)]
        items += [self._real(rng) for _ in range(self.options.real_per_batch if self.real else 0)]
        speech, phones, mouth, known = (torch.from_numpy(np.stack(column)) for column in zip(*items, strict=True))
        return torch.stack([normalise_loudness(row) for row in speech]), phones, mouth, known

    def _crop(self, speech: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A stretched crop `(n,)` and the source times of its features `(s,)`, seconds."""
        length = self.options.length
        factor = np.exp(rng.uniform(-0.13, 0.13) * self.options.strength)
        count = length * HOP + 2 * MARGIN
        span = int(count * factor)
        start = int(rng.integers(-HOP, max(len(speech) - span, 0) + HOP))
        padded = np.zeros(span, np.float32)
        part = speech[max(start, 0) : start + span]
        padded[max(-start, 0) : max(-start, 0) + len(part)] = part
        times = (start + factor * (MARGIN + (np.arange(length) + 0.5) * HOP)) / 16000
        return stretch(padded, count), times

    def _synthetic(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        shard, index = self.utterances[rng.integers(len(self.utterances))]
        audio, labels = shard.utterance(index)
        speech, times = self._crop(audio, rng)
        cells = np.floor(times * 50).astype(int)
        phones = np.where((cells >= 0) & (cells < len(labels)), labels[cells.clip(0, len(labels) - 1)], 0)
        mouth = np.zeros((len(times), COMPONENTS + 1), np.float32)
        return self._record(speech, rng), phones, mouth, np.zeros(len(times), bool)

    def _real(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        item = self.real[rng.choice(len(self.real), p=self.weight)]
        speech, times = self._crop(item.speech, rng)
        known = (times >= item.times[0]) & (times <= item.times[-1])
        return self._record(speech, rng), np.full(len(times), IGNORED), item.targets(times), known

    def _record(self, speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shard, index = self.utterances[rng.integers(len(self.utterances))]
        return augment(speech, shard.utterance(index)[0], rng, self.options.strength)
