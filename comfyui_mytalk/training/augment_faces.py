"""Other people out of the ones that there are: faces mirrored, reshaped and recoloured, with their landmarks.

    b batch   k references   n points   s crop side in pixels

A target and its references are changed alike, as if all had been filmed of one other person; only a little of the
colour differs between them, as exposure does within a film. Samples come stacked, and each is changed in its own way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks.align import CROP_SIZE
from ..landmarks.sets import mirror_index

if TYPE_CHECKING:
    from .appearance_data import RawSample

STRETCH = 0.1  # deviation of the logarithm of a face's width and height
TURN = 0.08  # of its turn and shear, radians
BEND = 3.0  # of the smooth displacement, pixels of a 256 crop
BEND_POINTS = 7  # a side of the lattice on which it is drawn
CENTRE = (0.5, 0.62)  # of the crop: what stays in place, about the mouth
ROUNDS = 6  # of the iteration that follows a point; each divides the error by ten


def mirror(raw: RawSample, which: Tensor) -> RawSample:
    """Flip left and right those samples that `which (b,)` bool says, pictures and landmarks alike."""
    size = raw.crop.shape[-1]

    def flipped(tensor: Tensor, other: Tensor) -> Tensor:
        return torch.where(which.to(tensor.device).view(-1, *[1] * (tensor.dim() - 1)), other, tensor)

    def flip_points(points: Tensor) -> Tensor:
        other = points[..., mirror_index().to(points.device), :].clone()
        other[..., 0] = size - other[..., 0]
        return flipped(points, other)

    pictures = {name: getattr(raw, name) for name in ("crop", "mask", "images", "reference_masks")}
    points = {name: flip_points(getattr(raw, name)) for name in ("points", "reference_points")}
    return replace(raw, **{name: flipped(x, x.flip(-1)) for name, x in pictures.items()}, **points)


def colour_jitter(raw: RawSample, rng: np.random.Generator) -> RawSample:
    """Gamma, gain and channel balance for the clip, and a little of it between target and each reference.

    Black stays black: it is what lies beyond the border of a frame.
    """
    b, k = raw.images.shape[:2]

    def draw(strength: float, *shape: int) -> tuple[Tensor, Tensor]:
        gamma = np.exp(rng.normal(0, 0.25 * strength, (*shape, 1, 1, 1)))
        gain = np.exp(rng.normal(0, 0.12 * strength, (*shape, 3, 1, 1)))
        return tuple(torch.from_numpy(x).float().to(raw.crop.device) for x in (gamma, gain))

    def change(picture: Tensor, gamma: Tensor, gain: Tensor) -> Tensor:
        return ((picture.clamp(1e-4, 1) ** gamma * gain) * (picture > 0)).clamp(0, 1)

    (gamma, gain), own = draw(1.0, b), draw(0.15, b, k)
    images = change(raw.images, gamma[:, None], gain[:, None])  # the clip's change, the same for all its frames
    return replace(raw, crop=change(raw.crop, gamma, gain), images=change(images, *own))


def reshape_face(raw: RawSample, rng: np.random.Generator) -> RawSample:
    """Other faces: stretched, turned, sheared and bent smoothly, at random."""
    b, size, device = len(raw.crop), raw.crop.shape[-1], raw.crop.device
    stretch = torch.from_numpy(np.exp(rng.normal(0, STRETCH, (b, 2)))).float()
    turn, shear = torch.from_numpy(rng.normal(0, TURN, (2, b))).float()
    rows = torch.stack([turn.cos(), shear - turn.sin(), turn.sin(), turn.cos()], -1).view(b, 2, 2)
    matrix, stretch = (rows / stretch[:, None]).to(device), stretch.to(device)
    lattice = torch.from_numpy(rng.normal(0, BEND * size / CROP_SIZE, (b, 2, BEND_POINTS, BEND_POINTS))).float()
    bend = F.interpolate(lattice.to(device), (size, size), mode="bicubic", align_corners=True)
    shape = FaceShape(matrix, bend, torch.tensor(CENTRE, device=device) * size)
    return replace(
        raw,
        crop=shape.picture(raw.crop[:, None])[:, 0],
        points=shape.points(raw.points[:, None])[:, 0],
        mask=shape.picture(raw.mask[:, None], "bilinear")[:, 0],
        images=shape.picture(raw.images),
        reference_points=shape.points(raw.reference_points),
        reference_masks=shape.picture(raw.reference_masks, "bilinear"),
        openings=raw.openings * stretch[:, 1:],
    )


@dataclass(frozen=True)
class FaceShape:
    """Maps of crops: what appears at p was at `matrix @ (p - centre) + centre + bend(p)`, pixels."""

    matrix: Tensor  # (b, 2, 2)
    bend: Tensor  # (b, 2, s, s)
    centre: Tensor  # (2,)

    def picture(self, pictures: Tensor, mode: str = "bicubic") -> Tensor:
        """The changed `pictures (b, k, c, s, s)`, 0..1."""
        b, k = pictures.shape[:2]
        size = pictures.shape[-1]
        at = torch.arange(size, device=pictures.device) + 0.5
        place = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).view(-1, 2) - self.centre
        source = place @ self.matrix.mT + self.centre + self.bend.flatten(2).mT  # (b, s * s, 2)
        grid = (source / size * 2 - 1).view(b, size, size, 2).repeat_interleave(k, 0)
        moved = F.grid_sample(pictures.flatten(0, 1), grid, mode=mode, padding_mode="border", align_corners=False)
        return moved.clamp(0, 1).unflatten(0, (b, k))

    def points(self, points: Tensor) -> Tensor:
        """Where landmarks `(b, k, n, 2)` go to: the map's inverse, by iteration."""
        inverse, size = torch.linalg.inv(self.matrix)[:, None], self.bend.shape[-1]
        moved = points
        for _ in range(ROUNDS):
            bend = F.grid_sample(self.bend, moved / size * 2 - 1, padding_mode="border", align_corners=False)
            moved = (points - bend.permute(0, 2, 3, 1) - self.centre) @ inverse.mT + self.centre
        return moved
