"""Pictures in which something covers the lower face: a hand, a cup, a microphone. Not in the papers.

    m pictures   s crop side in pixels

Such a picture must not be painted from: a chin made of it has fingers. Nothing here knows what hands look like. Each
picture is foretold from all others by the regression on landmarks; what differs from that broadly, beside the mouth, is
something that landmarks do not know of. Heads that turn differ too, and are let be: their pictures are needed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks.sets import contour, landmark_set
from .layers import blur
from .light import plane_terms
from .mask import NOSE_BASE, soft_hull
from .regression import PictureRegression

SIDE = 64  # pixels of a crop's side at which pictures are compared
BLUR = 1.5  # of these pixels: a finger is broader, an edge that lies a little off is not
LIMIT = 0.15  # of 0..1: hands reach it, and a few pictures of one in fifteen clips without them
TURNED = 0.25  # radians from the clip's usual direction, from which on a picture may differ
MOMENT = 1.0  # seconds; a third of the clip if that is less
ROUND = 0.2  # of those beyond the limit, the worst, left out at a time: they spoil what is foretold of the others
LEAST = 12  # pictures from which others can be foretold
MOST = 0.75  # of the pictures that are left out
LIPS_GROW = 8.0  # pixels of a 256 crop around the lips: mouths differ anyway, and lips that are pursed pull at the skin
FEATHER = 6.0


def covered_pictures(crops: Tensor, points: Tensor, rotation: Tensor, times: Tensor) -> Tensor:
    """Which of the `crops (m, 3, s, s)` uint8 show a covered face `(m,)` bool, at most three quarters of them.

    `points (m, 478, 2)` are landmarks in crop pixels, `rotation (m, 3, 3)` the heads' (`Pose`), `times (m,)`
    seconds.
    """
    covered, points = torch.zeros(len(crops), dtype=torch.bool), points * (SIDE / crops.shape[-1])
    small = F.interpolate(crops.float(), size=(SIDE, SIDE), mode="area").round().byte()
    straight = ~_turned(rotation)
    while len(crops) >= LEAST and len(kept := (~covered).nonzero()[:, 0]) > len(crops) * (1 - MOST) and len(kept) > 2:
        seen = PictureRegression.of(small[kept], points[kept])
        strange = _strangeness(seen, points[kept], times[kept]) * straight[kept]
        beyond = int((strange > LIMIT).sum())
        if not beyond:
            break
        room = len(kept) - int(len(crops) * (1 - MOST))
        worst = strange.argsort(descending=True, stable=True)[: min(room, math.ceil(beyond * ROUND))]
        covered[kept[worst]] = True
    return covered


def _turned(rotation: Tensor) -> Tensor:
    """Heads `(m,)` that look elsewhere than usual, by the direction of the face."""
    direction = rotation[..., 2]
    usual = F.normalize(direction.median(0).values, dim=0)
    return (direction @ usual).clamp(-1, 1).acos() > TURNED


def _strangeness(seen: PictureRegression, points: Tensor, times: Tensor) -> Tensor:
    """By how much each picture differs from what those of other moments foretell, where it does most `(m,)`, 0..1.

    A hand rests: pictures of the same moment would foretell it. What is linear in x and y is light.
    """
    apart = (times[:, None] - times).abs()
    others = apart > min(MOMENT, apart.max().item() / 3)
    foretold = seen.picture(seen.weights(points, others))
    face, residual = _beside_the_mouth(seen.base[None]), seen.pictures.float() / 255 - foretold
    residual = residual - _light(residual, face)
    return blur(residual.abs().mean(1, keepdim=True) * face, BLUR).amax((1, 2, 3))


def _light(pictures: Tensor, face: Tensor) -> Tensor:
    """What of `pictures (m, 3, h, w)` is linear in x and y, by least squares in the `face (1, 1, h, w)`."""
    terms, weight = plane_terms(pictures).flatten(1), face.flatten()
    normal = (terms * weight) @ terms.T + 1e-3 * torch.eye(len(terms))
    found = torch.linalg.solve(normal, (terms * weight) @ pictures.flatten(2).flatten(0, 1).T)
    return (found.T @ terms).view_as(pictures)


def _beside_the_mouth(base: Tensor) -> Tensor:
    """Soft mask `(1, 1, SIDE, SIDE)` of the face below the nose without lips and teeth."""
    oval = soft_hull(base[:, contour("face_oval_ring")], SIDE, FEATHER)
    mouth = soft_hull(base[:, landmark_set("lips_outer")], SIDE, FEATHER, grow=LIPS_GROW)
    below = torch.arange(SIDE) + 0.5 > base[0, list(NOSE_BASE), 1].mean()
    return oval * (1 - mouth) * below[:, None]
