"""Attention mesh (Grishchenko et al., arXiv 2006.10962): 478 points of one face from one region of interest.

f frames   r regions of interest   n points (478)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .crop import crop_regions
from .detector import region_of
from .graph import Graph
from .sets import POINTS, mirror_index

INPUT_SIZE = 192
MESH_POINTS = 468  # without the irises
IRIS_POINTS = 5
EYE_CONTOUR = 16  # an eye region's points start with the contour of the eye
EYE_CORNERS = (33, 263)  # outer corners: they give the region's turn


class FaceMesh(nn.Module):
    """Points and presence of the faces in given regions."""

    def __init__(self, graph: Graph, regions: list[dict[str, Any]]):
        super().__init__()
        self.graph = graph
        self.lips, self.eye_right, self.eye_left = (region["points"] for region in regions)

    def forward(self, frames: Tensor, index: Tensor, regions: Tensor, mirrored: bool = False) -> tuple[Tensor, Tensor]:
        """Points `(r, 478, 3)` in frame pixels and the probability `(r,)` that there is a face; both on the CPU.

        `frames (f, h, w, 3)` uint8, `index (r,)` the frame of each of `regions (r, 4)`. z is of the same scale
        as x and y and grows away from the camera. `mirrored`: the network sees each face flipped left to right, as it
        would in a flipped film; the points are those of the face as it is.
        """
        if not len(regions):
            return torch.zeros(0, POINTS, 3), torch.zeros(0)
        seen = flipped_reading(regions) if mirrored else regions
        crops = crop_regions(frames, index, seen, INPUT_SIZE, outside="edge")
        mesh, *refined, presence = (
            output.flatten(1).cpu() for output in self.graph((crops.flip(-1) if mirrored else crops) / 255)
        )
        points = self.combine(mesh, refined) / INPUT_SIZE
        if mirrored:
            points = points[:, mirror_index()] * points.new_tensor([-1, 1, 1]) + points.new_tensor([1, 0, 0])
        return from_region(points, regions), presence[:, 0].sigmoid()

    def both_ways(self, frames: Tensor, index: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, the mean of what the network says of each face as it is and mirrored.

        Its points tremble by half a pixel (of a 256 px crop) with every shift of the region, and it favours a side.
        The mean trembles less and favours none: pictures warped by it lie 0.2 dB nearer (docs/experiments.md).
        """
        points, presence = self(frames, index, regions)
        return (points + self(frames, index, regions, mirrored=True)[0]) / 2, presence

    def combine(self, mesh: Tensor, refined: list[Tensor]) -> Tensor:
        """Put the refined lips, eyes and irises `(r, 2 n)` into the coarse mesh `(r, 1404)` -> `(r, 478, 3)`."""
        points = mesh.new_zeros(len(mesh), POINTS, 3)
        points[:, :MESH_POINTS] = mesh.view(-1, MESH_POINTS, 3)
        irises = [list(range(first, first + IRIS_POINTS)) for first in (MESH_POINTS, MESH_POINTS + IRIS_POINTS)]
        places = (self.lips, self.eye_right, self.eye_left, *irises)
        for place, values in zip(places, refined, strict=True):
            points[:, place, :2] = values.view(len(mesh), -1, 2)
        for iris, eye in zip(irises, (self.eye_right, self.eye_left), strict=True):
            points[:, iris, 2] = points[:, eye[:EYE_CONTOUR], 2].mean(1, keepdim=True)
        return points


def from_region(points: Tensor, regions: Tensor) -> Tensor:
    """Points `(r, n, 3)` in 0..1 of their region -> frame pixels."""
    x, y, z = (points - points.new_tensor([0.5, 0.5, 0.0])).unbind(-1)
    centre_x, centre_y, side, angle = regions[:, :, None].unbind(1)
    c, s = angle.cos() * side, angle.sin() * side
    return torch.stack([c * x - s * y + centre_x, s * x + c * y + centre_y, z * side], -1)


def flipped_reading(regions: Tensor) -> Tensor:
    """Regions `(r, 4)` whose crops, flipped, are what `crop_regions` would cut out of a flipped film.

    It reads its first pixel at a region's very edge and its last one pixel short of the other, which a flip swaps;
    and pixel 0 of a row becomes the last, not the one after it.
    """
    x, y, side, angle = regions.unbind(1)
    step = side / INPUT_SIZE
    return torch.stack([x + step * angle.cos() - 1, y + step * angle.sin(), side, angle], 1)


def region_from_points(points: Tensor) -> Tensor:
    """Where the mesh should look next: regions `(r, 4)` around `points (r, 478, 3)`."""
    xy = points[..., :2]
    return region_of(torch.cat([xy.amin(1), xy.amax(1)], -1), xy[:, EYE_CORNERS])
