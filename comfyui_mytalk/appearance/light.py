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
USUAL = (0.8, 1.25)  # change of a face's light that a gain follows by itself
DARKEST, BRIGHTEST = 0.01, 4.0  # of 0..1: light that is still compared; times that a picture is lit up
VEIL = (0.15, 0.25)  # of 0..1: white over the picture that may be shade, and that is none
FLAT = (0.85, 0.7)  # of the contrast is left: shade may do it, only a fade does
WHITE = (0.12, 0.06)  # from what a fade to white makes of the middle of a face; flat light leaves it where it was
LEVELS = (0.15, 0.5, 0.85)
MOST_APART = 0.2  # 0..1: farther apart than this, pictures show different things
FACE_FEATHER = 6.0  # pixels of a 256 crop
LIPS_APART = 12.0  # pixels of a 256 crop around lips that are no skin
EVERY = 2  # pixels: references are compared in every second row and column
CELL = 2  # of these a side are averaged before


def light_gain(pictures: Tensor, wanted: Tensor, weight: Tensor, ridge: tuple[float, float, float] = RIDGE) -> Tensor:
    """Coefficients `(b, 3, 3)` of each channel's gain over 1, x and y, by least squares, that takes `pictures
    (b, 3, h, w)` to `wanted (b, 3, h, w)` where `weight (b, 1, h, w)` says; 0 where there is nothing to compare."""
    plane = _plane(pictures).flatten(1)  # (3, h * w)
    products = (plane[:, None] * plane).flatten(0, 1)
    weighted = pictures * weight
    residual = (wanted - pictures).clamp(-MOST_APART, MOST_APART)
    normal = ((weighted * pictures).flatten(2) @ products.T).unflatten(-1, (3, 3))
    amount = weight.sum((1, 2, 3)).clamp_min(1)[:, None, None, None]
    normal = normal + amount * torch.diag(weight.new_tensor(ridge))
    return torch.linalg.solve(normal, (weighted * residual).flatten(2) @ plane.T)


def lit(pictures: Tensor, coefficients: Tensor) -> Tensor:
    """`pictures (b, 3, h, w)` times the gain that `light_gain` gave, within `1 +- GAIN_LIMIT`; not clamped to 0..1."""
    gain = (coefficients @ _plane(pictures).flatten(1)).view_as(pictures)
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
    scale, offset = fade(seen, wanted, cells)
    gain = light_gain((seen * scale + offset).clamp(0, 1), wanted, cells, ABOVE)
    return lit((references * scale + offset).clamp(0, 1), gain).clamp_(0, 1).unflatten(0, (-1, count))


def fade(pictures: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and offset `(b, 3, 1, 1)` that take `pictures (b, 3, h, w)` near to the light of `wanted`.

    1 and 0 but where a film fades to black or white, or lamps are switched or coloured: changes that no gain of
    `light_gain` follows. From quantiles of what `weight (b, 1, h, w)` mostly shows: a hand in the frame is none.
    """
    shown = weight[:, 0] > 0.5 * weight.amax((1, 2, 3)).clamp_min(1e-6)[:, None, None]
    levels, wanted_levels = (_levels(x, shown) for x in (pictures, wanted))
    (low, middle, high), (wanted_low, wanted_middle, wanted_high) = levels, wanted_levels
    contrast = (wanted_high - wanted_low).mean(1) / (high - low).mean(1).clamp_min(DARKEST)
    veil = (wanted_middle - contrast[:, None] * middle).clamp_min(0)
    off_white = (
        wanted_middle.mean(1) - (1 - contrast * (1 - middle.mean(1)))
    ).abs()  # of a fade that left this contrast
    sure = _between(veil.mean(1), VEIL) * _between(contrast, FLAT) * _between(off_white, WHITE)
    change = wanted_levels / levels.clamp_min(DARKEST)  # a fade changes dark and bright alike, shade on half a face not
    change = change.amin(0).clamp_min(1) * change.amax(0).clamp_max(1)
    change = (change / change.clamp(*USUAL)).clamp(max=BRIGHTEST)
    sure, known = sure[:, None], shown.flatten(1).any(1)[:, None]
    scale, offset = torch.lerp(change, contrast[:, None].expand_as(change), sure), sure * veil
    scale, offset = torch.where(known, scale, 1.0), torch.where(known, offset, 0.0)
    return scale[:, :, None, None], offset[:, :, None, None]


def _between(values: Tensor, bounds: tuple[float, float]) -> Tensor:
    """0 at the first of `bounds` to 1 at the second."""
    return ((values - bounds[0]) / (bounds[1] - bounds[0])).clamp(0, 1)


def _levels(pictures: Tensor, shown: Tensor) -> Tensor:
    """Quantiles `(3, b, 3)` of each channel of `pictures (b, 3, h, w)` where `shown (b, h, w)`; 0 where nothing is."""
    values = torch.where(shown[:, None], pictures, torch.nan).flatten(2).float()
    return values.nanquantile(values.new_tensor(LEVELS), 2).nan_to_num(0.0)


def in_frame(crops: Tensor) -> Tensor:
    """1 where `crops (b, 3, h, w)` show something `(b, 1, h, w)`: beyond the border of the frame they are black."""
    return (crops.amax(1, keepdim=True) > 0).to(crops.dtype)


def face_oval(points: Tensor, size: int = CROP_SIZE) -> Tensor:
    """Soft mask `(b, 1, size, size)` of the face without hair and neck, from landmarks `(b, 478, 2)` in crop pixels."""
    return soft_hull(points[:, contour("face_oval_ring").to(points.device), :2], size, FACE_FEATHER)


def shared_skin(source: Tensor, target: Tensor, size: int = CROP_SIZE) -> Tensor:
    """Soft mask `(b, 1, size, size)` of cheeks and chin that are skin with the landmarks `source` and with `target
    (b, 478, 2)`, crop pixels: inside both faces, away from the lips of both."""
    lips = landmark_set("lips_outer").to(source.device)
    masks = []
    for points in (source, target):
        oval = points[:, contour("face_oval_ring").to(points.device), :2]
        masks.append(soft_hull(oval, size, FACE_FEATHER, grow=-FACE_FEATHER))
        masks.append(1 - soft_hull(points[:, lips, :2], size, FACE_FEATHER, grow=LIPS_APART))
    return torch.stack(masks).prod(0)


def _plane(like: Tensor) -> Tensor:
    """1, x and y over a picture `(3, h, w)`, x and y from -1 to 1."""
    y, x = (torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype) for n in like.shape[-2:])
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([torch.ones_like(x), x, y])
