"""Synthetic speech with phone labels: what `scripts/synthesise_speech.py` writes and the speech trainer reads.

u utterances   n samples at 16 kHz   s labels at 50 Hz, label i is the phone sounding at (i + 0.5) * 20 ms
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError
from ..output import write_aside

FORMAT = "mytalk-synthetic-speech"
SILENCE = 0
# Phones that look alike on the lips share a class; single IPA letters, the first letter that is known decides.
CLASSES = {
    "silence": "",
    "bilabial": "pbmɓβɸʙ",
    "labiodental": "fvʋɱ",
    "labial glide": "wʍɥ",
    "dental": "θð",
    "alveolar stop": "tdɾʈɖɗ",
    "alveolar nasal": "nɳɲ",
    "sibilant": "szɬɮ",
    "postalveolar": "ʃʒɕʑʂʐ",
    "lateral": "lɫɭʎʟ",
    "rhotic": "rɹɻʀʁɽ",
    "velar": "kgɡŋɴqɢɠcɟ",
    "back fricative": "hxχħɣçʕɦʝ",
    "palatal glide": "jʲ",
    "close front": "iɪ",
    "mid front": "eɛ",
    "open": "aæɐ",
    "open back": "ɑʌɒ",
    "central": "əɜɚɘɵɨɯɤɝ",
    "mid rounded": "oɔ",
    "close rounded": "uʊʉ",
    "front rounded": "yøœʏɶ",
}
CLASS_NAMES = list(CLASSES)
_CLASS_OF = {letter: index for index, letters in enumerate(CLASSES.values()) for letter in letters}
_AFFRICATES = ("tʃ", "dʒ", "tɕ", "dʑ", "ts", "dz", "tʂ", "dʐ", "pf")


def phone_classes(ipa: str) -> list[int]:
    """Classes of one phoneme written in IPA: one, or two for a diphthong; empty when nothing in it sounds.

    An affricate counts as its fricative, the long and visible half.
    """
    if ipa.startswith("("):  # a change of language, not a sound
        return []
    ipa = unicodedata.normalize("NFD", ipa)
    for affricate in _AFFRICATES:
        ipa = ipa.replace(affricate, affricate[1])
    known = [_CLASS_OF[letter] for letter in ipa if letter in _CLASS_OF]
    vowels = [index for index in known if index >= CLASS_NAMES.index("close front")]
    return vowels[:2] if vowels else known[:1]


@dataclass
class SyntheticSpeech:
    """Utterances of one shard, end to end: `audio (n,)` int16, `labels (s,)` uint8, starts `(u + 1,)` in labels."""

    audio: Tensor
    labels: Tensor
    starts: Tensor
    voices: list[str]

    def __len__(self) -> int:
        return len(self.voices)

    def utterance(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Waveform `(320 * s,)` float -1..1 and labels `(s,)` int64."""
        start, stop = self.starts[index : index + 2].tolist()
        audio = self.audio[320 * start : 320 * stop].numpy().astype(np.float32) / 32768
        return audio, self.labels[start:stop].numpy().astype(np.int64)


def write_shard(path: Path, utterances: list[tuple[np.ndarray, np.ndarray, str]]) -> None:
    """Write `(audio int16 (320 * s,), labels uint8 (s,), voice)` triples as one shard."""
    audio, labels, voices = zip(*utterances, strict=True)
    starts = np.concatenate([[0], np.cumsum([len(item) for item in labels])])
    tensors = {"audio": np.concatenate(audio), "labels": np.concatenate(labels), "starts": starts}
    metadata = {"format": FORMAT, "classes": json.dumps(CLASS_NAMES), "voices": json.dumps(voices)}
    with write_aside(path) as part:
        save_file({name: torch.from_numpy(value) for name, value in tensors.items()}, part, metadata)


def read_shards(folder: str | Path, split: str) -> list[SyntheticSpeech]:
    """All shards `<split>_*.safetensors` of a folder; raises InputError when there are none."""
    paths = sorted(Path(folder).glob(f"{split}_*.safetensors"))
    if not paths:
        raise InputError(
            f"no {split} shards in {folder}; make them with `python scripts/synthesise_speech.py -o {folder}`"
        )
    return [read_shard(path) for path in paths]


def read_shard(path: Path) -> SyntheticSpeech:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT or json.loads(metadata["classes"]) != CLASS_NAMES:
            raise InputError(f"{path} is no shard of this version; make it again with scripts/synthesise_speech.py")
        tensors = [file.get_tensor(name) for name in ("audio", "labels", "starts")]
    return SyntheticSpeech(*tensors, json.loads(metadata["voices"]))
