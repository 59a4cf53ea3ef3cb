"""What the constants of the picture regression are worth, each varied alone; no network takes part.

    python benchmarks/regression_figures.py data/prepared --split train

References come from the first half of a clip, targets from the second; true landmarks, the mouth box. Shares are worked
out for every setting on the same moved pictures, so most settings cost next to nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from comfyui_mytalk.appearance import regression
from comfyui_mytalk.appearance.params import PRESETS
from comfyui_mytalk.training.appearance_data import ClipView, make_sample
from comfyui_mytalk.training.appearance_validation import FIGURES, corpus_mean, mouth_scores, per_corpus, targets
from comfyui_mytalk.training.clips import read_clips

VARIED = {
    "REACH": (0.4, 0.7, 1.5, 3.0),
    "NOISE": (0.03, 0.3, 1.0),
    "STRETCH": (0.0, 0.3, 1.0),
    "JAW_SHARE": (0.0, 1.0, 2.0),
    "BASE_OPENING": (0.5, 1.0),
}


@dataclass(frozen=True)
class Case:
    """One target with what it is painted from."""

    view: ClipView
    frame: int
    known: np.ndarray


def cases(folder: str, split: str, most: int, per_clip: int) -> list[Case]:
    """Targets of at most `most` clips, spread over the split and its people."""
    clips = [clip for clip in read_clips(folder, split) if len(clip) >= 60]
    clips = sorted(clips, key=lambda clip: sum(c.identity == clip.identity for c in clips[: clips.index(clip)]))[:most]
    found = []
    for clip in tqdm(clips, desc="pictures"):
        if (halves := targets(clip, 3, per_clip)) is not None:
            view, first, frames = halves
            view.know(first)
            found += [Case(view, frame, first) for frame in frames]
    return found


def score(found: list[Case], changes: dict[str, float]) -> dict[str, float]:
    """Means over corpora with some constants changed."""
    kept = {name: getattr(regression, name) for name in changes}
    for name, value in changes.items():
        setattr(regression, name, value)
    banks = {case.view.clip.path: case for case in found} if changes.keys() & {"BASE_OPENING", "JAW_SHARE"} else {}
    for case in banks.values():  # made with these constants
        case.view.know(case.known)
    rows = []
    for case in found:
        view = case.view
        raw = view.raw(case.frame, view.bank[:2].tolist(), case.known)
        sample = make_sample(PRESETS["small"], [raw])
        rows.append((view.clip, mouth_scores(sample.inputs.references[:, 0], sample)))
    for name, value in kept.items():
        setattr(regression, name, value)
    for case in banks.values():
        case.view.know(case.known)
    return corpus_mean(per_corpus(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--split", default="train")
    parser.add_argument("--clips", type=int, default=80)
    parser.add_argument("--per-clip", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = cases(options.data, options.split, options.clips, options.per_clip)
    print(f"{len({case.view.clip.path for case in found})} clips, {len(found)} targets: {' / '.join(FIGURES)}")
    settings = [{}] + [{name: value} for name, values in VARIED.items() for value in values]
    for changes in settings:
        row = score(found, changes)
        print(f"{changes or 'as it is'}: " + "{psnr:.2f} / {ssim:.3f} / {sharpness:.2f}".format(**row), flush=True)


if __name__ == "__main__":
    main()
