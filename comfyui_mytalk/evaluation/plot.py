"""Plots for people: how a mouth opens over time beside whoever first said the words.

t motion frames at 25 fps
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..motion.params import FPS

MADE, TRUTH, LEVEL, GRID = "#d62728", "#222222", "#9db7d1", "#dddddd"
HEIGHT = 1.0  # the axis ends at whole multiples, centimetres
MARGIN = 34  # pixels for numbers on the left
STRIP = 26  # pixels for the speech's level at the bottom
TITLE = 16


def opening_plot(
    made: Tensor, truth: Tensor | None, level: Tensor | None, title: str, size: tuple[int, int] = (760, 190)
) -> Image.Image:
    """Mouth openings in cm, result red and `truth` black, over seconds; the level of the speech, 0..1, under it.

    All `(t,)`; what is not known is left out.
    """
    width, height = size
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    floor = height - STRIP - TITLE
    top = max(float(series.max()) for series in (made, truth) if series is not None)
    top = HEIGHT * max(1, -(-top // HEIGHT))
    step = (width - MARGIN - 4) / max(len(made) - 1, 1)
    for cm in torch.linspace(0, top, int(top / HEIGHT) * 2 + 1).tolist():
        y = floor - cm / top * (floor - TITLE)
        draw.line([(MARGIN, y), (width, y)], fill=GRID)
        draw.text((2, y - 7), f"{cm:g} cm", "black", font)
    for second in range(int(len(made) / FPS) + 1):
        x = MARGIN + second * FPS * step
        draw.line([(x, TITLE), (x, floor)], fill=GRID)
        draw.text((x + 2, height - TITLE + 2), f"{second} s", "black", font)
    if level is not None:
        bars = [(MARGIN + i * step, float(value)) for i, value in enumerate(level[: len(made)])]
        for x, value in bars:
            draw.rectangle([x, height - TITLE - value * (STRIP - 4), x + step, height - TITLE], fill=LEVEL)
    for series, colour in ((truth, TRUTH), (made, MADE)):
        if series is not None and len(series) > 1:
            curve = [(MARGIN + i * step, floor - v / top * (floor - TITLE)) for i, v in enumerate(series.tolist())]
            draw.line(curve, fill=colour, width=2)
    draw.text((MARGIN, 1), title, "black", font)
    return image


def stack(images: Sequence[Image.Image]) -> Image.Image:
    """Images below each other on white."""
    sheet = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet
