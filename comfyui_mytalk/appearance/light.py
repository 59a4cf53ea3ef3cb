"""One picture in the light of another: a gain for each channel that varies linearly over the picture.

    b batch   k references   h w picture

A gain keeps the dark of a mouth dark, which an offset would not. It is found where both pictures show the same skin:
on neck, hair and background, which move against the face, it would be led astray.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks.align import CROP_SIZE
from ..landmarks.sets import contour, landmark_set
from .mask import soft_hull

GAIN_LIMIT = 0.25
RIDGE = (0.02, 0.02, 0.02)  # pulls 1, x and y of the gain to 0 where the skin is too dark to tell
ABOVE = (0.02, 0.02, 0.3)  # for a band of skin above the mouth, which says little of what is below: chins got grey
MOST_APART = 0.2  # 0..1: farther apart than this, pictures show different things
FACE_FEATHER = 6.0  # pixels of a 256 crop
LIPS_APART = 12.0  # pixels of a 256 crop around lips that are no skin
EVERY = 2  # pixels: references are compared in every second row and column
CELL = 2  # of these a side are averaged before


def light_gain(pictures: Tensor, wanted: Tensor, weight: Tensor, ridge: tuple[float, float, float] = RIDGE) -> Tensor:
    """Coefficients `(b, 3, 3)` of each channel's gain over 1, x and y, by least squares, that takes `pictures
    (b, 3, h, w)` to `wanted (b, 3, h, w)` where `weight (b, 1, h, w)` says; 0 where there is nothing to compare."""
    plane = plane_terms(pictures).flatten(1)  # (3, h * w)
    products = (plane[:, None] * plane).flatten(0, 1)
    weighted = pictures * weight
    residual = (wanted - pictures).clamp(-MOST_APART, MOST_APART)
    normal = ((weighted * pictures).flatten(2) @ products.T).unflatten(-1, (3, 3))
    amount = weight.sum((1, 2, 3)).clamp_min(1)[:, None, None, None]
    normal = normal + amount * torch.diag(weight.new_tensor(ridge))
    return torch.linalg.solve(normal, (weighted * residual).flatten(2) @ plane.T)


def lit(pictures: Tensor, coefficients: Tensor) -> Tensor:
    """`pictures (b, 3, h, w)` times the gain that `light_gain` gave, within `1 +- GAIN_LIMIT`; not clamped to 0..1."""
    gain = (coefficients @ plane_terms(pictures).flatten(1)).view_as(pictures)
    return gain.clamp_(-GAIN_LIMIT, GAIN_LIMIT).add_(1).mul_(pictures)


def light_references(references: Tensor, crops: Tensor, skin: Tensor) -> Tensor:
    """Aligned `references (b, k, 3, h, w)` in the light of `crops (b, 3, h, w)`, told where `skin (b, 1, h, w)` says.

    Frames of one clip differ in exposure, and faces that turn in shade. Not in the paper.
    """
    count, references = references.shape[1], references.flatten(0, 1)
    few, crops, skin = (x[..., ::EVERY, ::EVERY] for x in (references, crops, skin))
    crops, skin = (x.repeat_interleave(count, 0) for x in (crops, skin))
    skin = skin * in_frame(crops) * in_frame(few)
    cells = F.avg_pool2d(skin, CELL)  # what is hidden takes no part, also in cells that are hidden in part
    seen, wanted = (F.avg_pool2d(x * skin, CELL) / cells.clamp_min(1e-6) for x in (few, crops))
    return lit(references, light_gain(seen, wanted, cells, ABOVE)).clamp_(0, 1).unflatten(0, (-1, count))


def in_frame(crops: Tensor) -> Tensor:
    """1 where `crops (b, 3, h, w)` show something `(b, 1, h, w)`: beyond the border of the frame they are black."""
    return (crops.amax(1, keepdim=True) > 0).to(crops.dtype)


def face_oval(points: Tensor, size: int = CROP_SIZE) -> Tensor:
    """Soft mask `(b, 1, size, size)` of the face without hair and neck, from landmarks `(b, 478, 2)` in crop pixels."""
    return soft_hull(points[:, contour("face_oval_ring").to(points.device), :2], size, FACE_FEATHER)


def shared_skin(source: Tensor, target: Tensor, size: int = CROP_SIZE) -> Tensor:
    """Soft mask `(b, 1, size, size)` of cheeks and chin that are skin with the landmarks `source` and with `target
    (b, 478, 2)`, crop pixels: inside both faces, away from the lips of both."""
    lips, ring = (index.to(source.device) for index in (landmark_set("lips_outer"), contour("face_oval_ring")))
    masks = []
    for points in (source, target):
        oval = points[:, ring, :2]
        masks.append(soft_hull(oval, size, FACE_FEATHER, grow=-FACE_FEATHER))
        masks.append(1 - soft_hull(points[:, lips, :2], size, FACE_FEATHER, grow=LIPS_APART))
    return torch.stack(masks).prod(0)


def plane_terms(like: Tensor) -> Tensor:
    """1, x and y over a picture `(3, h, w)`, x and y from -1 to 1."""
    y, x = (torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype) for n in like.shape[-2:])
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([torch.ones_like(x), x, y])
