"""What the film's own fine detail brings where faces are larger than the network's 256 pixels: docs/experiments.md.

    python benchmarks/closeup_figures.py VIDEO...

References come from the first half of a video; its second half is painted anew from its own landmarks, with and without
that detail. Scored at the video's full resolution, in the box of the lips and a third of its width around them; seconds
are those of painting and pasting.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from comfyui_mytalk import pipeline
from comfyui_mytalk.appearance.model import AppearanceModel, load_appearance
from comfyui_mytalk.appearance.references import BANK
from comfyui_mytalk.evaluation.pictures import psnr, sharpness_ratio
from comfyui_mytalk.frames import TensorSource
from comfyui_mytalk.geometry import geometry
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.landmarks.track import load_face_landmarker, track_faces
from comfyui_mytalk.video.reader import VideoReader


def figures(path: Path, model: AppearanceModel, frames_at_most: int) -> tuple[int, list[tuple[float, float, float]]]:
    """Side of the crops with detail; PSNR, sharpness ratio and seconds without it and with it."""
    frames = torch.cat([chunk for chunk, _ in VideoReader(path).chunks(16)])[: 2 * frames_at_most]
    source = TensorSource(frames, 25)
    track = track_faces(source.chunks(16), load_face_landmarker("cpu"))
    middle, place = len(track) // 2, geometry(track)
    early = track.replace(found=track.found & (torch.arange(len(track)) < middle), filled=None)
    bank = pipeline.select_references(source, early, place, BANK)
    later = TensorSource(frames[middle:], 25)
    spoken = track[middle:].replace(filled=None)
    results = []
    for kind in (replace(bank, full=None), bank):
        start = perf_counter()
        made = torch.cat([out for out, _, _ in pipeline.render_clip(model, later, spoken, place[middle:], kind)])
        seconds = perf_counter() - start
        results.append((*scores(made, frames[middle:], spoken.points), seconds))
    return bank.size, results


def scores(made: Tensor, true: Tensor, points: Tensor) -> tuple[float, float]:
    """Means over frames `(f, h, w, 3)` uint8 of PSNR and sharpness ratio around the lips of `points (f, 478, 3)`."""
    rows = []
    for mine, truth, lips in zip(made, true, points[:, landmark_set("lips_outer"), :2], strict=True):
        margin = (lips[:, 0].amax() - lips[:, 0].amin()) / 3
        (left, top), (right, bottom) = (lips.amin(0) - margin).int().tolist(), (lips.amax(0) + margin).int().tolist()
        box = [
            x[max(0, top) : bottom, max(0, left) : right].permute(2, 0, 1)[None].float() / 255 for x in (mine, truth)
        ]
        rows.append((float(psnr(*box)), float(sharpness_ratio(*box))))
    return tuple(np.mean(rows, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--appearance", default="appearance_small")
    parser.add_argument("--frames", type=int, default=60, help="of each half, at most. Default: 60")
    options = parser.parse_args()
    model, rows = load_appearance(options.appearance), []
    print("| video | crop | without: dB / sharpness | with | time, with : without |")
    for path in options.videos:
        size, (plain, fine) = figures(path, model, options.frames)
        rows.append((plain, fine))
        cells = (f"{row[0]:.2f} / {row[1]:.2f}" for row in (plain, fine))
        print("|", " | ".join((path.stem, str(size), *cells, f"{fine[2] / plain[2]:.2f}")), "|", flush=True)
    plain, fine = np.mean(rows, 0)
    print(f"mean: {plain[0]:.2f} / {plain[1]:.2f} without, {fine[0]:.2f} / {fine[1]:.2f} with")


if __name__ == "__main__":
    main()
