"""Hard augmentation of speech, so that features know the phone and not the room, the microphone or the speaker.

n samples at 16 kHz, float32; everything draws from a numpy generator
"""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, rfft

RATE = 16000


def stretch(speech: np.ndarray, count: int) -> np.ndarray:
    """Resample to `count` samples: pitch, formants and pace move together."""
    return np.interp(np.linspace(0, len(speech) - 1, count), np.arange(len(speech)), speech).astype(np.float32)


def augment(speech: np.ndarray, other: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A random recording of the same speech: room, microphone, another voice `other`, noise, codec, gaps, gain."""
    speech = speech / max(float(np.sqrt(np.mean(speech**2))), 1e-3)
    if rng.random() < 0.7 * strength:
        speech = filter_speech(speech, rng)
    if rng.random() < 0.15 * strength:
        speech = mix(speech, other[: len(speech)], rng.uniform(8, 25))
    if rng.random() < 0.6 * strength:
        speech = mix(speech, coloured_noise(len(speech), rng), rng.uniform(5, 35))
    if rng.random() < 0.15 * strength:
        speech = mu_law(speech, int(rng.choice([64, 128, 256])))
    if rng.random() < 0.3 * strength:
        speech = drop_span(speech, rng)
    return (speech * 10 ** rng.uniform(-0.4, 0.4)).astype(np.float32)


def filter_speech(speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A microphone's smooth response and band limits and, half of the time, a room, in one product of spectra."""
    size = 1 << (len(speech) + RATE // 2 - 1).bit_length()
    response = random_response(size // 2 + 1, rng)
    if rng.random() < 0.5:
        response = response * rfft(room(rng), size)
    return irfft(rfft(speech.astype(np.float32), size) * response, size)[: len(speech)]


def random_response(bins: int, rng: np.random.Generator) -> np.ndarray:
    """Gain per frequency: +-8 dB in eight smooth bands, sometimes a telephone's or an old recording's limits."""
    hertz = np.linspace(0, RATE / 2, bins)
    gain = 10 ** (np.interp(hertz, np.linspace(0, RATE / 2, 8), rng.uniform(-8, 8, 8)) / 20)
    if rng.random() < 0.3:
        gain = gain / (1 + (hertz / rng.uniform(2500, 7000)) ** 12)
    if rng.random() < 0.3:
        gain = gain / (1 + (rng.uniform(80, 350) / np.maximum(hertz, 1)) ** 6)
    return gain.astype(np.float32)


def room(rng: np.random.Generator) -> np.ndarray:
    """Impulse response: the direct sound and exponentially decaying noise (reverberation time 0.1 to 0.6 s)."""
    time = np.arange(int(0.3 * RATE)) / RATE
    tail = rng.standard_normal(len(time)) * np.exp(-6.9 * time / rng.uniform(0.1, 0.6))
    tail[: int(0.002 * RATE)] = 0
    tail *= rng.uniform(0.1, 0.7) / np.sqrt(np.sum(tail**2))
    tail[0] = 1
    return tail.astype(np.float32)


def coloured_noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with a spectrum between white and brown."""
    size = 1 << (count - 1).bit_length()
    spectrum = rfft(rng.standard_normal(size, dtype=np.float32)) / np.maximum(
        np.arange(size // 2 + 1), 8
    ) ** rng.uniform(0, 1)
    return irfft(spectrum, size)[:count]


def mix(speech: np.ndarray, other: np.ndarray, decibels: float) -> np.ndarray:
    """Add `other` so that it lies `decibels` below the speech."""
    other = np.resize(other, len(speech)) if len(other) else np.zeros_like(speech)
    ratio = np.sqrt(np.mean(speech**2) / max(float(np.mean(other**2)), 1e-12))
    return speech + other * ratio * 10 ** (-decibels / 20)


def mu_law(speech: np.ndarray, levels: int) -> np.ndarray:
    """Companded quantisation, as telephones do it."""
    peak = max(float(np.abs(speech).max()), 1e-6)
    companded = np.sign(speech) * np.log1p(levels * np.abs(speech) / peak) / np.log1p(levels)
    rounded = np.round(companded * levels / 2) / (levels / 2)
    return np.sign(rounded) * peak * np.expm1(np.abs(rounded) * np.log1p(levels)) / levels


def drop_span(speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Silence a span of 40 to 200 ms: context must fill it in."""
    span = int(rng.uniform(0.04, 0.2) * RATE)
    start = int(rng.integers(0, max(len(speech) - span, 1)))
    speech = speech.copy()
    speech[start : start + span] = 0
    return speech
