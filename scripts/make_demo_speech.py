"""The demo speech: our own sentence spoken by Flite's cmu_us_slt voice (Debian packages libflite1 and flite).

python scripts/make_demo_speech.py -o demo/speech.wav
"""

from __future__ import annotations

import argparse
import ctypes
import wave
from pathlib import Path

import numpy as np

SENTENCE = "Hello! My Talk moves a mouth to your words, and above the lips, every pixel stays the same."
STRETCH = 0.9  # of durations: the voice's own pace is slow
SILENCE = 0.15  # seconds before and after
PEAK = 0.7


class _Wave(ctypes.Structure):
    """Flite's cst_wave."""

    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class _Voice(ctypes.Structure):
    """The head of Flite's cst_voice."""

    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))


def speak(sentence: str, stretch: float = STRETCH) -> tuple[np.ndarray, int]:
    """Samples `(n,)` in -1..1 and their rate."""
    flite, _, _ = (
        ctypes.CDLL(f"libflite{part}.so.1", mode=ctypes.RTLD_GLOBAL) for part in ("", "_usenglish", "_cmulex")
    )
    slt = ctypes.CDLL("libflite_cmu_us_slt.so.1")
    flite.flite_init()
    slt.register_cmu_us_slt.restype = ctypes.POINTER(_Voice)
    voice = slt.register_cmu_us_slt(None)
    flite.flite_feat_set_float.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float)
    flite.flite_feat_set_float(voice.contents.features, b"duration_stretch", stretch)
    flite.flite_text_to_wave.restype = ctypes.POINTER(_Wave)
    result = flite.flite_text_to_wave(sentence.encode(), voice).contents
    return np.ctypeslib.as_array(result.samples, (result.num_samples,)) / 32768, result.sample_rate


def main() -> None:
    parser = argparse.ArgumentParser(description="Speak the demo sentence with Flite.")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo/speech.wav"))
    parser.add_argument("--text", default=SENTENCE)
    options = parser.parse_args()
    samples, rate = speak(options.text)
    samples = np.pad(samples * (PEAK / np.abs(samples).max()), int(SILENCE * rate))
    with wave.open(str(options.output), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())
    print(f"{options.output}: {len(samples) / rate:.2f} s at {rate} Hz")


if __name__ == "__main__":
    main()
