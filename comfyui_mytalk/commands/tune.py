"""`tune`: its options, and how it is run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..training.tune import TuneOptions
from ..tune import tune_video
from .arguments import FACE_HELP, MOST_SEED, positive, seconds, whole_number
from .bars import StageBars


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `tune`."""
    parser.add_argument("video", metavar="VIDEO", type=Path, help="the actor: speaking, or showing many mouths")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the .safetensors to write")
    add = parser.add_argument
    add("--steps", type=whole_number(1), default=TuneOptions.steps, metavar="N", help="steps (default %(default)s)")
    add("--seed", type=whole_number(0, MOST_SEED), default=0, metavar="N", help="same seed, same result (default 0)")
    add("--face", default="largest", help=FACE_HELP)
    add("--start", type=seconds, default=0.0, metavar="S", help="begin at this second of VIDEO (default 0)")
    add("--duration", type=positive, metavar="S", help="use so many seconds of VIDEO (default: to its end)")
    add("--appearance", default="appearance_small", metavar="NAME", help="weights to tune (default %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default %(default)s)")
    add("--quiet", action="store_true", help="no progress bars")


def main(args: Namespace) -> str | None:
    """Tune on one video and write what changed; says what was written."""
    options = TuneOptions(steps=args.steps, seed=args.seed)
    names = ("face", "start", "duration", "appearance", "device")
    with StageBars(args.quiet) as bars:
        given = {name: getattr(args, name) for name in names}
        tune_video(args.video, args.output, options, **given, progress=bars)
    return None if args.quiet else f"wrote {args.output}"
