"""Contact sheets: a few moments of a result beside its source, for people to look at.

m moments   n points   h w picture
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..landmarks.align import CROP_SIZE, apply_transform, crop_transform, invert
from ..landmarks.canonical import fit_pose
from ..landmarks.drawing import render_landmarks
from ..landmarks.sets import contour

FACE_MARGIN, MOUTH_MARGIN = 1.7, 1.5  # side of the square over the width of the face, of the lips
LABEL_HEIGHT = 18
Box = tuple[float, float, float, float]


def pick_moments(frames: int, columns: int) -> list[int]:
    """`columns` frame numbers spread evenly over `frames`, ends left out."""
    return [int((column + 0.5) * frames / columns) for column in range(min(columns, frames))]


def pick_frames(chunks: Iterable[tuple[Any, Any]], moments: Sequence[int]) -> np.ndarray:
    """The frames `moments` (ascending) of a video in chunks of (uint8 `(n, h, w, 3)`, times) -> `(m, h, w, 3)`."""
    wanted, picked, start = set(moments), [], 0
    for frames, _ in chunks:
        picked += [np.asarray(frames[i - start]) for i in range(start, start + len(frames)) if i in wanted]
        start += len(frames)
    return np.stack(picked)


def contact_sheet(
    source: np.ndarray, output: np.ndarray, points: Tensor, labels: Sequence[str], side: int = 192, faces: bool = True
) -> Image.Image:
    """Rows input, landmarks, output, then mouths of input and output enlarged; one column per moment.

    `source` and `output (m, h, w, 3)` uint8, `points (m, 478, 3)` pixels as detected on the output, `labels` one
    per column, `side` of a cell in pixels. `faces=False` leaves only the two rows of mouths.
    """
    face = face_box(points)
    mouths = mouth_boxes(points)
    rows = [
        ("input", [crop(picture, face, side) for picture in source]),
        ("landmarks", [Image.fromarray(p).resize((side, side)) for p in landmark_pictures(points)]),
        ("output", [crop(picture, face, side) for picture in output]),
    ]
    rows = rows if faces else []
    rows += [("input mouth", [crop(p, box, side) for p, box in zip(source, mouths, strict=True)])]
    rows += [("output mouth", [crop(p, box, side) for p, box in zip(output, mouths, strict=True)])]
    return paste_rows(rows, labels, side)


def landmark_pictures(points: Tensor) -> np.ndarray:
    """What the appearance model is shown, in the aligned crop: `(m, s, s, 3)` uint8."""
    transform = crop_transform(fit_pose(points), smooth=0)
    pictures = render_landmarks(apply_transform(invert(transform), points[..., :2]), CROP_SIZE)
    return pictures.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def face_box(points: Tensor) -> Box:
    """One square for all moments that holds the face with hair and neck."""
    low, high = points[..., :2].amin((0, 1)), points[..., :2].amax((0, 1))
    return square(((low + high) / 2), (high - low).max().item() * FACE_MARGIN)


def mouth_boxes(points: Tensor) -> list[Box]:
    """A square around the lips for each moment, all of one size."""
    lips = points[:, contour("lips_outer_ring"), :2]
    middle = (lips.amin(1) + lips.amax(1)) / 2
    width = (lips.amax(1) - lips.amin(1)).amax().item()
    return [square(centre, width * MOUTH_MARGIN) for centre in middle]


def square(centre: Tensor, side: float) -> Box:
    x, y = centre.tolist()
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def crop(picture: np.ndarray, box: Box, side: int) -> Image.Image:
    """The part `box` of a picture at `side` pixels; black beyond the picture."""
    scale = (box[2] - box[0]) / side
    affine = (scale, 0, box[0], 0, scale, box[1])
    method = Image.Resampling.BICUBIC
    if scale > 2:
        factor = int(scale)
        image = Image.fromarray(picture).reduce(factor)
        return image.transform((side, side), Image.Transform.AFFINE, tuple(a / factor for a in affine), method)
    return Image.fromarray(picture).transform((side, side), Image.Transform.AFFINE, affine, method)


def paste_rows(rows: Sequence[tuple[str, list[Image.Image]]], labels: Sequence[str], side: int) -> Image.Image:
    """Cells side by side, column labels on top, the row's name inside its first cell."""
    sheet = Image.new("RGB", (side * len(labels), LABEL_HEIGHT + side * len(rows)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, label in enumerate(labels):
        draw.text((side * column + 4, 2), label, "black", font)
    for row, (name, cells) in enumerate(rows):
        top = LABEL_HEIGHT + side * row
        for column, cell in enumerate(cells):
            sheet.paste(cell, (side * column, top))
        draw.text((4, top + 2), name, "white", font, stroke_width=2, stroke_fill="black")
    return sheet
