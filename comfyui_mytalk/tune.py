"""`tune`: a video file in, a small safetensors file with what is special about its actor out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from .appearance.model import load_appearance
from .appearance.tuning import Tuning, save_tuning
from .cli import FACE_HELP, MOST_SEED, StageBars, check_apart, seconds, whole_number
from .devices import pick_device
from .landmarks.track import load_face_landmarker, parse_choice, track_faces
from .output import check_output
from .sync import CHUNK, StageProgress, stage_progress
from .training.tune import TuneOptions, tune_on_clip
from .video.reader import VideoReader


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `tune`."""
    parser.add_argument("video", metavar="VIDEO", type=Path, help="the actor: speaking, or showing many mouths")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the .safetensors to write")
    add = parser.add_argument
    add("--steps", type=whole_number(1), default=TuneOptions.steps, metavar="N", help="steps (default %(default)s)")
    add("--seed", type=whole_number(0, MOST_SEED), default=0, metavar="N", help="same seed, same result (default 0)")
    add("--face", default="largest", help=FACE_HELP)
    add("--start", type=seconds, default=0.0, metavar="S", help="begin at this second of VIDEO (default 0)")
    add("--duration", type=seconds, metavar="S", help="use so many seconds of VIDEO (default: to its end)")
    add("--appearance", default="appearance_small", metavar="NAME", help="weights to tune (default %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default %(default)s)")
    add("--quiet", action="store_true", help="no progress bars")


def main(args: Namespace) -> None:
    """Tune on one video and write what changed."""
    check_apart({"output": args.output}, (args.video, args.appearance))
    options = TuneOptions(steps=args.steps, seed=args.seed)
    names = ("face", "start", "duration", "appearance", "device")
    with StageBars(args.quiet) as bars:
        given = {name: getattr(args, name) for name in names}
        tune_video(args.video, args.output, options, **given, progress=bars)


def tune_video(
    video: str | Path,
    out: str | Path,
    options: TuneOptions | None = None,
    *,
    face: str = "largest",
    start: float = 0.0,
    duration: float | None = None,
    appearance: str = "appearance_small",
    device: str = "auto",
    progress: StageProgress | None = None,
) -> Tuning:
    """Tune the picture network on the face in `video` and write `out`, for `sync --tuned`.

    Raises InputError for bad input, before any long work where possible; nothing half-written is left.
    """
    choice, out, where = parse_choice(face), check_output(out, (".safetensors",)), pick_device(device)
    reader, model = VideoReader(video, start, duration), load_appearance(appearance, where)
    landmarker = load_face_landmarker(where)
    faces = stage_progress(progress, "face")
    track = track_faces(reader.chunks(CHUNK), landmarker, choice, faces, reader.info.frames)
    tuning = tune_on_clip(model, reader, track, options, stage_progress(progress, "tune"))
    save_tuning(out, tuning)
    return tuning
