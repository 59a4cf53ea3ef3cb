"""A result beside its source, both faces in one small moving picture: for a README, which plays no video.

python scripts/animation.py SOURCE OUTPUT -o FILE.webp [--fps 12.5]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.sheet import crop, face_box, paste_rows, pick_frames
from comfyui_mytalk.landmarks.track import load_face_landmarker, track_faces
from comfyui_mytalk.video.reader import VideoReader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the video that went in")
    parser.add_argument("output", type=Path, help="the video that came out")
    parser.add_argument("-o", "--animation", type=Path, required=True, help="WebP to write")
    parser.add_argument("--side", type=int, default=256, help="side of each face in pixels (default 256)")
    parser.add_argument(
        "--fps", type=float, default=12.5, help="pictures per second, at most the video's (default 12.5)"
    )
    options = parser.parse_args()
    try:
        source, output = VideoReader(options.source), VideoReader(options.output)
        track = track_faces(output.chunks(16), load_face_landmarker("auto"))
    except InputError as error:
        parser.error(str(error))
    frames, step = min(len(source), len(output)), max(round(float(output.info.fps) / options.fps), 1)
    moments = list(range(0, frames, step))
    box = face_box(track.points[track.usable])
    pictures = [
        side_by_side([crop(picture, box, options.side) for picture in both])
        for both in zip(pick_frames(source.chunks(16), moments), pick_frames(output.chunks(16), moments), strict=True)
    ]
    options.animation.parent.mkdir(parents=True, exist_ok=True)
    shown = round(1000 * step / float(output.info.fps))  # milliseconds
    pictures[0].save(
        options.animation, save_all=True, append_images=pictures[1:], duration=shown, loop=0, quality=60, method=6
    )


def side_by_side(faces: list[Image.Image]) -> Image.Image:
    return paste_rows([("", faces)], ["input", "output"], faces[0].width)


if __name__ == "__main__":
    main()
