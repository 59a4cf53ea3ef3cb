"""Pictures faded to black or to white as far as a film is: changes of light that no gain of `light.py` follows.

b batch   k references   s crop side in pixels
"""

from __future__ import annotations

import torch
from torch import Tensor

from .light import face_oval, in_frame

USUAL = (0.8, 1.25)  # change of a face's light that a gain follows by itself
DARKEST, BRIGHTEST = 0.01, 4.0  # of 0..1: light that is still compared; times that a picture is lit up
VEIL = (0.15, 0.25)  # of 0..1: white over the picture that may be shade, and that is none
FLAT = (0.85, 0.7)  # of the contrast is left: shade may do it, only a fade does
WHITE = (0.12, 0.06)  # from what a fade to white makes of the middle of a face; flat light leaves it where it was
LEVELS = (0.15, 0.5, 0.85)
COARSE = 4  # pixels: quantiles are of every fourth row and column


def faded(references: Tensor, others: Tensor, crops: Tensor, points: Tensor, visible: Tensor) -> Tensor:
    """`references (b, k, 3, s, s)` as far faded to black or white as `crops (b, 3, s, s)` are.

    Told from what is `visible (b, 1, s, s)` of the faces, whose landmarks `others (b, k, 478, 2)` and `points
    (b, 478, 2)` are in crop pixels. Not in the paper.
    """
    count, size = references.shape[1], crops.shape[-1] // COARSE
    few, crops, visible = (x[..., ::COARSE, ::COARSE] for x in (references.flatten(0, 1), crops, visible))
    wanted = _levels(crops, face_oval(points / COARSE, size) * visible * in_frame(crops))
    there = face_oval(others.flatten(0, 1) / COARSE, size) * visible.repeat_interleave(count, 0) * in_frame(few)
    change = fade(_levels(few, there), wanted.repeat_interleave(count, 1))
    scale, offset = (x.unflatten(0, (-1, count))[..., None, None] for x in change)
    return (references * scale + offset).clamp(0, 1)


def fade(levels: Tensor, wanted_levels: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and offset `(b, 3)` that take a picture with quantiles `levels (3, b, 3)` near to `wanted_levels`.

    1 and 0 but where a film fades to black or white, or lamps are switched or coloured: changes that no gain of
    `light_gain` follows.
    """
    (low, middle, high), (wanted_low, wanted_middle, wanted_high) = levels, wanted_levels
    contrast = (wanted_high - wanted_low).mean(1) / (high - low).mean(1).clamp_min(DARKEST)
    veil = (wanted_middle - contrast[:, None] * middle).clamp_min(0)
    white = 1 - contrast * (1 - middle.mean(1))  # what a fade that left this contrast makes of the middle
    off_white = (wanted_middle.mean(1) - white).abs()
    sure = _between(veil.mean(1), VEIL) * _between(contrast, FLAT) * _between(off_white, WHITE)
    change = wanted_levels / levels.clamp_min(DARKEST)  # a fade changes dark and bright alike, shade on half a face not
    change = change.amin(0).clamp_min(1) * change.amax(0).clamp_max(1)
    change = (change / change.clamp(*USUAL)).clamp(max=BRIGHTEST)
    sure, known = sure[:, None], (levels + wanted_levels).isfinite().all(0)
    scale, offset = torch.lerp(change, contrast[:, None].expand_as(change), sure), sure * veil
    return torch.where(known, scale, 1.0), torch.where(known, offset, 0.0)


def _between(values: Tensor, bounds: tuple[float, float]) -> Tensor:
    """0 at the first of `bounds` to 1 at the second."""
    return ((values - bounds[0]) / (bounds[1] - bounds[0])).clamp(0, 1)


def _levels(pictures: Tensor, weight: Tensor) -> Tensor:
    """Quantiles `(3, b, 3)` of each channel of `pictures (b, 3, h, w)` where `weight (b, 1, h, w)` mostly is: a hand in
    the picture changes them little. NaN where nothing is shown."""
    values = torch.where(weight > 0.5, pictures, torch.nan).flatten(2).float()
    return values.nanquantile(values.new_tensor(LEVELS), 2)
