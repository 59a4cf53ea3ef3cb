"""From aligned crops to generated crops: what the network sees, in training and at run time alike.

b batch   k references   s crop side in pixels
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..landmarks.drawing import render_landmarks
from .fade import faded
from .inside import draw_unseen, keep_drawn
from .light import face_oval, light_references
from .mask import dilate
from .model import AppearanceModel
from .params import AppearanceParams
from .teeth import show_teeth
from .warp import align_references

RING = 8  # pixels around the mask that references show too, so that the network can compare their colours
RIM = 2  # of these that are tinged by the black beyond
BORDER = 10.0  # pixels over which the mask fades where the window would cut it


class References(NamedTuple):
    """Reference crops `(b, k, 3, s, s)` 0..1, their landmarks `(b, k, 478, 2)` in crop pixels, lip masks
    `(b, k, 1, s, s)`, and the least and the widest opening of all that there were to choose from `(b, 2)`, pixels."""

    images: Tensor
    points: Tensor
    masks: Tensor
    openings: Tensor


class Inputs(NamedTuple):
    """The network's input: masked crop and landmark image `(b, 3, h, w)`, references `(b, k, 3, h, w)`."""

    masked: Tensor
    landmarks: Tensor
    references: Tensor


def model_inputs(
    p: AppearanceParams, crops: Tensor, drawing: Tensor, points: Tensor, mask: Tensor, references: References
) -> Inputs:
    """Hide the mouth of `crops (b, 3, s, s)`, and show only the lip region of the references (Section 3.4.1); of those
    that are moved onto the target, what is hidden and a little around it.

    `points (b, 478, 2)` are the target landmarks in crop pixels, `drawing (b, 3, s, s)` their picture, `mask
    (b, 1, s, s)` what will be generated.
    """
    top, bottom, left, right = p.window or (0, crops.shape[-2], 0, crops.shape[-1])
    window = (Ellipsis, slice(top, bottom), slice(left, right))
    if p.aligned:
        visible = dilate((mask > 0).to(crops.dtype), RING)[:, None][window]
        images = references.images
        if p.relight:
            images = faded(images, references.points, crops, points, mask <= 0)
        moved = align_references(images, references.points, points, p.window)
        if p.relight:
            skin = face_oval(points, crops.shape[-1]) * (mask <= 0)
            moved = light_references(moved, crops[window], skin[window])
        shown = draw_unseen(moved, references.openings, points, (top, left), crops.shape[-1]) * visible
    else:
        shown = (references.images * references.masks if p.masked_references else references.images)[window]
    return Inputs((crops * (1 - mask))[window], drawing[window], shown)


def finish_mouth(
    p: AppearanceParams, picture: Tensor, shown: Tensor, points: Tensor, references: References, size: int
) -> Tensor:
    """The network's `picture (b, 3, h, w)` with what references know better: teeth, and the inside that was drawn.

    `shown (b, k, 3, h, w)` are the `references` as the network saw them, `points (b, 478, 2)` in crop pixels.
    """
    if not p.aligned:
        return picture
    corner = (0, 0) if p.window is None else (p.window[0], p.window[2])
    if p.teeth:
        picture = show_teeth(picture, shown[:, 1:], references.points[:, 1:], points, corner, size, p.teeth).clamp(0, 1)
    return keep_drawn(picture, shown, references.openings, points, corner, size)


def window_mask(p: AppearanceParams, mask: Tensor) -> Tensor:
    """The mask `(b, 1, s, s)` limited to what the network sees, falling softly to 0 at the window's border."""
    size = mask.shape[-1]
    top, bottom, left, right = p.window or (0, size, 0, size)
    at = torch.arange(size, device=mask.device, dtype=mask.dtype) + 0.5
    row = (torch.minimum(at - top, bottom - at) / BORDER).clamp(0, 1)
    column = (torch.minimum(at - left, right - at) / BORDER).clamp(0, 1)
    return mask * row[:, None] * column


@torch.no_grad()
def render_crops(
    model: AppearanceModel,
    crops: Tensor,
    points: Tensor,
    mask: Tensor,
    references: References,
    drawing: Tensor | None = None,
) -> Tensor:
    """Generated crops `(b, 3, s, s)`: the network's picture in and around the mask, the source crop elsewhere.

    Farther out references end, and the network's picture is black: nothing of it is pasted, but people look at crops.

    `drawing` replaces the landmark image that `points` would give (an edited one, for example).
    """
    size = crops.shape[-1]
    drawing = render_landmarks(points, size) if drawing is None else drawing
    inputs = model_inputs(model.params, crops, drawing, points, mask, references)
    picture = finish_mouth(model.params, model(*inputs), inputs.references, points, references, size)
    top, bottom, left, right = model.params.window or (0, size, 0, size)
    near = dilate((mask > 0).to(crops.dtype), RING - RIM)[..., top:bottom, left:right] > 0
    out = crops.clone()
    out[..., top:bottom, left:right] = torch.where(near, picture, crops[..., top:bottom, left:right])
    return out
