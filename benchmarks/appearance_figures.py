"""Figures of the appearance model's card: the mouth box on validation people, beside pictures made without a network.

    python benchmarks/appearance_figures.py data/prepared

References come from the first half of a clip, targets from the second: for each target the nearest mouths and the
regression on all of them, or three fixed ones and the regression on those. True landmarks, faces of at least 100 px; a
corpus' figure is its clips' median, "mean" that of the corpora.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from comfyui_mytalk.appearance.blend import match_colour
from comfyui_mytalk.appearance.light import face_oval
from comfyui_mytalk.appearance.mask import face_region
from comfyui_mytalk.appearance.model import AppearanceModel, load_appearance
from comfyui_mytalk.appearance.params import AppearanceParams
from comfyui_mytalk.appearance.references import reference_features
from comfyui_mytalk.training.appearance_data import RawSample, Sample
from comfyui_mytalk.training.appearance_validation import (
    Method,
    corpus_mean,
    network,
    score_corpora,
    validation_samples,
)
from comfyui_mytalk.training.clips import read_clips


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
    """The network's picture as it comes into the frame: colours matched, and the neck the source's own."""
    paint = network(model)

    def method(raw: RawSample, sample: Sample) -> Tensor:
        source, size = raw.crop[None], raw.crop.shape[-1]
        top, bottom, left, right = model.params.window or (0, size, 0, size)
        window = (Ellipsis, slice(top, bottom), slice(left, right))
        made, mask = source.clone(), torch.zeros_like(source[:, :1])
        made[window], mask[window] = paint(raw, sample), sample.mask
        mask = torch.minimum(mask, face_region(raw.points[None], raw.points[None], size))
        face = face_oval(raw.points[None], size)
        return torch.lerp(source, match_colour(made, source, mask, face), mask)[window]

    return method


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--appearance", default="appearance_small")
    parser.add_argument("--per-clip", type=int, default=4, help="targets per clip (default 4)")
    options = parser.parse_args()
    model, clips = load_appearance(options.appearance), read_clips(options.data, "val")
    plain, learnt = replace(model.params, aligned=True, regression=False), model.params
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
