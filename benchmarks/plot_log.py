"""Draw a training log: a panel for each named column of a run's `log.csv`.

python benchmarks/plot_log.py runs/motion/log.csv motion.png --columns x0 velocity corr articulation
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 300, 190, 34  # pixels of one panel


def column(rows: list[dict[str, str]], name: str) -> list[tuple[int, float]]:
    """Step and value of the rows that have the column; what could not be measured is not a number, and left out."""
    known = [(int(row["step"]) + 1, float(row[name])) for row in rows if row.get(name)]
    return [(step, value) for step, value in known if math.isfinite(value)]


def panel(points: list[tuple[int, float]], name: str, last: int) -> Image.Image:
    """One curve over steps 0 to `last`; few points are marked."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    values = [value for _, value in points] or [0.0]
    low, high = min(values), max(values)
    for value in (low, (low + high) / 2, high):
        y = HEIGHT - MARGIN - (value - low) / (high - low or 1) * (HEIGHT - 2 * MARGIN)
        draw.line([(MARGIN, y), (WIDTH - 8, y)], fill="#dddddd")
        draw.text((2, y - 6), f"{value:.4g}", "black")
    spots = [
        (
            MARGIN + step / last * (WIDTH - MARGIN - 8),
            HEIGHT - MARGIN - (value - low) / (high - low or 1) * (HEIGHT - 2 * MARGIN),
        )
        for step, value in points
    ]
    draw.line(spots, fill="#d62728", width=2)
    for x, y in spots if len(spots) < 12 else []:
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill="#d62728")
    draw.text((MARGIN, 8), name, "black")
    draw.text((MARGIN, HEIGHT - 22), "0", "black")
    draw.text((WIDTH - 60, HEIGHT - 22), f"{last} steps", "black")
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--columns", nargs="+", default=["loss"])
    args = parser.parse_args()
    with args.log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if missing := [name for name in args.columns if not column(rows, name)]:
        there = ", ".join(name for name in rows[0] if name != "step" and column(rows, name)) if rows else "no row"
        parser.error(f"{args.log} has no number in {', '.join(missing)}, expected some of: {there}")
    last = max(int(row["step"]) for row in rows) + 1
    sheet = Image.new("RGB", (WIDTH * len(args.columns), HEIGHT), "white")
    for place, name in enumerate(args.columns):
        sheet.paste(panel(column(rows, name), name, last), (place * WIDTH, 0))
    sheet.save(args.output)


if __name__ == "__main__":
    main()
