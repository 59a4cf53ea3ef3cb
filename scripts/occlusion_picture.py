"""The demo actor with a drawn hand passing in front of the chin: the film, painted over, and kept, one row each.

    python -m scripts.occlusion_picture docs/occlusion.jpg

The hand is one of `training/drawn_hand.py`; the network has seen others of the kind, and real hands as well.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from comfyui_mytalk.landmarks.track import FaceTrack, load_face_landmarker, track_faces
from comfyui_mytalk.options import SyncOptions
from comfyui_mytalk.sync import sync_video
from comfyui_mytalk.training.drawn_hand import draw_hand
from comfyui_mytalk.training.surfaces import Scene
from comfyui_mytalk.video.reader import VideoReader
from comfyui_mytalk.video.writer import VideoWriter

DEMO = Path(__file__).parents[1] / "demo"
SECONDS = 3.0
HAND = 40  # seed of one that comes from below, with all fingers
SKIN = (0.66, 0.47, 0.38)
LOWER_LIP, SIDES = 14, (234, 454)
LOW = 0.1  # of the square that it is drawn in, from the lip down to the hand: above its edge fingertips are cut off
SHOWN = (12, 25, 31, 37, 43, 50, 62)  # frames
BOX, CELL = (0.75, 0.45, 0.75, 0.75), (220, 176)  # face widths left, above, right, below the lip; pixels


def read(path: Path, seconds: float | None = None) -> np.ndarray:
    return torch.cat([frames for frames, _ in VideoReader(path, 0.0, seconds).chunks(16)]).numpy()


def with_hand(frames: np.ndarray, track: FaceTrack) -> np.ndarray:
    """The hand comes up from below, to the lower lip, and goes."""
    made, width = frames.copy(), face_width(track)
    size = round(width * 19 / 14.5)
    top = frames.shape[1] - size
    for i, picture in enumerate(made):
        lip, share = track.points[i, LOWER_LIP, :2].numpy(), i / len(made)
        left = int(lip[0] - size / 2)
        up, at = np.sin(np.pi * share), (lip - (left, top)) / size
        target = np.array([at[0] + 0.25 - 0.2 * up, 1.1 + (at[1] + LOW - 1.1) * up])
        crop = picture[top:, left : left + size].astype(np.float32) / 255
        hand = draw_hand(Scene(crop, target, np.array(SKIN), crop), np.random.default_rng(HAND))
        cover = gaussian_filter(hand.cover, 0.7)[..., None]
        picture[top:, left : left + size] = ((crop * (1 - cover) + hand.picture * cover) * 255).round()
    return made


def face_width(track: FaceTrack) -> float:
    return (track.points[:, SIDES[0], :2] - track.points[:, SIDES[1], :2]).norm(dim=-1).median().item()


def row(frames: np.ndarray, track: FaceTrack) -> np.ndarray:
    """Mouths of some frames side by side."""
    cells, unit = [], face_width(track)
    for i in SHOWN:
        x, y = track.points[i, LOWER_LIP, :2].tolist()
        box = (x - BOX[0] * unit, y - BOX[1] * unit, x + BOX[2] * unit, y + BOX[3] * unit)
        cells.append(np.asarray(Image.fromarray(frames[i]).resize(CELL, Image.Resampling.LANCZOS, box)))
    return np.concatenate(cells, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    actor = DEMO / "actor.mp4"
    track = track_faces(VideoReader(actor, 0.0, SECONDS).chunks(8), load_face_landmarker("cpu"))
    frames = with_hand(read(actor, SECONDS), track)
    rows = [row(frames, track)]
    with tempfile.TemporaryDirectory() as folder:
        film, out = Path(folder) / "film.mp4", Path(folder) / "out.mp4"
        with VideoWriter(film, frames.shape[2], frames.shape[1], 25) as writer:
            writer.write(frames)
        for keep in (False, True):
            sync_video(film, DEMO / "speech.wav", out, SyncOptions(length_mode="trim", keep_occlusions=keep))
            rows.append(row(read(out), track))
    Image.fromarray(np.concatenate(rows)).save(args.output, quality=88)


if __name__ == "__main__":
    main()
