"""How exactly edited landmark pictures are read back, on prepared clips: the figures of docs/experiments.md.

    python benchmarks/drawing_figures.py PREPARED --clips 12

From each clip a frame's landmarks, and pictures of the same head with another mouth. What a person's mouth can look
like is read from the clip's first half, the other mouths come from its second half, or are opened or scaled ones.
Errors are means over the lips' points, in pixels of a 256 crop; `unedited` is the share of pictures left alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from comfyui_mytalk.landmarks.align import CROP_SIZE, apply_transform, invert
from comfyui_mytalk.landmarks.canonical import from_canonical
from comfyui_mytalk.landmarks.drawing import LIP_RINGS, draw_lines, render_landmarks
from comfyui_mytalk.landmarks.reading import DrawingReader
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.training.clips import PreparedClip, read_clip

LIPS = torch.tensor(sorted({point for ring in LIP_RINGS for point in ring}))
LOWER = torch.tensor([point for ring in LIP_RINGS for point in ring[1:10]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="folder that `prepare` filled")
    parser.add_argument("--clips", type=int, default=12, help="how many validation clips. Default: 12")
    args = parser.parse_args()
    paths = sorted(path for path in args.prepared.glob("*.safetensors") if read_clip(path).metadata["split"] == "val")
    rows: dict[str, list[tuple[float, float, bool]]] = {}
    for path in paths[:: max(1, len(paths) // args.clips)][: args.clips]:
        for name, row in figures(read_clip(path)):
            rows.setdefault(name, []).append(row)
    print(f"{'picture':22s} before  after  worst  unedited")
    for name, row in rows.items():
        before, after, alone = torch.tensor(row).unbind(1)
        print(f"{name:22s} {before.mean():6.2f} {after.mean():6.2f} {after.max():6.2f} {alone.mean():9.2f}")


def figures(clip: PreparedClip) -> Iterator[tuple[str, tuple[float, float, bool]]]:
    """For each kind of picture: lip error of the landmarks before and after reading it, and whether it was left."""
    frames = clip.found.nonzero()[:, 0]
    known, others = frames[: len(frames) // 2], frames[len(frames) // 2 :]
    at, other = known[len(known) // 2 :][:1], others[len(others) // 2 :][:1]
    points, pose, transform = clip.points[at], clip.pose[at], clip.transform[at]
    changed, index = points.clone(), landmark_set("generated")
    changed[:, index] = from_canonical(clip.canonical[other][:, index], pose)
    reader, crop = DrawingReader(clip.canonical[known]), apply_transform(invert(transform), points[..., :2])
    for name, (drawing, truth) in pictures(crop, apply_transform(invert(transform), changed[..., :2])).items():
        read, edited = reader.read(drawing, points, pose, transform)
        found = apply_transform(invert(transform), read[..., :2])
        before, after = ((given - truth)[:, LIPS].norm(dim=-1).mean().item() for given in (crop, found))
        yield name, (before, after, not bool(edited))


def pictures(own: Tensor, other: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Pictures `(1, 3, s, s)` of the mouths of landmarks `own` and `other (1, 478, 2)`, with their landmarks."""
    drawn, size = render_landmarks(other), (CROP_SIZE, CROP_SIZE)
    smaller = F.interpolate(drawn, scale_factor=0.5, mode="bilinear", antialias=True)
    made = {
        "own": (render_landmarks(own), own),
        "own, lines of 3": (draw_lines(own, size, 3.0), own),
        "another frame's": (drawn, other),
        "… at half size": (F.interpolate(smaller, size, mode="bilinear"), other),
        "… lines of 3": (draw_lines(other, size, 3.0), other),
    }
    for pixels in (4, 8, 22):
        made[f"lower lip {pixels} lower"] = (render_landmarks(opened(own, pixels)), opened(own, pixels))
    return made


def opened(crop: Tensor, pixels: float) -> Tensor:
    """`crop (1, 478, 2)` with the lower lip lower, by `pixels` in its middle."""
    right, left = crop[0, 61, 0], crop[0, 291, 0]
    across = (2 * crop[:, LOWER, 0] - right - left) / (left - right)
    moved = crop.clone()
    moved[:, LOWER, 1] += pixels * (1 - across**2).clamp(min=0)
    return moved


if __name__ == "__main__":
    main()
