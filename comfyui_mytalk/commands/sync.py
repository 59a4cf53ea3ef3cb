"""`sync`: its options, and how it is run."""

from __future__ import annotations

import json
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from dataclasses import fields
from pathlib import Path

from ..options import SyncOptions
from ..output import check_apart, check_output, write_aside
from .arguments import FACE_HELP, MOST_SEED, PROGRAM, positive, seconds, share, whole_number
from .bars import StageBars

# Those of video.timing and video.writer, here without their imports.
LENGTH_MODES = ("auto", "trim", "loop", "pingpong", "hold", "pad")
SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv")
DESCRIPTION = f"""\
The face in VIDEO speaks the words of SPEECH. Only the lower face changes; size, frame rate and frame times stay.

length modes, for speech and video of different length:
  auto      longer speech: the video runs backwards and forwards again (pingpong);
            shorter speech: the whole video, silent at the end (pad)
  trim      end with the shorter of both
  loop      end with the speech; the video starts again
  pingpong  end with the speech; the video runs backwards and forwards again
  hold      end with the speech; the last frame stays
  pad       end with the video; speech is cut, or followed by silence

examples:
  {PROGRAM} sync actor.mp4 speech.wav -o out.mp4
  {PROGRAM} sync portrait.jpg speech.wav -o out.mp4
  {PROGRAM} sync interview.mp4 speech.wav -o out.mp4 --face 640,360 --length-mode trim
  {PROGRAM} sync actor.mp4 other_film.mp4 -o out.mp4 --speech-start 12 --speech-duration 20
  {PROGRAM} sync actor.mp4 speech.wav -o out.mp4 --seed 7 --report out.json
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `sync`."""
    parser.description = DESCRIPTION
    parser.add_argument("video", metavar="VIDEO", type=Path, help="the actor: a video, or a picture")
    parser.add_argument("speech", metavar="SPEECH", type=Path, help="the words: a sound file, or a video with sound")
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help=f"video to write: {' '.join(SUFFIXES)}"
    )
    add_choices(parser)
    add_models(parser)
    parser.set_defaults(**{option.name: option.default for option in fields(SyncOptions)})


def add_choices(parser: ArgumentParser) -> None:
    """What to do, and how."""
    add = parser.add_argument_group("what to do").add_argument
    add("--seed", type=whole_number(0, MOST_SEED), metavar="N", help="same seed, same result (default %(default)s)")
    add("--steps", type=whole_number(1), metavar="N", help="diffusion steps (default %(default)s)")
    add("--face", help=FACE_HELP)
    add("--start", type=seconds, metavar="S", help="begin at this second of VIDEO (default 0)")
    add("--duration", type=positive, metavar="S", help="use so many seconds of VIDEO (default: to its end)")
    add("--speech-start", type=seconds, metavar="S", help="begin at this second of SPEECH (default 0)")
    add("--speech-duration", type=positive, metavar="S", help="use so many seconds of SPEECH (default: to its end)")
    add("--length-mode", choices=LENGTH_MODES, help="see above (default %(default)s)")
    add(
        "--crf",
        type=whole_number(0, 51),
        metavar="N",
        help="H.264 quality, lower is better; 0: bit by bit, as RGB, which few players show (default %(default)s)",
    )
    add("--report", type=Path, metavar="FILE", help="write what was done as JSON")
    add("--quiet", action="store_true", help="no progress bars")
    add(
        "--references",
        choices=("retrieved", "fixed"),
        help="mouths shown to the picture network: retrieved per frame, or the paper's three (default %(default)s)",
    )
    add("--reference-video", type=Path, metavar="VIDEO", help="take lips and teeth from this video instead")
    add("--style-video", type=Path, metavar="VIDEO", help="hold and open the mouth as this actor does in this video")
    add(
        "--keep-mask",
        type=Path,
        metavar="FILE",
        help="picture or video, light where the film stays as it is (a hand)",
    )
    add(
        "--keep-occlusions",
        action=BooleanOptionalAction,
        help="a hand or a microphone that is seen in front of the mouth stays as filmed (default), or is painted over",
    )
    add(
        "--tune",
        type=whole_number(0),
        metavar="N",
        help="tune on this actor for N steps before painting (default 0: not)",
    )
    add("--tuned", metavar="FILE", help="an earlier tuning on this actor, from the command tune")
    add("--strength", type=float, metavar="X", help="how far the mouth opens (default %(default)s)")
    add(
        "--style-strength",
        type=float,
        metavar="X",
        help="how strongly sounds are shaped as the actor shapes them in VIDEO, or in --style-video, if it has sound; "
        "0: not (default %(default)s)",
    )
    add("--silence-gate", type=share, metavar="X", help="rest in pauses, 0 to 1 (default %(default)s)")


def add_models(parser: ArgumentParser) -> None:
    """With which networks, and where they run."""
    add = parser.add_argument_group("models, each a name in the weights folders or a path").add_argument
    add("--speech-encoder", metavar="NAME", help="hears the speech; also a Hugging Face folder (default %(default)s)")
    add("--identity", metavar="NAME", help="tells whose face it is (default %(default)s)")
    add("--motion", metavar="NAME", help="moves the mouth (default %(default)s)")
    add("--appearance", metavar="NAME", help="paints it (default %(default)s)")
    add("--occlusion", metavar="NAME", help="sees what is in front of the face (default %(default)s)")
    add("--device", help="auto, cpu, cuda, cuda:1, mps (default %(default)s)")
    add("--dtype", help="auto, float32, bfloat16, float16 (default %(default)s)")


def main(args: Namespace) -> str | None:
    """Check what can be checked at once, then run it; says what was written."""
    options = SyncOptions(**{option.name: getattr(args, option.name) for option in fields(SyncOptions)})
    check_output(args.output, SUFFIXES)
    if args.report is not None:
        check_output(args.report)
    check_apart({"output": args.output, "report": args.report}, (args.video, args.speech, *options.files))
    from ..sync import sync_video  # late: what --help shows is there at once

    with StageBars(args.quiet) as bars:
        report = sync_video(args.video, args.speech, args.output, options, bars)
    if args.report is not None:
        with write_aside(args.report) as aside:
            aside.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return None if args.quiet else f"wrote {args.output}"
