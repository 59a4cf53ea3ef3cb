"""Figures of the appearance model's card: the mouth box on validation people, beside pictures made without a network.

    python benchmarks/appearance_figures.py data/prepared
    python benchmarks/appearance_figures.py data/prepared --per-clip 6 --against OTHER.safetensors

References come from the first half of a clip, targets from the second: for each target the nearest mouths and the
regression on all of them, or three fixed ones and the regression on those. True landmarks, faces of at least 100 px; a
corpus' figure is its clips' median, "mean" that of the corpora. A corpus has three to twenty clips, and medians of
so few jump by a quarter of a decibel from one choice of targets to another: `--against` compares two networks clip by
clip instead, with an interval of 95 %.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from comfyui_mytalk.appearance.blend import match_colour
from comfyui_mytalk.appearance.light import face_oval, shared_skin
from comfyui_mytalk.appearance.mask import face_region, nose_region
from comfyui_mytalk.appearance.model import AppearanceModel, load_appearance
from comfyui_mytalk.appearance.params import AppearanceParams
from comfyui_mytalk.appearance.references import FIXED, reference_features
from comfyui_mytalk.training.appearance_data import RawSample, Sample, make_sample
from comfyui_mytalk.training.appearance_validation import (
    FIGURES,
    Method,
    corpus_mean,
    long_enough,
    mouth_scores,
    network,
    score_corpora,
    validation_samples,
)
from comfyui_mytalk.training.clips import PreparedClip, read_clips


def nearest(raw: RawSample) -> int:
    """The reference whose lips are most like the target's, as retrieval sees them."""
    features = reference_features(torch.cat([raw.points[None], raw.reference_points]), raw.crop.shape[-1])
    return int((features[1:] - features[0]).norm(dim=1).argmin())


def copy_best(window: tuple[int, int, int, int]) -> Method:
    top, bottom, left, right = window
    return lambda raw, sample: raw.images[nearest(raw)][None, :, top:bottom, left:right]


def warp_best(raw: RawSample, sample: Sample) -> Tensor:
    return sample.inputs.references[:, nearest(raw)]


def first_reference(raw: RawSample, sample: Sample) -> Tensor:
    return sample.inputs.references[:, 0]


def warp_mean(raw: RawSample, sample: Sample) -> Tensor:
    return sample.inputs.references.mean(1)


def as_pasted(model: AppearanceModel) -> Method:
    """The network's picture as it comes into the frame: colours matched, nose and neck the source's own."""
    paint = network(model)

    def method(raw: RawSample, sample: Sample) -> Tensor:
        source, points, size = raw.crop[None], raw.points[None], raw.crop.shape[-1]
        top, bottom, left, right = model.params.window or (0, size, 0, size)
        window = (Ellipsis, slice(top, bottom), slice(left, right))
        made, mask = source.clone(), torch.zeros_like(source[:, :1])
        made[window], mask[window] = paint(raw, sample), sample.mask
        mask = torch.minimum(mask, face_region(points, points, size)) * (1 - nose_region(points, size))
        face, skin = face_oval(points, size), shared_skin(points, points, size)
        return torch.lerp(source, match_colour(made, source, mask, face, skin), mask)[window]

    return method


def scored(
    model: AppearanceModel, clips: list[PreparedClip], per_clip: int, fixed: bool
) -> Iterator[tuple[PreparedClip, tuple[float, ...]]]:
    """What the network paints of every target, shown as many references as it takes."""
    for clip, raw in validation_samples(clips, model.params, per_clip, fixed):
        sample = make_sample(model.params, [raw])
        yield clip, mouth_scores(network(model)(raw, sample), sample)


@torch.no_grad()
def compare(model: AppearanceModel, other: AppearanceModel, clips: list[PreparedClip], per_clip: int) -> None:
    """Print how much nearer `model` is than `other`, mean over clips of the mean over each clip's targets."""
    most = max(one.params.references for one in (model, other))
    clips = [clip for clip in clips if long_enough(clip, most, per_clip)]  # for both the same
    for fixed in (False, True):
        found: dict[str, list[tuple[tuple[float, ...], ...]]] = defaultdict(list)
        for shown in zip(*(scored(one, clips, per_clip, fixed) for one in (model, other)), strict=True):
            found[str(shown[0][0].path)].append(tuple(scores for _, scores in shown))
        means = np.array([np.mean(rows, 0) for rows in found.values()])  # (clips, 2, figures)
        apart = means[:, 0] - means[:, 1]
        spread = 1.96 * apart.std(0, ddof=1) / len(apart) ** 0.5
        kind = "three fixed references" if fixed else "all of the first half"
        print(f"{kind}, {len(apart)} clips, nearer on {int((apart[:, 0] > 0).sum())}")
        for name, ours, theirs, more, interval in zip(FIGURES, *means.mean(0), apart.mean(0), spread, strict=True):
            print(f"| {name} | {ours:.4f} | {theirs:.4f} | {more:+.4f} ± {interval:.4f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--appearance", default="appearance_small")
    parser.add_argument("--per-clip", type=int, default=4, help="targets per clip (default 4)")
    parser.add_argument("--against", help="other weights, to compare with clip by clip")
    options = parser.parse_args()
    model, clips = load_appearance(options.appearance), read_clips(options.data, "val")
    if options.against:
        return compare(model, load_appearance(options.against), clips, options.per_clip)
    plain, learnt = replace(model.params, aligned=True, regression=False, references=FIXED), model.params
    rows: dict[str, tuple[Method, AppearanceParams]] = {
        "copy of the best reference": (copy_best(learnt.window or (0, learnt.size) * 2), plain),
        "warp of the best reference": (warp_best, plain),
        "mean of the three warps": (warp_mean, plain),
        "regression": (first_reference, replace(plain, regression=True)),
        "network": (network(model), learnt),
        "network, as it is pasted": (as_pasted(model), learnt),
    }
    for fixed in (False, True):
        used = {clip.path for clip, _ in validation_samples(clips, plain, 1, fixed)}
        kind = "three fixed references" if fixed else "all of the first half"
        print(f"\n{kind}, {len(used)} clips: PSNR / SSIM / sharpness")
        for name, (method, params) in rows.items():
            with torch.no_grad():
                scores = score_corpora(clips, method, params, options.per_clip, fixed)
            scores = {"mean": corpus_mean(scores)} | scores
            cells = ("{psnr:.2f} / {ssim:.3f} / {sharpness:.2f}".format(**row) for row in scores.values())
            print(
                f"| {name} |",
                " | ".join(f"{corpus} {cell}" for corpus, cell in zip(scores, cells, strict=True)),
                "|",
                flush=True,
            )


if __name__ == "__main__":
    main()
