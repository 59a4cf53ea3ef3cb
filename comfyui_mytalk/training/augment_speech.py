"""Hard augmentation of speech, so that features know the phone and not the room, the microphone or the speaker.

Everything happens on mel power `(m, bands)` at 100 Hz, where it costs next to nothing: uncorrelated sounds add, a
channel is a gain per band, a room is a decay over time, another vocal tract is a warp of the bands.
"""

from __future__ import annotations

import numpy as np

from ..speech.mel import FLOOR

LOWEST, HIGHEST = 60.0, 7600.0  # hertz, of the mel bands
SILENT = 1e-8


def stretch(mel: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """`mel (n, bands)` at fractional frames `positions (m,)`; silence beyond its ends."""
    padded = np.pad(mel, ((1, 1), (0, 0)), constant_values=SILENT)
    positions = np.clip(positions + 1, 0, len(padded) - 1.001)
    low = positions.astype(int)
    share = (positions - low)[:, None]
    return padded[low] * (1 - share) + padded[low + 1] * share


def augment(mel: np.ndarray, other: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A random recording `(m, bands)` of the same words: vocal tract, room, other sounds, channel, codec, gain."""
    if rng.random() < 0.8 * strength:
        mel = warp_bands(mel, float(np.exp(rng.uniform(-0.14, 0.14))))
    if rng.random() < 0.4 * strength:
        mel = reverberate(mel, rng.uniform(0.1, 0.7), rng.uniform(0.05, 0.5))
    if rng.random() < 0.25 * strength:
        mel = mix(mel, other, rng.uniform(5, 25))
    if rng.random() < 0.2 * strength:
        mel = mix(mel, music(mel.shape, rng), rng.uniform(5, 25))
    if rng.random() < 0.6 * strength:
        mel = mix(mel, coloured_noise(mel.shape, rng), rng.uniform(3, 35))
    if rng.random() < 0.7 * strength:
        mel = mel * channel(mel.shape[1], rng)
    if rng.random() < 0.3 * strength:
        mel = np.maximum(mel, mel.max(1, keepdims=True) * 10 ** rng.uniform(-5, -2.5))
    return (mel * 10 ** rng.uniform(-0.6, 0.6)).astype(np.float32)


def log_mel(mel: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """What the encoder sees of mel power, with masked bands and spans (Park et al. 2019, arXiv 1904.08779)."""
    mel = np.log(mel + FLOOR)
    mean = mel.mean()
    for axis, widest in ((1, 14), (1, 10), (0, 14), (0, 8)):
        if rng.random() < 0.5 * strength:
            width = int(rng.integers(1, widest))
            start = int(rng.integers(0, max(mel.shape[axis] - width, 1)))
            mel[(slice(None),) * axis + (slice(start, start + width),)] = mean
    return mel.astype(np.float32)


def warp_bands(mel: np.ndarray, factor: float) -> np.ndarray:
    """All frequencies times `factor`: a longer or shorter vocal tract (Jaitly and Hinton 2013)."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST, HIGHEST))
    count = mel.shape[1]
    hertz = 700 * (10 ** ((low + (np.arange(count) + 1) * (high - low) / (count + 1)) / 2595) - 1)
    source = (2595 * np.log10(1 + hertz / factor / 700) - low) * (count + 1) / (high - low) - 1
    source = np.clip(source, 0, count - 1.001)
    left = source.astype(int)
    share = source - left
    return mel[:, left] * (1 - share) + mel[:, left + 1] * share


def reverberate(mel: np.ndarray, seconds: float, level: float) -> np.ndarray:
    """Add an exponential tail that falls by 60 dB in `seconds` and carries `level` of the direct sound's power."""
    frames = np.arange(1, max(int(60 * seconds), 2))
    tail = 10 ** (-6 * frames / (100 * seconds))
    tail *= level / tail.sum()
    late = np.zeros_like(mel)
    for frame, gain in zip(frames, tail, strict=True):
        if gain > 1e-4:
            late[frame:] += gain * mel[:-frame]
    return mel + late


def mix(mel: np.ndarray, other: np.ndarray, decibels: float) -> np.ndarray:
    """Add `other`, repeated or cut, so that its mean power lies `decibels` below the speech's."""
    other = other[np.arange(len(mel)) % max(len(other), 1)] if len(other) else np.zeros_like(mel)
    return mel + other * (mel.mean() / max(float(other.mean()), SILENT)) * 10 ** (-decibels / 10)


def coloured_noise(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise of a random smooth spectrum, steady or swelling."""
    swell = np.interp(np.arange(shape[0]), np.linspace(0, shape[0], 6), rng.uniform(0.2, 1, 6))
    swell = swell if rng.random() < 0.5 else np.ones_like(swell)
    return channel(shape[1], rng) * rng.gamma(3.0, 1 / 3, shape) * swell[:, None]


def music(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Notes: a few narrow bands that sound together and change every 0.15 to 0.6 s."""
    result, frame = np.full(shape, SILENT), 0
    while frame < shape[0]:
        length = int(rng.integers(15, 60))
        bands = rng.integers(0, shape[1], size=rng.integers(2, 9))
        decay = np.exp(-np.arange(length) / rng.uniform(10, 80))[: shape[0] - frame]
        result[frame : frame + length, bands] = decay[:, None] * rng.uniform(0.1, 1, len(bands))
        frame += length
    return result


def channel(bands: int, rng: np.random.Generator) -> np.ndarray:
    """A microphone's gain per band: +-9 dB in eight smooth bands, sometimes with a telephone's limits."""
    gain = np.interp(np.arange(bands), np.linspace(0, bands - 1, 8), rng.uniform(-9, 9, 8))
    if rng.random() < 0.25:
        gain -= np.maximum(np.arange(bands) - rng.uniform(0.7, 0.95) * bands, 0) * 4
    if rng.random() < 0.25:
        gain -= np.maximum(rng.uniform(0.05, 0.15) * bands - np.arange(bands), 0) * 4
    return 10 ** (gain / 10)
