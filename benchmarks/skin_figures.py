"""How much of a still's own skin is left when its jaw moves: brush strokes, pores, paint, which no film has.

    python benchmarks/skin_figures.py ../shared/portraits --appearance appearance_small

Each picture is its own only reference, its lower face `DROP` pixels lower. Around the mouth the network's picture
should be that reference, moved onto the landmarks. Compared in bands between two Gaussians (sigmas in pixels of the 256
crop): strength of the network's over that of the reference, and their correlation; median and worst tenth of the
pictures.
Errors on films do not see this: weights 0.3 dB nearer there had lost half of the finest strokes here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from comfyui_mytalk.appearance.layers import blur
from comfyui_mytalk.appearance.mask import lip_region, mask_extent
from comfyui_mytalk.appearance.model import AppearanceModel, load_appearance
from comfyui_mytalk.frames import TensorSource, cut_source
from comfyui_mytalk.geometry import Geometry
from comfyui_mytalk.landmarks.align import CROP_SIZE
from comfyui_mytalk.landmarks.canonical import INNER_LIPS, mouth_opening, to_canonical
from comfyui_mytalk.landmarks.track import FaceLandmarker, load_face_landmarker, track_faces
from comfyui_mytalk.training.appearance_data import RawSample, make_sample
from comfyui_mytalk.training.appearance_validation import network
from comfyui_mytalk.video.reader import VideoReader

BANDS = ((0.5, 1.0), (1.0, 2.0), (2.0, 4.0))  # sigmas, pixels
DROP, OVER = 4.0, 20.0  # pixels; reached so many pixels below the mouth


def still(path: Path, landmarker: FaceLandmarker, references: int) -> RawSample | None:
    """The picture with a lowered jaw, to be painted from as many copies of itself; None when no face is found."""
    image = next(VideoReader(path).chunks(1))[0]
    track = track_faces(TensorSource(image, 25).chunks(1), landmarker)
    if not track.found.any():
        return None
    extent = mask_extent(to_canonical(track.points, track.pose))
    place = Geometry(track.pose, track.transform, extent, track.points)
    crop, points = cut_source(image, place, CROP_SIZE), place.crop_points(track.points)[0, :, :2]
    target, middle = points.clone(), points[list(INNER_LIPS), 1].mean()
    target[:, 1] += DROP * ((points[:, 1] - middle) / OVER).clamp(0, 1)
    region, opening = lip_region(points[None], CROP_SIZE), mouth_opening(points)
    return RawSample(
        crop[0],
        target,
        place.hole(CROP_SIZE)[0],
        crop.expand(references, -1, -1, -1),
        points.expand(references, -1, -1),
        region.expand(references, -1, -1, -1),
        torch.stack([opening, opening]),
    )


@torch.no_grad()
def compare(model: AppearanceModel, raw: RawSample) -> list[tuple[float, float]]:
    """Strength and correlation in each of `BANDS`, where the mask is whole and no mouth is near."""
    sample = make_sample(model.params, [raw])
    made, wanted = network(model)(raw, sample).clamp(0, 1), sample.inputs.references[:, 0]
    skin = (sample.mask > 0.9).float() * (1 - sample.mouth)

    def dot(a: Tensor, b: Tensor) -> float:
        return float((a * b * skin).sum())

    rows = []
    for low, high in BANDS:
        ours, theirs = (blur(x, low) - blur(x, high) for x in (made, wanted))
        own, other = dot(ours, ours), dot(theirs, theirs)
        rows.append(((own / other) ** 0.5, dot(ours, theirs) / (own * other) ** 0.5))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", help="folder of portraits (jpg, png)")
    parser.add_argument("--appearance", default="appearance_small")
    options = parser.parse_args()
    model, landmarker = load_appearance(options.appearance), load_face_landmarker("cpu")
    paths = sorted(p for p in Path(options.pictures).iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    known = (still(path, landmarker, model.params.references) for path in paths)
    found = [raw for raw in known if raw is not None]
    rows = np.array([compare(model, raw) for raw in found])  # (pictures, bands, 2)
    print(f"{len(found)} of {len(paths)} pictures show a face")
    print("| sigmas | strength, median (worst tenth) | correlation, median (worst tenth) |\n|---|---|---|")
    for (low, high), band in zip(BANDS, rows.transpose(1, 2, 0), strict=True):
        cells = (f"{np.median(values):.3f} ({np.quantile(values, 0.1):.3f})" for values in band)
        print(f"| {low:g} to {high:g} px |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
