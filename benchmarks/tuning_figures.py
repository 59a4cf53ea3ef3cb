"""What actor tuning brings: the mouth box of a validation clip's second half, tuned on its first half or not.

    python benchmarks/tuning_figures.py data/prepared --clips 6

References come from the first half too; true landmarks; nearest mouths. Clips are taken from each corpus in turn.
"""

from __future__ import annotations

import argparse
from itertools import zip_longest
from time import perf_counter

import numpy as np
import torch

from comfyui_mytalk.appearance.model import AppearanceModel, load_appearance
from comfyui_mytalk.appearance.tuning import tuned_copy
from comfyui_mytalk.training.appearance_data import ClipView
from comfyui_mytalk.training.appearance_validation import FIGURES, MIN_FACE, corpus_mean, network, score_corpora
from comfyui_mytalk.training.clips import PreparedClip, read_clips
from comfyui_mytalk.training.tune import TuneOptions, tune_appearance


def choose_clips(clips: list[PreparedClip], count: int) -> list[PreparedClip]:
    """The longest clips with large faces, one of each corpus in turn."""
    by_corpus: dict[str, list[PreparedClip]] = {}
    for clip in sorted(clips, key=len, reverse=True):
        if clip.face_px >= MIN_FACE:
            by_corpus.setdefault(clip.corpus, []).append(clip)
    turns = zip_longest(*(by_corpus[name] for name in sorted(by_corpus)))
    return [clip for turn in turns for clip in turn if clip is not None][:count]


def first_half(clip: PreparedClip) -> ClipView:
    """The frames that tuning may see, with a gap to those that are scored."""
    view = ClipView(clip)
    view.frames = view.frames[view.frames < len(clip) // 2 - view.gap]
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--appearance", default="appearance_small")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--per-clip", type=int, default=8, help="targets per clip (default 8)")
    parser.add_argument("--steps", type=int, default=TuneOptions.steps)
    parser.add_argument("--rate", type=float, default=TuneOptions.rate)
    options = parser.parse_args()
    model = load_appearance(options.appearance)

    @torch.no_grad()
    def score(clip: PreparedClip, candidate: AppearanceModel) -> np.ndarray:
        scores = corpus_mean(score_corpora([clip], network(candidate), model.params, options.per_clip))
        return np.array([scores[name] for name in FIGURES])

    gains = []
    print("| clip | frames | untuned: PSNR / SSIM / sharpness | tuned | gain dB | seconds |")
    for clip in choose_clips(read_clips(options.data, "val"), options.clips):
        start = perf_counter()
        tuning = tune_appearance(model, first_half(clip), TuneOptions(options.steps, rate=options.rate))
        seconds = perf_counter() - start
        before, after = score(clip, model), score(clip, tuned_copy(model, tuning))
        gains.append(after - before)
        cells = (" / ".join((f"{row[0]:.2f}", f"{row[1]:.3f}", f"{row[2]:.2f}")) for row in (before, after))
        row = (clip.path.stem, str(len(clip)), *cells, f"{gains[-1][0]:+.2f}", f"{seconds:.0f}")
        print("|", " | ".join(row), "|", flush=True)
    print("median gain: {:+.2f} dB / {:+.3f} / {:+.2f}".format(*np.median(gains, 0)))


if __name__ == "__main__":
    main()
