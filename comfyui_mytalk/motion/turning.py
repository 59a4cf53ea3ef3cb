"""What a turn of the head does to a lower face whose pose was taken out.

    f frames

A mesh that is fitted to one picture guesses what it does not see: from the side the same face comes out with other
lips and another jaw than from the front, by a quarter of a centimetre in heads that turn by 20 degrees and more. A
mouth that is generated beside a resting mouth seen from elsewhere would then lie beside the face in the picture. What
the turn does is read from the clip itself, so that it can be taken off first and put on again. Not in the papers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..landmarks.canonical import Pose, mouth_opening, to_canonical
from ..landmarks.sets import landmark_set

if TYPE_CHECKING:
    from ..landmarks.track import FaceTrack

RIDGE = 1.0  # in squares of the face's direction: what a clip hardly shows has no effect
OPENING_RIDGE = 1e-3  # square centimetres


def turn_effect(track: FaceTrack) -> Tensor:
    """How the turn of the head displaces the generated points of a filmed clip `(f, 180, 3)`, canonical centimetres.

    0 on average over the usable frames, and in the others. The opening of the mouth takes part in the fit, so that none
    of it is explained by the head: an old mouth does not shine through.
    """
    return turn_effect_of(to_canonical(track.points, track.pose), track.pose, track.usable)


def turn_effect_of(canonical: Tensor, pose: Pose, usable: Tensor) -> Tensor:
    """As `turn_effect`, from pose-free landmarks `(f, 478, 3)`. Ridge regression on the face's direction."""
    lower, opening = canonical[:, landmark_set("generated")], mouth_opening(canonical)
    effect = torch.zeros_like(lower)
    if usable.sum() > 1:
        turn = _terms(pose.rotation)
        seen = torch.cat([turn, opening[:, None].double()], 1)[usable]
        seen, shown = (x - x.mean(0) for x in (seen, lower[usable].flatten(1).double()))
        ridge = torch.tensor([RIDGE] * turn.shape[1] + [OPENING_RIDGE], dtype=torch.float64)
        weights = torch.linalg.solve(seen.T @ seen + ridge.diag(), seen.T @ shown)
        moved = seen[:, : turn.shape[1]] @ weights[: turn.shape[1]]
        effect[usable] = moved.unflatten(1, lower.shape[1:]).to(effect)
    return effect


def _terms(rotation: Tensor) -> Tensor:
    """Powers of the direction of the face `(f, 7)`, to the side (x) and up (y)."""
    x, y = rotation[:, 0, 2].double(), rotation[:, 1, 2].double()
    return torch.stack([x, y, x * x, y * y, x * y, x**3, x * x * y], 1)
