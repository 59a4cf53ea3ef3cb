"""The canonical frame: head pose per frame, and landmarks with the pose taken out, in centimetres.

    f frames   n points (478)

Canonical axes are those of MediaPipe's canonical face model: x to the picture's right, y up, z towards
the camera, origin between the eyes' depth and the ears, unit centimetre. Pixels are `(x, y)` with y down
and a z of the same scale that grows away from the camera, as the attention mesh gives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..data import read_data

# MediaPipe's own procrustes basis (geometry_pipeline_metadata_landmarks, Apache-2.0) without its eight
# jaw and lower-cheek points: whatever moves in speech must not move the pose.
ANCHOR_WEIGHTS = {
    4: 0.070909939706326, 6: 0.032100144773722, 10: 0.008446550928056, 33: 0.058724168688059,
    54: 0.007667080033571, 67: 0.009078059345484, 117: 0.009791937656701, 119: 0.014565368182957,
    121: 0.018591361120343, 127: 0.005197994410992, 129: 0.120625205338001, 133: 0.053286183625460,
    143: 0.014816547743976, 198: 0.025462191551924, 263: 0.058724168688059, 284: 0.007667080033571,
    297: 0.009078059345484, 346: 0.009791937656701, 348: 0.014565368182957, 350: 0.018591361120343,
    356: 0.005197994410992, 358: 0.120625205338001, 362: 0.053286183625460, 372: 0.014816547743976,
    420: 0.025462191551924,
}  # fmt: skip
FLIP = (1.0, -1.0, -1.0)  # pixel axes -> canonical axes: a half turn about x
INNER_LIPS = (13, 14)  # middle of the upper and of the lower inner lip


@cache
def canonical_face() -> Tensor:
    """The canonical face's 468 vertices `(468, 3)`, centimetres."""
    return torch.from_numpy(np.array(read_data("canonical_face.json")["vertices"], dtype=np.float32))


@cache
def canonical_triangles() -> Tensor:
    """The canonical face's 898 triangles `(898, 3)`, indices into the 468 vertices."""
    return torch.tensor(read_data("canonical_face.json")["triangles"], dtype=torch.long)


@dataclass(frozen=True)
class Pose:
    """Head pose per frame: `pixels = scale * canonical @ rotation.T + translation`, up to the axis flip.

    scale `(f,)` pixels per centimetre, rotation `(f, 3, 3)`, translation `(f, 3)` in flipped pixels.
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def __getitem__(self, frames: slice | Tensor) -> Pose:
        return Pose(self.scale[frames], self.rotation[frames], self.translation[frames])

    def __len__(self) -> int:
        return self.scale.shape[0]

    @property
    def roll(self) -> Tensor:
        """In-plane rotation `(f,)`, radians, positive when the head leans to the picture's right."""
        return torch.atan2(-self.rotation[:, 1, 0], self.rotation[:, 0, 0])

    @property
    def yaw(self) -> Tensor:
        """Turn to the side `(f,)`, radians."""
        return torch.asin(self.rotation[:, 0, 2].clamp(-1, 1))


def fit_pose(points: Tensor) -> Pose:
    """Weighted Procrustes (similarity) of the canonical face's upper anchors onto `points (f, 478, 3)`.

    Depends on the upper face only, so a moving mouth never changes the pose. Solved in float64.
    """
    index = torch.tensor(list(ANCHOR_WEIGHTS), device=points.device)
    weight = torch.tensor(list(ANCHOR_WEIGHTS.values()), dtype=torch.float64, device=points.device)
    weight = weight / weight.sum()
    source = canonical_face().to(points.device, torch.float64)[index]
    target = points[:, index].double() * points.new_tensor(FLIP).double()
    source_mean, target_mean = weight @ source, torch.einsum("n,fnc->fc", weight, target)
    source, target = source - source_mean, target - target_mean[:, None]
    covariance = torch.einsum("n,fni,nj->fij", weight, target, source)
    u, s, vt = torch.linalg.svd(covariance)
    sign = torch.ones_like(s)
    sign[:, 2] = torch.det(u @ vt).sign()  # a reflection is not a head pose
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(-1) / (weight[:, None] * source.square()).sum()
    translation = target_mean - scale[:, None] * (rotation @ source_mean)
    return Pose(scale.float(), rotation.float(), translation.float())


def to_canonical(points: Tensor, pose: Pose) -> Tensor:
    """Pixels `(f, n, 3)` -> canonical centimetres `(f, n, 3)`. Inverse of `from_canonical`."""
    flipped = points * points.new_tensor(FLIP) - pose.translation[:, None]
    return (flipped @ pose.rotation) / pose.scale[:, None, None]


def from_canonical(points: Tensor, pose: Pose) -> Tensor:
    """Canonical centimetres `(f, n, 3)` -> pixels `(f, n, 3)`. Inverse of `to_canonical`."""
    flipped = pose.scale[:, None, None] * (points @ pose.rotation.mT) + pose.translation[:, None]
    return flipped * points.new_tensor(FLIP)


def mouth_opening(points: Tensor) -> Tensor:
    """Distance `(...)` between the inner lips of landmarks `(..., 478, 2 or 3)`, in their own unit."""
    upper, lower = (points[..., point, :2] for point in INNER_LIPS)
    return (upper - lower).norm(dim=-1)
