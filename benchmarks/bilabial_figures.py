"""Do the lips meet when an m, b or p is heard? Of the film and of our motion on the same words.

    python -m scripts.label_phones data/prepared --split val -o phones.json
    python -m scripts.align_clips data/prepared -o offsets.json
    python benchmarks/bilabial_figures.py data/prepared --phones phones.json --offsets offsets.json

Every clip speaks its own words under its upper face played backwards, as in `motion_figures.py`; manner and style
reference of each half of a clip come from the other. Lips meet when a frame that is shown within 60 ms of the sound has
an opening below 0.25 cm. "Chance" is our motion moved by half the clip. The motion is also shown at other frame rates,
where a closure of two frames could fall between two pictures.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import style_figures
import torch
from motion_figures import own_manner
from torch import Tensor

from comfyui_mytalk.evaluation.metrics import CLOSED
from comfyui_mytalk.landmarks.canonical import mouth_opening
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.motion.generate import MotionOptions, resample
from comfyui_mytalk.motion.identity import load_identity
from comfyui_mytalk.motion.model import load_motion
from comfyui_mytalk.motion.params import FPS
from comfyui_mytalk.motion.reference import memorise
from comfyui_mytalk.motion.style import StyleMemory
from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.training.clips import read_clips, read_offsets
from comfyui_mytalk.training.motion_data import SPEECH_FPS, Take, load_takes
from comfyui_mytalk.training.motion_validation import generate_take
from comfyui_mytalk.training.synthetic_speech import CLASS_NAMES

RATES = (12, 16, 24, 30)
AROUND = 0.06  # seconds
LEAST = 2  # features: shorter ones are slips of the recogniser
Sounds = list[tuple[float, float]]  # first and last second


def sounds(labels: list[int], late: float) -> Sounds:
    """When bilabials are heard, on the film's own clock."""
    heard = np.array(labels) == CLASS_NAMES.index("bilabial")
    edges = np.diff(np.concatenate([[0], heard.astype(int), [0]]))
    spans = zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
    moved = [(first / SPEECH_FPS - late, last / SPEECH_FPS - late) for first, last in spans if last - first >= LEAST]
    return [(first, last) for first, last in moved if first > AROUND]


def met(landmarks: Tensor, at: Sounds, fps: float = FPS) -> list[bool]:
    """Whether the lips of `landmarks (t, 478, 2)` at 25 fps meet in each sound, in a film of `fps`."""
    times = torch.arange(round(len(landmarks) * fps / FPS), dtype=torch.float64) / fps
    grid = torch.arange(len(landmarks), dtype=torch.float64) / FPS
    opening = mouth_opening(landmarks if fps == FPS else resample(landmarks, grid, times))
    near = [(times > first - AROUND) & (times < last + AROUND) for first, last in at]
    return [bool((opening[frames] < CLOSED).any()) for frames in near]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--phones", type=Path, required=True)
    parser.add_argument("--offsets", type=Path, required=True)
    parser.add_argument("--features", default="runs/features", help="where speech features are kept")
    parser.add_argument("--motion", default="motion_small", help="name or file")
    parser.add_argument(
        "--style-strength", type=float, default=1.0, help="of the style reference (default %(default)s)"
    )
    args = parser.parse_args()
    model, extractor, speech = load_motion(args.motion), load_identity(), load_speech_encoder("speech_small")
    phones, offsets = json.loads(args.phones.read_text()), read_offsets(args.offsets)
    rows = defaultdict(list)

    def remember(take: Take, part: slice) -> StyleMemory | None:
        return memorise(model, style_figures.seen_in(take, part), style_figures.tokens_of(extractor, take)).memory

    cache = Path(args.features) / speech.sha256[:12]
    for take in load_takes(read_clips(args.data, "val"), speech, cache, offsets=offsets):
        late, length = offsets.get(take.name, 0.0), len(take) / FPS
        at = [span for span in sounds(phones.get(take.name, []), late) if span[1] + AROUND < length]
        backwards = take.landmarks[:, landmark_set("prefix")].flip(0)
        if model.style is not None and len(take) >= style_figures.LEAST and args.style_strength:
            made = style_figures.spoken(model, extractor, take, remember, True, args.style_strength)
        else:
            made = own_manner(generate_take(model, extractor, take, MotionOptions(), upper=backwards), take)
        chance = met(made.roll(len(made) // 2, 0), at)
        found = zip(met(take.landmarks, at), met(made, at), chance, *(met(made, at, fps) for fps in RATES), strict=True)
        rows[take.corpus] += found
    rows["all"] = [row for corpus in list(rows) for row in rows[corpus]]
    print(
        "| corpus | sounds | film | ours | where the film does | chance | "
        + " | ".join(f"{fps} fps" for fps in RATES)
        + " |"
    )
    print("|---" * (6 + len(RATES)) + "|")
    for corpus, found in sorted(rows.items(), key=lambda item: (item[0] == "all", item[0])):
        film, ours, *others = np.array(found).reshape(-1, 3 + len(RATES)).T
        figures = [film.mean(), ours.mean(), ours[film > 0].mean(), *(x.mean() for x in others)]
        print(f"| {corpus} | {len(found)} | " + " | ".join(f"{value:.2f}" for value in figures) + " |")


if __name__ == "__main__":
    main()
