"""A contact sheet of a result: input, landmarks found on the output, output, and both mouths enlarged.

python scripts/contact_sheet.py SOURCE OUTPUT -o sheet.png [--columns 8] [--mouth]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.sheet import contact_sheet, pick_frames, pick_moments
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


if __name__ == "__main__":
    main()
