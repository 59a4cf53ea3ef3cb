"""Where the lower face is in each frame of a clip: pose, crops and masks, from landmarks alone.

f frames   s crop side
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .appearance.light import face_oval, shared_skin
from .appearance.mask import (
    MaskExtent,
    face_region,
    lip_mask,
    mask_extent,
    neck_light,
    nose_region,
    room_for_cheeks,
)
from .landmarks.align import apply_transform, invert
from .landmarks.canonical import Pose, to_canonical
from .landmarks.track import FaceTrack


@dataclass(frozen=True)
class Geometry:
    """Where the lower face is in each frame: fixed by the source's upper face, independent of any mouth.

    Only what is pasted depends on jaws as well: `pasted`.
    """

    pose: Pose
    transform: Tensor  # (f, 2, 3) crop pixels -> frame pixels
    extent: MaskExtent
    points: Tensor  # (f, 478, 3) the source's landmarks, frame pixels

    def __getitem__(self, frames: slice | Tensor) -> Geometry:
        return Geometry(self.pose[frames], self.transform[frames], self.extent, self.points[frames])

    def crop_points(self, points: Tensor) -> Tensor:
        """Frame landmarks `(f, 478, 3)` -> crop pixels `(f, 478, 2)`."""
        return apply_transform(invert(self.transform), points[..., :2])

    def mask(self, size: int) -> Tensor:
        """The lip mask `(f, 1, size, size)`: no pixel outside it is ever changed."""
        return lip_mask(self.pose, self.transform, self.extent, size)

    def hole(self, size: int) -> Tensor:
        """What the network paints `(f, 1, size, size)`."""
        return lip_mask(self.pose, self.transform, self.extent.hole, size)

    def pasted(self, points: Tensor, size: int) -> Tensor:
        """What is pasted `(f, 1, size, size)` of a picture with the landmarks `points (f, 478, 3)`."""
        source = self.crop_points(self.points)
        jaws = face_region(source, self.crop_points(points), size)
        return torch.minimum(self.mask(size), jaws) * (1 - nose_region(source, size))

    def face(self, size: int) -> Tensor:
        """The source's face without hair and neck `(f, 1, size, size)`."""
        return face_oval(self.crop_points(self.points), size)

    def skin(self, points: Tensor, size: int) -> Tensor:
        """Cheeks and chin `(f, 1, size, size)` of the source that pictures with the landmarks `points` show as well."""
        return shared_skin(self.crop_points(self.points), self.crop_points(points), size)

    def least_light(self, points: Tensor, size: int) -> Tensor:
        """Share of the source's light `(f, 1, size, size)` that a picture with the landmarks `points` keeps."""
        return neck_light(self.crop_points(self.points), self.crop_points(points), size)


def geometry(source: FaceTrack, *generated: FaceTrack) -> Geometry:
    """Pose, crops and mask of a clip. The mask makes room for mouths and cheeks of `generated` tracks too."""
    pose = source.pose
    old, *new = (to_canonical(track.points, pose)[source.usable] for track in (source, *generated))
    extent = mask_extent(torch.cat([old, *new]))
    for shapes in new:
        extent = room_for_cheeks(extent, old, shapes)
    return Geometry(pose, source.transform, extent, source.points)
