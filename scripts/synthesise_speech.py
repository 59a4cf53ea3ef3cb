"""Unlimited phonetic training data: espeak-ng speaks invented words and numbers in many languages, with phone timings.

    python scripts/synthesise_speech.py -o data/speech --hours 5

Needs the espeak-ng library (Debian package `libespeak-ng1`), called through ctypes; nothing else of this project does.
The words are drawn from the syllables below, the numbers are read out by the synthesiser in the language's own words.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import sys
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from comfyui_mytalk.training.synthetic_speech import CLASS_NAMES, SILENCE, phone_classes, write_shard

LANGUAGES = json.loads((Path(__file__).parent / "synthetic_languages.json").read_text(encoding="utf-8"))
FIRST_VOWEL = CLASS_NAMES.index("close front")
RETRIEVAL, PHONEME_EVENTS, PHONEME_IPA, NO_EXIT = 2, 1, 2, 0x8000
RATE, PITCH, RANGE = 1, 3, 4
LIST_TERMINATED, PHONEME, UTF8 = 0, 7, 1


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; `name` is the union's 8 bytes."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_ubyte * 8),
    ]


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


class Synthesiser:
    """espeak-ng in this process: text in, samples and phones with their first sample out."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        try:
            self.library = ctypes.CDLL(name)
        except OSError as error:
            sys.exit(f"error: {error}: install espeak-ng's library, on Debian and Ubuntu `apt install libespeak-ng1`")
        options = PHONEME_EVENTS | PHONEME_IPA | NO_EXIT
        self.rate = self.library.espeak_Initialize(RETRIEVAL, 0, None, options)
        self.samples: list[np.ndarray] = []
        self.phones: list[tuple[int, str]] = []
        self.callback = CALLBACK(self._receive)
        self.library.espeak_SetSynthCallback(self.callback)

    def _receive(self, samples, count: int, events) -> int:
        if samples and count:
            self.samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != LIST_TERMINATED:
            event = events[index]
            if event.type == PHONEME:
                name = bytes(event.name).split(b"\0")[0].decode("utf-8", "ignore")
                self.phones.append((event.sample, name))
            index += 1
        return 0

    def speak(
        self, voice: str, text: str, rate: int, pitch: int, spread: int
    ) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Samples `(n,)` int16 at `self.rate` and `(first sample, IPA)` pairs; empty when the voice is missing."""
        self.samples, self.phones = [], []
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            return np.zeros(0, np.int16), []
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, spread)):
            self.library.espeak_SetParameter(parameter, value, 0)
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, 0, 0, UTF8, None, None)
        audio = np.concatenate(self.samples) if self.samples else np.zeros(0, np.int16)
        return audio, self.phones


def invent_word(language: str, rng: np.random.Generator) -> str:
    """A number, an everyday word (English) or one to three of the language's syllables."""
    if language in LANGUAGES["weights"] and rng.random() < 0.6:
        return str(rng.choice(LANGUAGES["english_words"].split()))
    if rng.random() < 0.12:
        return str(int(10 ** rng.uniform(0, 4)))
    spelling = LANGUAGES["syllables"][LANGUAGES["spelled_like"].get(language, language)]
    onsets, vowels, codas = (spelling[part].split() or [""] for part in ("onsets", "vowels", "codas"))
    syllables = (
        rng.choice(onsets) + rng.choice(vowels) + (rng.choice(codas) if rng.random() < 0.4 else "")
        for _ in range(rng.integers(1, 4))
    )
    return "".join(syllables)


def invent_sentence(language: str, rng: np.random.Generator) -> str:
    words = [invent_word(language, rng) + (", " if rng.random() < 0.08 else " ") for _ in range(rng.integers(6, 16))]
    return "".join(words) + str(rng.choice([".", "?", "!"]))


def lead_in(name: str) -> float:
    """Seconds a phone begins before espeak's event: it reports stops after their closure, vowels after their onset.

    Measured as the mean energy around events of 150 sentences.
    """
    if name[:1] in tuple("ptkqcʈ"):
        return 0.055
    classes = phone_classes(name)
    return 0.0 if not classes else 0.025 if classes[0] >= FIRST_VOWEL else 0.02 if name[:1] in tuple("bdgɡɖɟ") else 0.0


def true_starts(phones: list[tuple[int, str]], rate: int) -> list[float]:
    """First sample of each phone with its lead-in, at most two thirds of the way into the phone before it."""
    events = [start for start, _ in phones]
    floors = [0.0] + [a + (b - a) / 3 for a, b in zip(events, events[1:], strict=False)]
    return [max(start - lead_in(name) * rate, floor) for (start, name), floor in zip(phones, floors, strict=True)]


def label_track(phones: list[tuple[int, str]], rate: int, count: int) -> np.ndarray:
    """Classes `(count,)` at the middles of 20 ms cells; a diphthong changes after 60% of its time."""
    labels = np.full(count, SILENCE, np.uint8)
    starts = true_starts(phones, rate)
    ends = starts[1:] + [count * 0.02 * rate]
    for (_, name), start, end in zip(phones, starts, ends, strict=True):
        classes = phone_classes(name) or [SILENCE]
        cuts = [start, start + 0.6 * (end - start), end] if len(classes) == 2 else [start, end]
        for index, (a, b) in zip(classes, zip(cuts, cuts[1:], strict=False), strict=True):
            labels[round(a / rate * 50) : round(b / rate * 50)] = index
    return labels


def utterance(
    synthesiser: Synthesiser, language: str, variant: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str] | None:
    """One sentence as `(audio at 16 kHz, labels, voice)`, None when the voice said next to nothing."""
    voice = f"{language}+{variant}"
    settings = int(rng.integers(110, 221)), int(rng.integers(20, 81)), int(rng.integers(20, 81))
    audio, phones = synthesiser.speak(voice, invent_sentence(language, rng), *settings)
    if len(audio) < synthesiser.rate or len(phones) < 8:
        return None
    speech = resample_poly(audio.astype(np.float32), 320, 441)
    count = len(speech) // 320
    speech = np.clip(speech[: 320 * count], -32768, 32767).astype(np.int16)
    return speech, label_track(phones, synthesiser.rate, count), voice


def synthesise(folder: Path, split: str, hours: float, languages: list[str], variants: list[str], seed: int) -> None:
    """Write `hours` of speech of a split as shards of about half an hour."""
    synthesiser, rng = Synthesiser(), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.array([LANGUAGES["weights"].get(language, 1.0) for language in languages])
    shard, seconds, number = [], 0.0, 0
    with tqdm(total=round(hours * 3600), desc=split, unit="s") as bar:
        while seconds < hours * 3600:
            language = str(rng.choice(languages, p=weights / weights.sum()))
            item = utterance(synthesiser, language, str(rng.choice(variants)), rng)
            if item is None:
                continue
            shard.append(item)
            seconds += len(item[1]) / 50
            bar.update(round(len(item[1]) / 50))
            if sum(len(labels) for _, labels, _ in shard) > 90_000:
                write_shard(folder / f"{split}_{number:03d}.safetensors", shard)
                shard, number = [], number + 1
    if shard:
        write_shard(folder / f"{split}_{number:03d}.safetensors", shard)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    held_out, unheard = LANGUAGES["held_out_languages"], LANGUAGES["held_out_voices"].split()
    known = [*LANGUAGES["syllables"], *LANGUAGES["spelled_like"]]
    languages = [language for language in known if language not in held_out]
    synthesise(args.output, "train", args.hours, languages, LANGUAGES["voices"].split(), args.seed)
    synthesise(args.output, "voices", args.hours / 50, languages, unheard, args.seed + 1)
    synthesise(args.output, "languages", args.hours / 50, held_out, unheard, args.seed + 2)


if __name__ == "__main__":
    main()
