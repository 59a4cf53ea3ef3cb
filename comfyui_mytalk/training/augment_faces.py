"""Other people out of the ones that there are: faces mirrored, reshaped and recoloured, with their landmarks.

    k references   n points   s crop side in pixels

A target and its references are changed alike, as if all had been filmed of one other person; only a little of the
colour differs between them, as exposure does within a film.
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


def mirror(raw: RawSample) -> RawSample:
    """Flip left and right, pictures and landmarks alike."""
    size = raw.crop.shape[-1]

    def flip_points(points: Tensor) -> Tensor:
        flipped = points[..., mirror_index(), :].clone()
        flipped[..., 0] = size - flipped[..., 0]
        return flipped

    pictures = {name: getattr(raw, name).flip(-1) for name in ("crop", "mask", "images", "reference_masks")}
    return replace(
        raw, **pictures, **{name: flip_points(getattr(raw, name)) for name in ("points", "reference_points")}
    )


def colour_jitter(raw: RawSample, rng: np.random.Generator) -> RawSample:
    """Gamma, gain and channel balance for the clip, and a little of it between target and each reference."""

    def change(picture: Tensor, strength: float) -> Tensor:
        gamma = float(np.exp(rng.normal(0, 0.25 * strength)))
        gain = torch.from_numpy(np.exp(rng.normal(0, 0.12 * strength, (3, 1, 1)))).float()
        return (picture.clamp(1e-4, 1) ** gamma * gain).clamp(0, 1)

    state = rng.bit_generator.state
    crop, shared = change(raw.crop, 1.0), []
    for image in raw.images:
        rng.bit_generator.state = state  # the clip's own change, the same for all its frames
        shared.append(change(image, 1.0))
    return replace(raw, crop=crop, images=torch.stack([change(image, 0.15) for image in shared]))


def reshape_face(raw: RawSample, rng: np.random.Generator) -> RawSample:
    """Another face: stretched, turned, sheared and bent smoothly, at random."""
    size = raw.crop.shape[-1]
    stretch = torch.from_numpy(np.exp(rng.normal(0, STRETCH, 2))).float()
    turn, shear = rng.normal(0, TURN, 2)
    matrix = torch.tensor([[np.cos(turn), shear - np.sin(turn)], [np.sin(turn), np.cos(turn)]]).float() / stretch
    lattice = torch.from_numpy(rng.normal(0, BEND * size / CROP_SIZE, (1, 2, BEND_POINTS, BEND_POINTS))).float()
    bend = F.interpolate(lattice, (size, size), mode="bicubic", align_corners=True)
    shape = FaceShape(matrix, bend, torch.tensor(CENTRE) * size)
    return replace(
        raw,
        crop=shape.picture(raw.crop[None])[0],
        points=shape.points(raw.points),
        mask=shape.picture(raw.mask[None], "bilinear")[0],
        images=shape.picture(raw.images),
        reference_points=shape.points(raw.reference_points),
        reference_masks=shape.picture(raw.reference_masks, "bilinear"),
        openings=raw.openings * stretch[1],
    )


@dataclass(frozen=True)
class FaceShape:
    """A map of crops: what appears at p was at `matrix @ (p - centre) + centre + bend(p)`, pixels."""

    matrix: Tensor  # (2, 2)
    bend: Tensor  # (1, 2, s, s)
    centre: Tensor  # (2,)

    def picture(self, pictures: Tensor, mode: str = "bicubic") -> Tensor:
        """The changed `pictures (k, c, s, s)`, 0..1."""
        size = pictures.shape[-1]
        at = torch.arange(size) + 0.5
        place = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)
        source = (place - self.centre) @ self.matrix.T + self.centre + self.bend[0].permute(1, 2, 0)
        grid = (source / size * 2 - 1).expand(len(pictures), -1, -1, -1)
        return F.grid_sample(pictures, grid, mode=mode, padding_mode="border", align_corners=False).clamp(0, 1)

    def points(self, points: Tensor) -> Tensor:
        """Where landmarks `(..., n, 2)` go to: the map's inverse, by iteration."""
        inverse, size, moved = torch.linalg.inv(self.matrix), self.bend.shape[-1], points
        for _ in range(ROUNDS):
            grid = (moved / size * 2 - 1).reshape(1, 1, -1, 2)
            bend = F.grid_sample(self.bend, grid, padding_mode="border", align_corners=False)[0, :, 0].T
            moved = (points - bend.reshape(points.shape) - self.centre) @ inverse.T + self.centre
        return moved
