"""What the network's pictures are off by: how near they were if the truth itself chose a few numbers for each.

    python benchmarks/oracle_figures.py data/prepared

The mouth box of `appearance_figures`, references per frame from the first half of a clip. An oracle that sees the
truth moves each picture as a whole (2 numbers), or smoothly by the displacements of the box's corners (8) or of four
by four points (32), or changes its colours (gain and offset of each channel, 6). No method can do this: it tells
how much of the error is landmarks that lie a little off and light that the rest of the frame does not tell.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from comfyui_mytalk.appearance.model import load_appearance
from comfyui_mytalk.training.appearance_data import Sample, make_sample
from comfyui_mytalk.training.appearance_validation import (
    FIGURES,
    corpus_mean,
    mouth_scores,
    mouth_window,
    network,
    per_corpus,
    validation_samples,
)
from comfyui_mytalk.training.clips import read_clips


class Oracle(NamedTuple):
    points: int = 0  # along each side of the box, whose displacements are chosen; 1 moves it as a whole
    colour: bool = False


ORACLES = {
    "as painted": Oracle(),
    "moved": Oracle(1),
    "moved, 2 x 2 points": Oracle(2),
    "moved, 4 x 4 points": Oracle(4),
    "other colours": Oracle(0, True),
    "moved, other colours": Oracle(1, True),
}


def improve(picture: Tensor, sample: Sample, oracle: Oracle) -> tuple[Tensor, Tensor]:
    """`picture (1, 3, h, w)` as near to the truth in the mouth box as `oracle` gets it, and displacements in pixels."""
    side = max(oracle.points, 1)
    displacement = torch.zeros(1, 2, side, side, requires_grad=oracle.points > 0)
    gain, offset = (torch.zeros(1, 3, 1, 1, requires_grad=oracle.colour) for _ in range(2))
    chosen = [number for number in (displacement, gain, offset) if number.requires_grad]

    def made() -> Tensor:
        moved = move(picture, displacement, sample.mouth) if oracle.points else picture
        return moved * (1 + gain) + offset

    if chosen:
        optimiser = torch.optim.LBFGS(chosen, max_iter=40, line_search_fn="strong_wolfe")
        counts = sample.mask * sample.mouth

        def closure() -> Tensor:
            optimiser.zero_grad()
            error = ((made() - sample.target) * counts).square().sum()
            error.backward()
            return error

        optimiser.step(closure)
    with torch.no_grad():
        return made(), displacement.detach()


def move(picture: Tensor, displacement: Tensor, mouth: Tensor) -> Tensor:
    """Each pixel of the `mouth` box `(1, 1, h, w)` taken from where `displacement (1, 2, n, n)` points, pixels."""
    h, w = picture.shape[-2:]
    top, bottom, left, right = mouth_window(mouth)
    inside = F.interpolate(displacement, (bottom - top, right - left), mode="bilinear", align_corners=True)
    full = F.pad(inside, (left, w - right, top, h - bottom))
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([x + full[0, 0], y + full[0, 1]], -1)[None]
    grid = 2 * places / torch.tensor([w - 1, h - 1]) - 1
    return F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--appearance", default="appearance_small")
    parser.add_argument("--per-clip", type=int, default=3, help="targets per clip (default 3)")
    options = parser.parse_args()
    model, clips = load_appearance(options.appearance), read_clips(options.data, "val")
    rows, shifts = defaultdict(list), []
    for clip, raw in validation_samples(clips, model.params, options.per_clip):
        sample = make_sample(model.params, [raw])
        with torch.no_grad():
            picture = network(model)(raw, sample)
        for name, oracle in ORACLES.items():
            made, displacement = improve(picture, sample, oracle)
            rows[name].append((clip, mouth_scores(made, sample)))
            if oracle == Oracle(1):
                shifts.append(displacement.norm().item())
    for name, scored in rows.items():
        mean = corpus_mean(per_corpus(scored))
        print(f"| {name} | " + " | ".join(f"{mean[figure]:.3f}" for figure in FIGURES) + " |")
    middle, far = np.percentile(shifts, [50, 90])
    print(f"moved by {middle:.2f} pixels (median), a tenth of the pictures by more than {far:.2f}")


if __name__ == "__main__":
    main()
