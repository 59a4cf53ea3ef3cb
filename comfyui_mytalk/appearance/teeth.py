"""Between the lips, what is shown of one mouth rather than the mean of many. Not in the paper.

    b batch   k references   h w window of the crop in pixels

Landmarks say little of teeth and tongue, so the picture that errs least is a grey mean of all that they may be: a
regression gives it, and a network that is trained on errors. A mouth that is believed has the teeth of some frame.
"""

from __future__ import annotations

import math

from torch import Tensor

from ..landmarks.align import CROP_SIZE
from .inside import between, inner_lips
from .layers import blur
from .references import reference_features

EDGE = 1.0  # pixels of a 256 crop over which teeth give way to lips
NEAREST = 24.0  # power by which mouths farther away say less of teeth: 1.1 times as far, a tenth
SAME = 0.01  # cm


def show_teeth(
    picture: Tensor, mouths: Tensor, points: Tensor, target: Tensor, corner: tuple[int, int], size: int, sigma: float
) -> Tensor:
    """`picture (b, 3, h, w)` with what `mouths (b, k, 3, h, w)` show between the lips, finer than a Gaussian of `sigma`
    pixels: how light it is there on the whole stays.

    `points (b, k, 478, 2)` are the landmarks of these mouths before they were moved onto `target (b, 478, 2)`, in
    pixels of a crop of side `size`; the nearest has most weight, so that teeth do not jump as another becomes the
    nearest. `corner` as below.
    """
    own, wanted = (reference_features(x, size) for x in (points.flatten(0, 1), target))
    apart = (own.unflatten(0, points.shape[:2]) - wanted[:, None]).norm(dim=2).clamp_min(SAME)
    share = (-NEAREST * apart.log()).softmax(1)[:, :, None, None, None]
    inside, edge = between(*inner_lips(target, corner, picture.shape[-2:])), EDGE * size / CROP_SIZE
    box = _box(inside, math.ceil(3 * sigma) + math.ceil(3 * edge))
    inside = blur(inside[:, None][box], edge)
    missing = ((share * mouths[(slice(None), *box)]).sum(1) - picture[box]).float()
    made = picture.clone()
    made[box] += (inside * (missing - blur(missing, sigma))).to(picture.dtype)
    return made


def _box(inside: Tensor, margin: int) -> tuple[slice, ...]:
    """Index of the rows and columns of pictures `(b, c, h, w)` around what is `inside (b, h, w)`."""
    found = [inside.amax(axes).nonzero()[:, 0].tolist() or [0] for axes in ((0, 2), (0, 1))]
    return (slice(None), slice(None), *(slice(max(0, at[0] - margin), at[-1] + 1 + margin) for at in found))
