"""References without what covers them: what is hidden in one picture is taken from others. Not in the papers.

    m pictures   k of them   s crop side in pixels

Without this, a film with a microphone at the speaker's chin has next to no references: the mouths that it shows are
all in pictures that show the microphone too, and it would come back in every chin.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..landmarks.sets import landmark_sets
from .fine import enlarge
from .mask import soft_hull
from .references import reference_features
from .warp import align_references

LIPS = ("lips_outer",)
SPOILT = 0.05  # share of lips, chin and jaw: what covers them shows in pictures painted from this one
SPOILT_LIPS = 0.02  # share of the lips: a mouth from several pictures is none
NEAR = 6  # pictures looked at at a time
MOST = 24  # of them for one
LEFT = 0.01  # share of what is covered that need not be filled


def covers(shares: Tensor, points: Tensor, region: tuple[str, ...], limit: float) -> Tensor:
    """Whether `shares (m, 1, s, s)` 0..1 cover more than `limit` of a `region` `(m,)`, by landmarks `(m, 478, 2)`."""
    face = soft_hull(points[:, landmark_sets(*region), :2], shares.shape[-1], 1.0)
    return (face * shares).sum((1, 2, 3)) > limit * face.sum((1, 2, 3))


def uncover(crops: Tensor, points: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
    """Fill what is `covered (m, 1, s, s)` 0..1 in `crops (m, 3, s, s)` uint8 from the pictures of the likest mouths.

    These are moved onto each picture's own landmarks `points (m, 478, 2)`, crop pixels. Gives the filled pictures and
    what no other picture shows either, `(m, 1, s, s)`, which is left as it is.
    """
    filled, left = crops.clone(), covered.clone()
    features = reference_features(points, crops.shape[-1])
    layers = torch.cat([crops.float() / 255, covered], 1)
    for at in covered.flatten(1).any(1).nonzero()[:, 0].tolist():
        near = (features - features[at]).norm(dim=1).argsort(stable=True)
        picture, missing = layers[at, :3].clone(), covered[at].clone()
        for others in near[near != at][:MOST].split(NEAR):
            if missing.mean() < LEFT * covered[at].mean():
                break
            moved = align_references(layers[others][None], points[others][None], points[at][None])[0]
            for other in moved:
                given = torch.minimum(missing, 1 - other[3:])
                picture += given * (other[:3] - layers[at, :3])
                missing = missing - given
        filled[at], left[at] = (picture * 255).round().clamp(0, 255).byte(), missing
    return filled, left


def filled_in(larger: Tensor, filled: Tensor, covered: Tensor) -> Tensor:
    """The same pictures in a `larger (m, 3, F, F)` size, uint8, filled where `covered (m, 1, s, s)`."""
    size, made = larger.shape[-1], larger.clone()
    for at in covered.flatten(1).any(1).nonzero()[:, 0].tolist():
        share = enlarge(covered[at, None], size)[0]
        picture = enlarge(filled[at, None].float(), size)[0]
        made[at] = (larger[at] + share * (picture - larger[at])).round().byte()
    return made
