"""Frames painted with another frame's mouth, against that frame: what other words look like, with a truth to compare.

    python benchmarks/pair_figures.py data/prepared
    python benchmarks/pair_figures.py data/prepared --light 0.12

For each person two frames of one film in which the upper face lies alike and the mouth does not. The first is painted
with the landmarks of the second one's mouth, from pictures far from both, pasted, and compared with the second.
`--light`: both frames are lit otherwise than the rest of their film, by a gain with this deviation, tinted and uneven.

Printed are means over people of PSNR where something is pasted and in the box of the mouth, and by how much brightness
and hue of cheeks and chin are off, in levels of 255 (root mean square, and in the worst fiftieth).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from comfyui_mytalk.appearance.blend import match_colour
from comfyui_mytalk.appearance.model import AppearanceModel, load_appearance
from comfyui_mytalk.appearance.render import References, render_crops, window_mask
from comfyui_mytalk.geometry import Geometry
from comfyui_mytalk.landmarks.canonical import from_canonical
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.training.appearance_data import ClipView, mouth_boxes, nearest
from comfyui_mytalk.training.clips import PreparedClip, read_clips

LOOKED = 40  # frames of a film that are tried as the first of a pair
ALIKE, UNLIKE = 1.5, 0.2  # pixels of a crop between upper faces at most, cm between lips at least
MIN_FACE, MIN_FRAMES, FEWEST = 90.0, 40, 8


class Pair(NamedTuple):
    """Two frames of a clip, the frames that may be references, and how the two are lit."""

    view: ClipView
    first: int
    second: int
    allowed: np.ndarray
    gain: Tensor  # (3, s, s)


def find_pairs(clips: list[PreparedClip], light: float) -> Iterator[Pair]:
    """The most unlike mouths of each person's first clip that has a pair."""
    rng, found = np.random.default_rng(0), set()
    for clip in sorted(clips, key=lambda clip: (clip.identity, clip.path.stem)):
        if clip.identity in found or len(clip) < MIN_FRAMES or clip.face_px < MIN_FACE:
            continue
        view = ClipView(clip)
        pairs = [pair for frame in rng.permutation(view.frames)[:LOOKED] if (pair := partner(view, int(frame)))]
        if not pairs:
            continue
        _, first, second = max(pairs)
        far = (np.abs(view.frames - first) >= view.gap) & (np.abs(view.frames - second) >= view.gap)
        if far.sum() >= FEWEST:
            found.add(clip.identity)
            yield Pair(view, first, second, view.frames[far], uneven_gain(view.size, light, rng))


def partner(view: ClipView, first: int) -> tuple[float, int, int] | None:
    """How unlike the lips are, and the two frames; None where no upper face lies as in the `first`."""
    upper, lips = landmark_set("prefix"), landmark_set("lips_outer")
    apart = (view.points[view.frames][:, upper] - view.points[first, upper]).norm(dim=-1).mean(1)
    shapes = view.clip.canonical
    unlike = (shapes[view.frames][:, lips, :2] - shapes[first, lips, :2]).norm(dim=-1).mean(1)
    good = (apart < ALIKE) & (unlike > UNLIKE)
    if not good.any():
        return None
    best = int(torch.where(good, unlike - 0.1 * apart, -torch.inf).argmax())
    return float(unlike[best]), first, int(view.frames[best])


def uneven_gain(size: int, light: float, rng: np.random.Generator) -> Tensor:
    at = torch.linspace(-1, 1, size)
    brighter, right, down = rng.normal(0, light, 3)
    tint = torch.from_numpy(rng.normal(0, light / 3, 3)).float()[:, None, None]
    return (brighter + tint + right * at + down * 2 / 3 * at[:, None]).exp()


def score(model: AppearanceModel, pair: Pair) -> list[float]:
    """PSNR where something is pasted and in the mouth's box, brightness and hue of the skin minus the truth's."""
    view, first, second, allowed, gain = pair
    clip, at, size = view.clip, slice(pair.first, pair.first + 1), view.size
    shape, lower = clip.canonical[first].clone(), landmark_set("generated")
    shape[lower] = clip.canonical[second][lower]
    points = from_canonical(shape[None], clip.pose[at])
    place = Geometry(clip.pose[at], clip.transform[at], view.extent, clip.points[at])
    source, truth = ((clip.crops([frame]).float() / 255 * gain).clamp(0, 1) for frame in (first, second))
    view.know(allowed)
    raw = view.raw(second, nearest(view, second, allowed)[:2].tolist(), allowed)
    references = References(*(x[None] for x in (raw.images, raw.reference_points, raw.reference_masks, raw.openings)))
    hole, mask = (window_mask(model.params, part) for part in (place.hole(size), place.pasted(points, size)))
    wanted = place.crop_points(points)
    made = torch.maximum(
        render_crops(model, source, wanted, hole, references), place.least_light(points, size) * source
    )
    skin = place.skin(points, size)
    matched = match_colour(made, source, mask, place.face(size), skin).clamp(0, 1)
    error = torch.lerp(source, matched, mask) - truth
    off = weighted(error, skin * (mask > 0.8))
    squares = (
        weighted(error.square(), where).mean().item() for where in (mask, mouth_boxes(wanted, size) * (mask > 0))
    )
    brightness = float(off.mean())
    return [*(-10 * np.log10(x) for x in squares), 255 * brightness, 255 * float((off - brightness).abs().max())]


def weighted(pictures: Tensor, weight: Tensor) -> Tensor:
    """Mean of each channel `(3,)` of `pictures (1, 3, s, s)`."""
    return ((pictures * weight).sum((2, 3)) / weight.sum((2, 3)).clamp_min(1e-6))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--appearance", default="appearance_small")
    parser.add_argument("--light", type=float, default=0.0, help="deviation of the frames' own light (default 0)")
    parser.add_argument("--split", choices=("train", "val"), help="people of one split alone (default both)")
    options = parser.parse_args()
    splits = (options.split,) if options.split else ("train", "val")
    clips = [clip for split in splits for clip in read_clips(options.data, split)]
    model = load_appearance(options.appearance)
    rows = np.array([score(model, pair) for pair in find_pairs(clips, options.light)])
    pasted, mouth, brightness, hue = rows.T
    print(f"{len(rows)} people: pasted {pasted.mean():.2f} dB, mouth {mouth.mean():.2f} dB")
    for name, off in (("brightness", np.abs(brightness)), ("hue", hue)):
        print(f"{name} off by {np.sqrt((off**2).mean()):.2f} levels, worst fiftieth {np.quantile(off, 0.98):.1f}")


if __name__ == "__main__":
    main()
