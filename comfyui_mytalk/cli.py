"""The command line: sync, tune, prepare, train, evaluate, info.

Exit codes: 0 done, 1 a bug (with its traceback), 2 bad usage or input (one line on stderr), 130 Ctrl-C, 143 terminated.
Heavy imports wait until a command needs them, so that help is there at once.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from .errors import InputError
from .output import check_output, write_aside

PROGRAM = "python -m comfyui_mytalk"
BAD_INPUT, INTERRUPTED, TERMINATED = 2, 130, 143
USERS_OS_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
# Those of video.timing and video.writer, here without their imports.
LENGTH_MODES = ("auto", "trim", "loop", "pingpong", "hold", "pad")
SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv")
MOST_SEED = 2**63 - 1
FACE_HELP = (
    "largest, an index (people in order of appearance, those who are there together from left to right), or a place "
    "x,y (default %(default)s)"
)
# Options of `sync` that may name a file to read.
SYNC_READS = (
    *("video", "speech", "reference_video", "style_video", "keep_mask", "tuned"),
    *("speech_encoder", "identity", "motion", "appearance", "occlusion"),
)
TRAINERS = {
    "speech": "a speech encoder from synthetic speech and clips, in place of the one that ships",
    "identity": "the identity extractor",
    "motion": "landmark diffusion: how a mouth moves to speech",
    "style": "the style reference of a motion model: how a person shapes sounds",
    "appearance": "the renderer of the lower face",
    "occlusion": "the network that sees what lies before a face",
    "sync-judge": "the network that judges lip sync, for evaluation alone",
}
EXAMPLES = f"""\
examples:
  {PROGRAM} sync actor.mp4 speech.wav -o out.mp4
  {PROGRAM} sync actor.mp4 other_film.mp4 -o out.mp4 --speech-start 12 --speech-duration 20
  {PROGRAM} info

every command has its own help: {PROGRAM} sync --help
"""
SYNC_HELP = f"""\
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


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        args = build_parser(argv).parse_args(argv)
        if said := args.run_command(args):
            print(said)
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except OSError as error:
        if error.errno not in USERS_OS_ERRORS:
            raise
        return _fail(f"{error.filename or 'cannot write'}: {error.strerror}")
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def build_parser(argv: Sequence[str]) -> Parser:
    """The parser of all commands; the options of a trainer are there when `argv` asks for it."""
    parser = Parser(
        prog=PROGRAM,
        description="MyTalk: a filmed face speaks new words, every other pixel is the original.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_sync(commands)
    _add_foreign(commands, "tune", "learn how one actor's mouth looks, for sync --tuned", ".tune", argv[:1] == ["tune"])
    _add_prepare(commands)
    trainers = _command(commands, "train", "train one of the models").add_subparsers(metavar="MODEL", required=True)
    for name, text in TRAINERS.items():
        _add_foreign(trainers, name, text, f".training.{name.replace('-', '_')}", list(argv[:2]) == ["train", name])
    _add_foreign(
        commands, "evaluate", "score the models on talking clips", ".evaluation.evaluate", argv[:1] == ["evaluate"]
    )
    _command(commands, "info", "what is installed, which weights, which device").set_defaults(run_command=info)
    return parser


def _command(commands: Any, name: str, text: str, **more: Any) -> Parser:
    more = {"description": text[0].upper() + text[1:] + "."} | more
    return commands.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter, **more)


def _add_foreign(commands: Any, name: str, text: str, module: str, wanted: bool) -> None:
    """A command that its own module describes and runs."""
    parser = _command(commands, name, text)
    if wanted:
        loaded = import_module(module, __package__)
        loaded.add_arguments(parser)
        parser.set_defaults(run_command=loaded.main)


def _add_sync(commands: Any) -> None:
    parser = _command(commands, "sync", "make a filmed face speak", description=SYNC_HELP)
    parser.set_defaults(run_command=sync)
    parser.add_argument("video", metavar="VIDEO", type=Path, help="the actor: a video, or a picture")
    parser.add_argument("speech", metavar="SPEECH", type=Path, help="the words: a sound file, or a video with sound")
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help=f"video to write: {' '.join(SUFFIXES)}"
    )
    add = parser.add_argument_group("what to do").add_argument
    add(
        "--seed",
        type=whole_number(0, MOST_SEED),
        default=0,
        metavar="N",
        help="same seed, same result (default %(default)s)",
    )
    add("--steps", type=whole_number(1), default=10, metavar="N", help="diffusion steps (default %(default)s)")
    add("--face", default="largest", help=FACE_HELP)
    add("--start", type=seconds, default=0.0, metavar="S", help="begin at this second of VIDEO (default 0)")
    add("--duration", type=seconds, metavar="S", help="use so many seconds of VIDEO (default: to its end)")
    add("--speech-start", type=seconds, default=0.0, metavar="S", help="begin at this second of SPEECH (default 0)")
    add("--speech-duration", type=seconds, metavar="S", help="use so many seconds of SPEECH (default: to its end)")
    add("--length-mode", choices=LENGTH_MODES, default="auto", help="see above (default %(default)s)")
    add(
        "--crf",
        type=whole_number(0, 51),
        default=14,
        metavar="N",
        help="H.264 quality, lower is better (default %(default)s)",
    )
    add("--report", type=Path, metavar="FILE", help="write what was done as JSON")
    add("--quiet", action="store_true", help="no progress bars")
    add(
        "--references",
        choices=("retrieved", "fixed"),
        default="retrieved",
        help="mouths shown to the picture network: retrieved per frame, or the paper's three (default %(default)s)",
    )
    add("--reference-video", type=Path, metavar="VIDEO", help="take lips and teeth from this video instead")
    add("--style-video", type=Path, metavar="VIDEO", help="hold and open the mouth as this actor does in this video")
    add(
        "--keep-mask", type=Path, metavar="FILE", help="picture or video: what stays as filmed is light (a hand, a mic)"
    )
    add(
        "--keep-occlusions",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a hand or a microphone that is seen before the mouth stays as filmed (default), or is painted over",
    )
    add(
        "--tune", type=whole_number(0), default=0, metavar="N", help="first N steps of tuning on this actor (default 0)"
    )
    add("--tuned", metavar="FILE", help="an earlier tuning on this actor, from the command tune")
    add("--strength", type=float, default=1.0, metavar="X", help="how far the mouth opens (default %(default)s)")
    add(
        "--style-strength",
        type=float,
        default=1.0,
        metavar="X",
        help="how much of how the actor shapes sounds is learnt from the sound of VIDEO, or of --style-video; "
        "0: nothing (default %(default)s)",
    )
    add("--silence-gate", type=float, default=1.0, metavar="X", help="rest in pauses, 0 to 1 (default %(default)s)")
    add = parser.add_argument_group("models, each a name in the weights folders or a path").add_argument
    add("--speech-encoder", default="speech_small", metavar="NAME", help="also a Hugging Face folder")
    add("--identity", default="identity_small", metavar="NAME", help="(default %(default)s)")
    add("--motion", default="motion_small", metavar="NAME", help="(default %(default)s)")
    add("--appearance", default="appearance_small", metavar="NAME", help="(default %(default)s)")
    add("--occlusion", default="occlusion_small", metavar="NAME", help="(default %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default %(default)s)")
    add("--dtype", default="auto", help="auto, float32, bfloat16, float16 (default %(default)s)")


def sync(args: argparse.Namespace) -> None:
    """Check what can be checked at once, then run it."""
    check_output(args.output, SUFFIXES)
    if args.report is not None:
        check_output(args.report)
    check_apart({"output": args.output, "report": args.report}, (getattr(args, name) for name in SYNC_READS))
    runner = import_module(".sync", __package__)
    names = runner.SyncOptions.__dataclass_fields__
    options = runner.SyncOptions(**{name: value for name, value in vars(args).items() if name in names})
    with StageBars(args.quiet) as bars:
        report = runner.sync_video(args.video, args.speech, args.output, options, bars)
    if args.report is not None:
        with write_aside(args.report) as aside:
            aside.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if not args.quiet:
        print(f"wrote {args.output}")


def _add_prepare(commands: Any) -> None:
    parser = _command(commands, "prepare", "turn videos of talking people into training data")
    parser.set_defaults(run_command=prepare)
    parser.add_argument("videos", metavar="VIDEOS", nargs="+", type=Path, help="a folder of videos, or video files")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, required=True, help="folder of prepared clips")
    parser.add_argument("--index", type=Path, metavar="FILE", help="JSON list with file, split, identity, corpus, …")
    parser.add_argument("--val-share", type=float, default=0.05, help="of the identities, without index (default 0.05)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def prepare(args: argparse.Namespace) -> None:
    """Prepare what is not yet prepared; a bad video does not stop the rest."""
    missing = next((path for path in args.videos if not path.exists()), None)
    if missing is not None:
        raise InputError(f"there is no file or folder {missing}")
    if args.output.is_file():
        raise InputError(f"got the file {args.output} as output, expected a folder")
    videos = args.videos[0] if len(args.videos) == 1 and args.videos[0].is_dir() else args.videos
    load_face_landmarker = import_module(".landmarks.track", __package__).load_face_landmarker
    prepare_folder = import_module(".training.prepare", __package__).prepare_folder
    with StageBars(args.quiet) as bars:
        landmarker = load_face_landmarker(args.device)
        done = prepare_folder(videos, args.output, landmarker, args.index, args.val_share, bars.stage("videos"))
    if done.failed and not (done.prepared or done.skipped):
        raise InputError(f"none of the {len(done.failed)} videos could be prepared")
    if not args.quiet:
        print(
            f"{len(done.prepared)} prepared, {len(done.skipped)} were there, {len(done.failed)} failed: {args.output}"
        )


def info(args: argparse.Namespace) -> None:
    """Print what a bug report should contain."""
    for line in import_module(".info", __package__).describe():
        print(line)


class StageBars:
    """One tqdm bar per stage; called as `progress(stage, done, total)`."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.name, self.bar = quiet, "", tqdm(disable=True)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.name:
            self.bar.close()
            pause = 0.3 if sys.stderr.isatty() else 10  # a log file needs few lines
            self.name, self.bar = stage, tqdm(desc=stage, disable=self.quiet, mininterval=pause)
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def stage(self, name: str) -> Callable[[int, int], None]:
        """The progress callback of a single stage."""
        return lambda done, total: self(name, done, total)

    def __enter__(self) -> StageBars:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argument type: whole numbers in a range."""
    expected = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"

    def parse(text: str) -> int:
        value = int(text) if text.lstrip("+-").isdigit() else None
        if value is None or value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}")
        return value

    return parse


def seconds(text: str) -> float:
    """An argument type: seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected seconds such as 12.5")
    return value


def check_apart(written: dict[str, Path | None], read: Iterable[str | Path | None]) -> None:
    """Raise InputError when a file that is to be `written`, by its name in the message, is one that is `read`.

    Also when two that are written are one.
    """
    taken = [("input", Path(path)) for path in read if path is not None]
    for name, path in written.items():
        if path is None:
            continue
        other = next((f"{kind} {given}" for kind, given in taken if _is_same(given, path)), None)
        if other is not None:
            raise InputError(f"the {name} {path} is the {other}; choose another name")
        taken.append((name, path))


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, which may not exist yet."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _terminate(*_: object) -> NoReturn:
    """Leave through the exits that clean up."""
    raise SystemExit(TERMINATED)


def _fail(message: str, code: int = BAD_INPUT) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code
