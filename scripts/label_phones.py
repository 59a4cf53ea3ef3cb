"""Phones of real English clips by a recogniser trained on real voices, as labels for the speech trainer.

    python scripts/label_phones.py data/prepared -o data/phones.json

Needs `pip install pocketsphinx` (BSD, its English model included); nothing else of this project does, and nothing of it
is shipped. Words are recognised, or for GRID read with its grammar, then aligned to their phones. A free phone loop
listens too, and outside GRID only what it agrees with is kept: words are wrong about half of the time, phones of the
two together rarely.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.output import check_output, write_aside
from comfyui_mytalk.training.clips import PreparedClip, read_clips
from comfyui_mytalk.training.speech_data import IGNORED
from comfyui_mytalk.training.synthetic_speech import CLASS_NAMES, SILENCE, phone_classes

if TYPE_CHECKING:
    from pocketsphinx import Decoder

GRAMMAR = "#JSGF V1.0;\ngrammar labels;\npublic <line> = {};\n"
GRID = (
    "(bin | lay | place | set) (blue | green | red | white) (at | by | in | with) "
    f"({' | '.join('abcdefghijklmnopqrstuvxyz')}) "
    "(zero | one | two | three | four | five | six | seven | eight | nine) (again | now | please | soon)"
)
IN_IPA = (
    "AA:ɑ AE:æ AH:ə AO:ɔ AW:aʊ AY:aɪ B:b CH:tʃ D:d DH:ð EH:ɛ ER:ɝ EY:eɪ F:f G:ɡ HH:h IH:ɪ IY:i JH:dʒ K:k L:l M:m N:n "
    "NG:ŋ OW:oʊ OY:ɔɪ P:p R:ɹ S:s SH:ʃ T:t TH:θ UH:ʊ UW:u V:v W:w Y:j Z:z ZH:ʒ"
)
IPA = dict(pair.split(":") for pair in IN_IPA.split())
NOT_ENGLISH = {"LRC-AR", "Cantonese TV", "MER2023 (Chinese TV)", "syllables"}
NARROW = {"beam": 1e-40, "pbeam": 1e-40, "wbeam": 1e-24, "maxhmmpf": 6000, "fwdflat": False}
NEAR = 2  # features by which the two may differ in time

Segments = list[tuple[str, int, int]]  # phone, first and last frame at 100 Hz


class Recogniser:
    """Words, a phone loop, and the alignment of words to their phones; all of one acoustic model.

    Raises InputError when pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder, get_model_path
        except ImportError as error:
            raise InputError("pocketsphinx is not installed: pip install pocketsphinx") from error
        common = {"samprate": 16000, "loglevel": "FATAL"}
        loop = get_model_path("en-us/en-us-phone.lm.bin")
        self.words = Decoder(**NARROW, **common)
        self.grid = Decoder(lm=None, **common)
        self.grid.add_jsgf_string("grid", GRAMMAR.format(GRID))
        self.grid.activate_search("grid")
        self.loop = Decoder(allphone=loop, lm=None, beam=1e-20, pbeam=1e-20, lw=2.0, **common)
        with tempfile.NamedTemporaryFile("w", suffix=".dict") as words:  # every phone is a word of its own
            words.write("".join(f"p{phone.lower()} {phone}\n" for phone in IPA))
            words.flush()
            self.phones = Decoder(lm=None, dict=words.name, beam=1e-100, pbeam=1e-100, wbeam=1e-80, **common)

    def label(self, speech: Tensor, grid: bool) -> tuple[Segments, Segments]:
        """Phones of the recognised words, and of the phone loop, in `speech (n,)` at 16 kHz."""
        raw = (speech / speech.abs().max().clamp(min=1e-4) * 0.7 * 32767).short().numpy().tobytes()
        decoder = self.grid if grid else self.words
        said = [word for word, _, _ in listen(decoder, raw) if word[0] not in "<[+"]
        phones = [phone for word in said for phone in (decoder.lookup_word(word) or "").split()]
        if not phones:
            return [], []
        line = " ".join(f"p{phone.lower()}" for phone in phones)
        self.phones.add_jsgf_string("line", GRAMMAR.format(line))
        self.phones.activate_search("line")
        aligned = [(word.removeprefix("p").upper(), *span) for word, *span in listen(self.phones, raw)]
        return aligned, listen(self.loop, raw)


def listen(decoder: Decoder, raw: bytes) -> Segments:
    decoder.start_utt()
    decoder.process_raw(raw, full_utt=True)
    decoder.end_utt()
    return [(segment.word, segment.start_frame, segment.end_frame) for segment in decoder.seg() or []]


def class_track(segments: Segments, count: int) -> list[int]:
    """Classes `(count,)` at 50 Hz; a diphthong changes after 60 % of its time."""
    track = [SILENCE if segments else IGNORED] * count
    for name, first, last in segments:
        classes = phone_classes(IPA.get(name, "")) or [SILENCE]
        cuts = [first, last + 1] if len(classes) == 1 else [first, first + 0.6 * (last + 1 - first), last + 1]
        for index, (start, stop) in zip(classes, zip(cuts[:-1], cuts[1:], strict=True), strict=True):
            for cell in range(round(start / 2), min(round(stop / 2), count)):
                track[cell] = index
    return track


def labels(recogniser: Recogniser, clip: PreparedClip) -> list[int]:
    """One class for every 20 ms of the clip's speech, IGNORED where the recogniser contradicts itself."""
    grid, count = clip.corpus == "GRID", len(clip.speech) // 320
    aligned, loop = (class_track(found, count) for found in recogniser.label(clip.speech, grid))
    if grid:
        return aligned
    near = (loop[max(cell - NEAR, 0) : cell + NEAR + 1] for cell in range(count))
    return [own if own in others else IGNORED for own, others in zip(aligned, near, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", help="folder of prepared clips")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON of classes by clip name to write")
    parser.add_argument("--split", default="train", help="of the clips (default %(default)s)")
    args = parser.parse_args()
    try:
        output, recogniser = check_output(args.output), Recogniser()
        clips = [clip for clip in read_clips(args.clips, args.split) if clip.corpus not in NOT_ENGLISH and clip.samples]
        if not clips:
            raise InputError(f"no {args.split} clip in {args.clips} has English speech")
    except InputError as error:
        parser.error(str(error))
    found = {}
    for clip in tqdm(clips):
        found[clip.path.stem] = labels(recogniser, clip)
    with write_aside(output) as aside:
        aside.write_text(json.dumps(found), encoding="utf-8")
    known = torch.tensor([label for track in found.values() for label in track if label != IGNORED])
    print(f"{len(found)} clips, {len(known) / 3000:.1f} minutes of labels:")
    for name, share in zip(CLASS_NAMES, known.bincount(minlength=len(CLASS_NAMES)) / len(known), strict=True):
        print(f"  {name:18s}{share:.3f}")


if __name__ == "__main__":
    main()
