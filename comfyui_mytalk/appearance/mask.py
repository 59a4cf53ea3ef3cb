"""Which pixels are generated: a soft patch on the lower face, placed by the upper face only; and which are kept.

    f frames   n points   s crop side in pixels   d signed distance in pixels, negative inside

A mask cut around the old lips would tell the network how far the old mouth was open. Ours is a patch of the
canonical face with fixed numbers per clip, moved by the head pose alone (sections 3.4.1 and 4 of the paper mask
the lip region; how, it does not say). Masks are convex: the silhouette of the patch from each direction.

Of what the network paints there, a little less is pasted. At the edge of its hole it draws spots and smears; and
neck and collar it has to guess, where below both jaws the source shows the real ones (`face_region`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks.align import CROP_HALF, CROP_SIZE, apply_transform, invert
from ..landmarks.canonical import Pose, canonical_face, from_canonical
from ..landmarks.sets import contour, landmark_set

FEATHER = 8.0  # pixels of a 256 crop in which the mask rises from 0 to 1
FEATHER_CM = FEATHER * 2 * CROP_HALF / CROP_SIZE
DIRECTIONS = 48  # half planes a convex mask is made of
HOLE_MARGIN = 0.3  # cm on each side that the network paints beyond what is pasted
NECK = 14.0  # pixels of a 256 crop below the jaw within which the pasted neck fades into the source's
NECK_FEATHER = 12.0
CHEEKS = (0.5, 0.2)  # cm by which the patch is raised and widened where mouths differ: a laugh folds the cheeks
UNLIKE = (0.3, 0.6)  # cm between old and new lips in a clip's tenth most different frame: no room for cheeks, all of it
SHADOW = 0.65  # of the neck's light that is left in the darkest shadow of a chin
SHADOW_FEATHER = 4.0  # pixels of a 256 crop below the jaw
NOSE_GROW = 2.0  # pixels of a 256 crop
CELL = 4  # pixels between exact distances; interpolated between them
NOSE_BASE = (2, 97, 326)
UPPER_LIP_TOP = (0, 37, 267)
CHIN = (152, 148, 377)


@dataclass(frozen=True)
class MaskExtent:
    """The patch in canonical centimetres, one for a whole clip: y of its top and bottom, x of its sides."""

    top: float = -2.2
    bottom: float = -11.6
    half_width: float = 5.0

    @property
    def hole(self) -> MaskExtent:
        """What the network is to paint."""
        return replace(self, half_width=self.half_width + HOLE_MARGIN)


def mask_extent(canonical: Tensor, usable: Tensor | None = None) -> MaskExtent:
    """The patch that covers all mouth shapes of a clip, from pose-free landmarks `(f, 478, 3)`, centimetres.

    Give it the generated landmarks as well (concatenated) when the new mouth may travel further than the old.
    `usable (f,)` leaves frames without a face out.
    """
    points = canonical if usable is None or not usable.any() else canonical[usable]
    x, y = points[..., 0], points[..., 1]
    lips = landmark_set("lips_outer").to(points.device)
    lip_top, lip_side = y[:, UPPER_LIP_TOP].amax(1).quantile(0.999), x[:, lips].abs().amax(1).quantile(0.999)
    chin = y[:, CHIN].amin(1)
    lowest_chin = torch.minimum(chin.quantile(0.002), chin.median() - 0.4)  # room for a jaw that was never opened
    return MaskExtent(
        top=max(y[:, NOSE_BASE].amin(1).median().item() - 0.1, lip_top.item() + 0.2 + FEATHER_CM),
        bottom=lowest_chin.item() - 0.6 - FEATHER_CM,
        half_width=max(5.0, lip_side.item() + 0.3 + FEATHER_CM),
    )


def room_for_cheeks(extent: MaskExtent, source: Tensor, target: Tensor) -> MaskExtent:
    """The patch of a clip whose mouths `source` become `target`, both pose-free `(f, 478, 3)`, centimetres.

    The folds of a laugh reach above the lips and would end at the patch's edge when the mouth becomes quiet.
    """
    lips = landmark_set("lips_outer").to(source.device)
    apart = (target[:, lips] - source[:, lips]).norm(dim=-1).mean(1).quantile(0.9).item()
    share = min(max((apart - UNLIKE[0]) / (UNLIKE[1] - UNLIKE[0]), 0.0), 1.0)
    top, side = (share * most for most in CHEEKS)
    return replace(extent, top=extent.top + top, half_width=extent.half_width + side)


def lip_mask(pose: Pose, transform: Tensor, extent: MaskExtent, size: int = CROP_SIZE) -> Tensor:
    """The soft mask `(f, 1, size, size)` of frames with head pose `pose`, in crops placed by `transform (f, 2, 3)`.

    Exactly 0 outside the patch and at the crop's border, 1 deeper inside than the feather.
    """
    return soft_hull(lip_outline(pose, transform, extent), size, FEATHER)


def lip_outline(pose: Pose, transform: Tensor, extent: MaskExtent) -> Tensor:
    """Points `(f, n, 2)` in crop pixels whose hull the mask of `lip_mask` is."""
    patch = _patch(extent).to(transform.device).expand(len(transform), -1, -1)
    return apply_transform(invert(transform), from_canonical(patch, pose)[..., :2])


def lip_region(points: Tensor, size: int = CROP_SIZE) -> Tensor:
    """Soft mask `(f, 1, size, size)` around lips and chin, from landmarks `(f, 478, 2)` in crop pixels.

    It follows the mouth, so it may only ever be laid over references, never over the frame to be generated.
    """
    index = torch.cat([landmark_set(name) for name in ("lips_outer", "perioral", "chin")]).to(points.device)
    return soft_hull(points[:, index, :2], size, FEATHER, grow=FEATHER)


def face_region(source: Tensor, target: Tensor, size: int = CROP_SIZE) -> Tensor:
    """Soft mask `(f, 1, size, size)` of the face with the old jaw and with the new, from landmarks `(f, 478, 2)`.

    Below both jaws the source's own neck and collar are better than any that are painted. Where a jaw rises, the
    shadow under the old one must go as well: the mask then reaches half as much farther down. Crop pixels.
    """
    return soft_hull(_both_jaws(source, target, 0.5), size, NECK_FEATHER, grow=NECK)


def neck_light(source: Tensor, target: Tensor, size: int = CROP_SIZE) -> Tensor:
    """The least share of the source's light that stays `(f, 1, size, size)`: 0 in the face, `SHADOW` below both jaws.

    A chin throws a shadow on the neck that the source shows there; what is darker is a collar put in the wrong place.
    Where a jaw rises, light is kept only as much farther down: landmarks run a little inside the old chin, and its rim
    would stay as a bright line.
    """
    return SHADOW * (1 - soft_hull(_both_jaws(source, target, 1.0), size, SHADOW_FEATHER, grow=SHADOW_FEATHER))


def _both_jaws(source: Tensor, target: Tensor, reach: float) -> Tensor:
    """Points `(f, n, 2)` around both faces, and `reach` times as far below the old jaw as it rises."""
    oval = contour("face_oval_ring").to(source.device)
    old, new = source[:, oval, :2], target[:, oval, :2]
    risen = (old - new) * (old[..., 1:] > new[..., 1:])
    return torch.cat([old + reach * risen, new], 1)


def nose_region(points: Tensor, size: int = CROP_SIZE) -> Tensor:
    """Soft mask `(f, 1, size, size)` of the nose, which no mouth moves, from landmarks `(f, 478, 2)` in crop pixels."""
    return soft_hull(points[:, landmark_set("nose").to(points.device), :2], size, FEATHER, grow=NOSE_GROW)


def soft_hull(points: Tensor, size: int, feather: float, grow: float = 0.0) -> Tensor:
    """Convex hull of crop points `(f, n, 2)`, grown, 0 outside and rising to 1 within `feather` -> `(f, 1, s, s)`.

    `feather` and `grow` in pixels of a 256 crop.
    """
    unit = size / CROP_SIZE
    depth = -F.interpolate(_hull_distance(points, size)[:, None], size=(size, size), mode="bilinear") / unit
    edge = torch.arange(size, device=points.device, dtype=points.dtype)
    edge = torch.minimum(edge, size - 1 - edge) / unit
    depth = torch.minimum(depth + grow, torch.minimum(edge[:, None], edge))
    ramp = (depth / feather).clamp(0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _hull_distance(points: Tensor, size: int) -> Tensor:
    """Signed distance to the convex hull of `points (f, n, 2)` at the cell centres `(f, size / CELL, size / CELL)`."""
    centres = (torch.arange(size // CELL, device=points.device, dtype=points.dtype) + 0.5) * CELL
    distance = points.new_full((len(points), len(centres), len(centres)), -math.inf)
    for step in range(DIRECTIONS):
        angle = 2 * math.pi * step / DIRECTIONS
        c, s = math.cos(angle), math.sin(angle)
        support = (points[..., 0] * c + points[..., 1] * s).amax(1)
        distance = torch.maximum(distance, (centres * c + centres[:, None] * s) - support[:, None, None])
    return distance


def _patch(extent: MaskExtent) -> Tensor:
    """Points `(1, n, 3)` on the face whose silhouette is the mask: a rounded outline and the profile line."""
    angle = torch.arange(64) * (2 * math.pi / 64)
    c, s = angle.cos(), angle.sin()
    middle, half = (extent.top + extent.bottom) / 2, (extent.top - extent.bottom) / 2
    round_x, round_y = c.sign() * c.abs() ** 0.6, s.sign() * s.abs() ** 0.6  # between ellipse and rectangle
    x = extent.half_width * round_x * (1 + 0.25 * round_y.clamp(max=0))  # narrower towards the chin
    y = middle + half * round_y
    profile = torch.linspace(extent.top, extent.bottom, 16)
    bulge = FEATHER_CM * (1 - ((profile - middle) / half) ** 2)  # lips seen from the side lie deep inside too
    line = torch.stack([torch.zeros(16), profile, _depth(torch.zeros(16), profile) + bulge], -1)
    return torch.cat([torch.stack([x, y, _depth(x, y)], -1), line])[None]


def _depth(x: Tensor, y: Tensor) -> Tensor:
    """Depth z of the canonical face's lower half at `(x, y)`; below the chin the chin's."""
    return _terms(x, y.clamp_min(canonical_face()[:, 1].min().item())) @ _depth_weights()


@cache
def _depth_weights() -> Tensor:
    """Least squares of the canonical face's own depth; within 3 mm of it."""
    face = canonical_face()
    face = face[(face[:, 1] < -2) & (face[:, 0].abs() < 6)].double()
    return torch.linalg.lstsq(_terms(face[:, 0], face[:, 1]), face[:, 2:]).solution[:, 0].float()


def _terms(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([torch.ones_like(x), x**2, x**4, y, y**2, x**2 * y], -1)


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow `mask (b, 1, s, s)`, values >= 0, by a square of `radius` pixels.

    By doubling windows, one axis at a time: a tenth of what `max_pool2d` takes on a CPU.
    """
    width = 2 * radius + 1
    grown = F.pad(mask, (radius,) * 4)
    for axis in (-2, -1):
        reached = 1
        while reached < width:
            shift = min(reached, width - reached)
            kept = grown.shape[axis] - shift
            grown = torch.maximum(grown.narrow(axis, 0, kept), grown.narrow(axis, shift, kept))
            reached += shift
    return grown
