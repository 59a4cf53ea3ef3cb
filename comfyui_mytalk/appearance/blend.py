"""Back into the frame: colour matched at the mask's edge, pasted through the crop's own transform.

    f frames   s crop side   h w frame size   m mask

Outside the mask the frame stays bit by bit what it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks.align import apply_transform, invert, sample_affine
from .light import in_frame, light_gain, lit
from .mask import dilate

RING = (0.02, 0.6)  # mask values at which generated and source show the same skin
SKIN = 0.25  # of a pixel of the ring counts one inside it: another mouth shades the cheeks otherwise
RING_OUTSIDE = 6  # pixels of a 256 crop beyond the mask that count as well
Placement = tuple[int, Tensor, slice, slice]


def match_colour(generated: Tensor, source: Tensor, mask: Tensor, face: Tensor, skin: Tensor | None = None) -> Tensor:
    """Scale the colours of `generated (f, 3, s, s)` so that it meets `source (f, 3, r, r)` on the ring around the edge
    of `mask (f, 1, s, s)`, as far as that lies in the `face (f, 1, s, s)`; they are compared at the source's size.

    Inside the mask the source's own cheeks and chin count too, less: where `skin (f, 1, s, s)`, as `shared_skin` gives
    it, says that both show skin. The gain is that of `light.py`. Identical pictures stay identical. Values are not
    clamped.
    """
    size = source.shape[-1]
    mask = _shrink(mask, size)
    weight = _ring(mask) * _shrink(face, size)
    if skin is not None:
        weight = weight + SKIN * (mask >= RING[1]) * _shrink(skin, size)
    return lit(generated, light_gain(_shrink(generated, size), source, weight * in_frame(source)))


def _shrink(pictures: Tensor, size: int) -> Tensor:
    if pictures.shape[-1] % size == 0:
        times = pictures.shape[-1] // size
        return pictures if times == 1 else F.avg_pool2d(pictures, times)
    return F.interpolate(pictures, size=(size, size), mode="area")


def paste_into(
    frames: Tensor,
    index: Tensor,
    crops: Tensor,
    mask: Tensor,
    transform: Tensor,
    masks: Tensor | None = None,
    keep: Tensor | None = None,
) -> None:
    """Lay `crops (b, 3, s, s)` over `frames[index (b,)]` of `frames (f, 3, h, w)`, which is changed, through
    `mask (b, 1, s, s)` and `transform (b, 2, 3)`; `masks (f, 1, h, w)`, where given, gets what `frame_mask` gives.
    `keep (f, h, w)`: what stays as it is, 0..1, whatever lies over it.

    Float frames are 0..1; uint8 frames get rounded uint8. Where the mask falls on no pixel the values are kept
    exactly. Only the mask's box is computed.
    """
    unit, at = 1.0 if frames.is_floating_point() else 255.0, index.tolist()
    for i, placed, rows, columns in _placements(crops, mask, transform, frames.shape[-2:]):
        picture, share = placed[:3].to(frames.device), placed[3:].to(frames.device)
        if keep is not None:
            share = share * (1 - keep[at[i], rows, columns].to(share).clamp(0, 1))
        frame = frames[at[i], :, rows, columns]
        blended = frame + share * (picture.clamp(0, 1) * unit - frame)
        frame.copy_(blended if unit == 1 else blended.round())
        if masks is not None:
            masks[at[i], :, rows, columns] = share.to(masks.device)


def frame_mask(mask: Tensor, transform: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask `(f, 1, *size)` with which `paste_into` lays `mask (f, 1, s, s)` over frames of `size (h, w)`."""
    result = mask.new_zeros(len(mask), 1, *size)
    for i, placed, rows, columns in _placements(None, mask, transform, size):
        result[i, :, rows, columns] = placed
    return result


def _ring(mask: Tensor) -> Tensor:
    """Weights `(f, 1, s, s)` of the ring on which colours are compared."""
    reach = max(1, round(RING_OUTSIDE * mask.shape[-1] / 256))
    touched = (mask > RING[0]).to(mask.dtype)
    return dilate(touched, reach) * (mask < RING[1])


def _placements(crops: Tensor | None, mask: Tensor, transform: Tensor, size: tuple[int, int]) -> Iterator[Placement]:
    """Per frame that the mask falls on: its index, crop and mask resampled `(c + 1, rows, columns)` at the frame's
    own pixels, and which rows and columns those are."""
    to_crop = invert(transform)
    for i in range(len(mask)):
        rows, columns = _box(mask[i, 0], transform[i], size)
        if rows.start == rows.stop or columns.start == columns.stop:
            continue
        shift = to_crop.new_tensor([[columns.start], [rows.start]])
        local = torch.cat([to_crop[i, :, :2], to_crop[i, :, 2:] + to_crop[i, :, :2] @ shift], 1)[None]
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        share = sample_affine(mask[i : i + 1], local, shape)
        if crops is not None:
            share = torch.cat([sample_affine(crops[i : i + 1], local, shape, "bicubic"), share], 1)
        yield i, share[0], rows, columns


def _box(mask: Tensor, transform: Tensor, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the frame `size (h, w)` on which `mask (s, s)` may fall, `transform (2, 3)`; may be empty."""
    filled = mask > 0
    if not filled.any():
        return slice(0, 0), slice(0, 0)
    rows, columns = filled.any(1).nonzero()[:, 0], filled.any(0).nonzero()[:, 0]
    (top, bottom), (left, right) = ((int(index[0]) - 2, int(index[-1]) + 3) for index in (rows, columns))
    corners = transform.new_tensor([[left, top], [right, top], [left, bottom], [right, bottom]])
    corners = apply_transform(transform[None], corners[None])[0]
    limit = corners.new_tensor([size[1], size[0]])
    first = torch.minimum(corners.amin(0).floor().clamp_min(0), limit).long().tolist()
    last = torch.minimum(corners.amax(0).ceil().clamp_min(0), limit).long().tolist()
    return slice(first[1], last[1]), slice(first[0], last[0])
