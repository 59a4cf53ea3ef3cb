"""What the speech trainer draws from: crops of real clips with their mouths, crops of synthetic speech with its phones.

b crops   n samples at 16 kHz   m mel frames at 100 Hz   s features at 50 Hz
k mouth targets (principal components, then the opening)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..landmarks.canonical import mouth_opening
from ..landmarks.sets import landmark_set
from ..speech.audio import SPEECH_RATE
from ..speech.features import HOP, MARGIN, normalise_loudness
from ..speech.mel import MelParams, MelPower
from .augment_speech import SILENT, augment, log_mel, stretch
from .clips import PreparedClip, say_left_out
from .synthetic_speech import SyntheticSpeech

COMPONENTS = 8
IGNORED = -100
MIN_FEATURES = 30  # of a clip; it needs more
MIN_FACES = 8  # frames of a clip that show one; it needs more
POWER = MelPower(MelParams.bands)


@dataclass(frozen=True)
class SpeechTraining:
    """What a run is made of."""

    real_per_batch: int = 16
    synthetic_per_batch: int = 8
    length: int = 128  # features per crop
    rate: float = 1.0e-3
    warmup: int = 200
    mouth_weight: float = 1.0
    strength: float = 1.0  # of the augmentation
    validate_every: int = 200


@dataclass
class MouthClip:
    """A real clip's speech and the mouth to predict from it, in units of the training split's deviation."""

    mel: np.ndarray  # (m, bands) power at 100 Hz
    times: np.ndarray  # (f,) seconds
    mouth: np.ndarray  # (f, k)
    opening: np.ndarray  # (f,) cm
    phones: np.ndarray  # (s,) classes at 50 Hz, IGNORED where unknown
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


def mouth_space(clips: list[PreparedClip]) -> MouthSpace:
    motion = np.concatenate([mouth_motion(clip) for clip in clips])
    basis = np.linalg.eigh(motion.T @ motion)[1][:, ::-1][:, :COMPONENTS]
    basis = basis * np.sign(basis.sum(0))  # so that a resumed run has the same signs
    openings = [mouth_opening(clip.canonical).numpy() for clip in clips]
    opening = np.concatenate([series - series.mean() for series in openings])
    return MouthSpace(basis, np.concatenate([(motion @ basis).std(0), [opening.std()]]))


def known_offsets(clips: list[PreparedClip]) -> dict[str, float]:
    """Seconds that a clip's picture runs ahead of its sound, where its metadata says so, by file name."""
    offsets = {clip.path.stem: -float(clip.metadata.get("av_offset_ms") or 0) / 1000 for clip in clips}
    return {name: seconds for name, seconds in offsets.items() if seconds}


def mel_of(speech: Tensor) -> np.ndarray:
    """Mel power `(2 s - 1, bands)` as the encoder computes it from speech `(n,)`, in half precision."""
    count = len(speech) // HOP
    padded = torch.nn.functional.pad(normalise_loudness(speech)[: count * HOP], (MARGIN, MARGIN))
    return POWER(padded[None])[0].clamp(SILENT, 6e4).half().numpy()


def mouth_clips(
    clips: list[PreparedClip],
    space: MouthSpace,
    offsets: dict[str, float] | None = None,
    phones: dict[str, list[int]] | None = None,
) -> list[MouthClip]:
    """Clips with both a face and speech; says how many have not. `offsets` (see `known_offsets`) are added to the
    face's times.

    `phones` are classes at 50 Hz by clip name, as `scripts/label_phones.py` writes them.
    """
    least = MIN_FEATURES * HOP
    heard = [clip for clip in clips if clip.samples > least]
    chosen = [clip for clip in heard if clip.found.sum() > MIN_FACES]
    short = {
        f"with {least / SPEECH_RATE:g} s of sound or less": len(clips) - len(heard),
        f"with {MIN_FACES} frames of a face or less": len(heard) - len(chosen),
    }
    say_left_out(len(clips), short)
    return [
        _mouth_clip(clip, space, (offsets or {}).get(clip.path.stem, 0.0), (phones or {}).get(clip.path.stem, []))
        for clip in chosen
    ]


def _mouth_clip(clip: PreparedClip, space: MouthSpace, ahead: float, phones: list[int]) -> MouthClip:
    """One clip whose picture runs `ahead` of its sound by so many seconds."""
    opening, times = mouth_opening(clip.canonical).numpy(), clip.times.numpy() + ahead
    mouth, keep, speech = space.project(mouth_motion(clip), opening), clip.found.numpy(), clip.speech
    labels = np.full(len(speech) // HOP, IGNORED)
    known = np.array(phones, dtype=int)[: len(labels)]
    labels[: len(known)] = known
    return MouthClip(mel_of(speech), times[keep], mouth[keep], opening[keep], labels, clip)


class SpeechBatches:
    """Draws batches: real crops with their mouths and synthetic crops with their phones."""

    def __init__(self, real: list[MouthClip], synthetic: list[SyntheticSpeech], options: SpeechTraining) -> None:
        self.real, self.synthetic, self.options = real, synthetic, options
        self.utterances = [(shard, index) for shard in synthetic for index in range(len(shard))]
        self.heard: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        seconds = np.array([min(len(item.mel) / 100, 10.0) for item in real])
        corpora = np.array([item.clip.corpus for item in real])
        share = {name: seconds[corpora == name].sum() ** -0.4 for name in set(corpora)}
        weight = seconds * np.array([share[name] for name in corpora])
        self.weight = weight / weight.sum() if len(real) else weight

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-mel `(b, 2 s - 1, bands)`, phones `(b, s)`, mouth `(b, s, k)` and where it is known `(b, s)`."""
        items = [self._synthetic(rng) for _ in range(self.options.synthetic_per_batch)]
        items += [self._real(rng) for _ in range(self.options.real_per_batch if self.real else 0)]
        return tuple(torch.from_numpy(np.stack(column)) for column in zip(*items, strict=True))

    def utterance(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Mel power and labels of one synthetic utterance, computed when first asked for."""
        if index not in self.heard:
            shard, place = self.utterances[index]
            audio, labels = shard.utterance(place)
            self.heard[index] = mel_of(torch.from_numpy(audio)), labels
        return self.heard[index]

    def _crop(self, mel: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A stretched crop `(2 s - 1, bands)` and the source times of its features `(s,)`, seconds."""
        length = self.options.length
        factor = np.exp(rng.uniform(-0.2, 0.2) * self.options.strength)
        start = rng.uniform(-10, max(len(mel) - 2 * length * factor, 0) + 10)
        positions = start + factor * np.arange(2 * length - 1)
        first, last = max(int(positions[0]) - 1, 0), max(int(positions[-1]) + 3, 0)
        return stretch(mel[first:last].astype(np.float32), positions - first), (positions[::2] + 1) / 100

    def _synthetic(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        mel, labels = self.utterance(int(rng.integers(len(self.utterances))))
        mel, times = self._crop(mel, rng)
        cells = np.floor(times * 50).astype(int)
        phones = np.where((cells >= 0) & (cells < len(labels)), labels[cells.clip(0, len(labels) - 1)], 0)
        mouth = np.zeros((len(times), COMPONENTS + 1), np.float32)
        return self._record(mel, rng), phones, mouth, np.zeros(len(times), bool)

    def _real(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        item = self.real[rng.choice(len(self.real), p=self.weight)]
        mel, times = self._crop(item.mel, rng)
        known = (times >= item.times[0]) & (times <= item.times[-1])
        cells = np.floor(times * 50).astype(int)
        inside = (cells >= 0) & (cells < len(item.phones))
        phones = np.where(inside, item.phones[cells.clip(0, len(item.phones) - 1)], IGNORED)
        return self._record(mel, rng), phones, item.targets(times), known

    def _record(self, mel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        strength = self.options.strength
        other = self.utterance(int(rng.integers(len(self.utterances))))[0] if rng.random() < 0.3 else mel[::-1]
        return log_mel(augment(mel, other.astype(np.float32), rng, strength), rng, strength)
