"""A contact sheet of a result: input, landmarks found on the output, output, and both mouths enlarged.

python scripts/contact_sheet.py SOURCE OUTPUT -o sheet.png [--columns 8] [--mouth] [--animation both.webp]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.sheet import contact_sheet, crop, face_box, paste_rows, pick_frames, pick_moments
from comfyui_mytalk.landmarks.track import load_face_landmarker, track_faces
from comfyui_mytalk.video.reader import VideoReader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the video that went in")
    parser.add_argument("output", type=Path, help="the video that came out")
    parser.add_argument("-o", "--sheet", type=Path, required=True, help="PNG to write")
    parser.add_argument("--columns", type=int, default=8, help="moments shown (default 8)")
    parser.add_argument("--side", type=int, default=192, help="side of a cell in pixels (default 192)")
    parser.add_argument("--start", type=float, default=0.0, help="the --start that sync was given (default 0)")
    parser.add_argument("--mouth", action="store_true", help="only the two rows of mouths")
    parser.add_argument(
        "--animation", type=Path, help="WebP to write too: both faces moving, for pages that play no video"
    )
    options = parser.parse_args()
    try:
        source, output = VideoReader(options.source, options.start), VideoReader(options.output)
        track = track_faces(output.chunks(16), load_face_landmarker("auto"))
    except InputError as error:
        parser.error(str(error))
    moments = pick_moments(min(len(track), source.info.frames), options.columns)
    sheet = contact_sheet(
        pick_frames(source.chunks(16), moments),
        pick_frames(output.chunks(16), moments),
        track.points[moments],
        [f"{track.times[moment]:.2f} s" for moment in moments],
        options.side,
        faces=not options.mouth,
    )
    options.sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.sheet)
    if options.animation:
        animate(source, output, track.points[track.usable], options.animation)


def animate(source: VideoReader, output: VideoReader, points: Tensor, path: Path, side: int = 256) -> None:
    """Every other frame of both beside each other, cut to the face whose landmarks are `points (m, 478, 3)`."""
    moments, box = range(0, min(len(source), len(output)), 2), face_box(points)
    shown = (pick_frames(reader.chunks(16), moments) for reader in (source, output))
    pictures = [
        paste_rows([("", [crop(picture, box, side) for picture in both])], ["input", "output"], side)
        for both in zip(*shown, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    lasts = round(2000 / output.info.fps)  # milliseconds
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=lasts, loop=0, quality=60, method=6)


if __name__ == "__main__":
    main()
