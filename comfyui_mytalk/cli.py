"""The command line: sync, tune, prepare, train, evaluate, info.

Exit codes: 0 done, 1 a bug (with its traceback), 2 bad usage or input (one line on stderr), 128 and more what ended it:
129 its terminal was closed, 130 Ctrl-C, 141 nobody reads on (`| head`), 143 terminated.
Heavy imports wait until a command needs them, so that help is there at once.
"""

from __future__ import annotations

import argparse
import errno
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from .commands.arguments import PROGRAM
from .errors import InputError

BAD_INPUT, INTERRUPTED, NOBODY_READS = 2, 130, 141
ENDING = ("SIGTERM", "SIGHUP")  # Windows has one of them
USERS_OS_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
TRAINERS = {
    "speech": "a speech encoder from synthetic speech and clips, in place of the one that ships",
    "identity": "the identity extractor",
    "motion": "landmark diffusion: how a mouth moves to speech",
    "style": "the style reference of a motion model: how a person shapes sounds",
    "appearance": "the renderer of the lower face",
    "occlusion": "the network that sees what lies in front of a face",
    "sync-judge": "the network that judges lip sync, for evaluation alone",
}
EXAMPLES = f"""\
examples:
  {PROGRAM} sync actor.mp4 speech.wav -o out.mp4
  {PROGRAM} sync actor.mp4 other_film.mp4 -o out.mp4 --speech-start 12 --speech-duration 20
  {PROGRAM} info

every command has its own help: {PROGRAM} sync --help
"""


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are one line."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What a command does not know is refused by the command itself, whose help says what it knows."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    previous = _hear_out()
    try:
        args = build_parser(argv).parse_args(argv)
        said = args.run_command(args)
        print(f"{said}\n" if said else "", end="", flush=True)
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        with suppress(BrokenPipeError):
            sys.stdout.close()  # or else the exit would try again, and complain
        return NOBODY_READS
    except OSError as error:
        if error.errno not in USERS_OS_ERRORS:
            raise
        return _fail(f"{error.filename or 'cannot write'}: {error.strerror}")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def build_parser(argv: Sequence[str]) -> Parser:
    """The parser of all commands; the options of a command are there when `argv` asks for it."""
    parser = Parser(
        prog=PROGRAM,
        description="MyTalk: a filmed face speaks new words, every other pixel is the original.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    wanted = argv[0] if argv else ""
    _add(commands, "sync", "make a filmed face speak", ".commands.sync", wanted)
    _add(commands, "tune", "learn how one actor's mouth looks, for sync --tuned", ".commands.tune", wanted)
    _add(commands, "prepare", "turn videos of talking people into training data", ".commands.prepare", wanted)
    trainers = _describe(commands, "train", "train one of the models").add_subparsers(metavar="MODEL", required=True)
    model = argv[1] if wanted == "train" and len(argv) > 1 else ""
    for name, text in TRAINERS.items():
        _add(trainers, name, text, f".training.{name.replace('-', '_')}", model)
    _add(commands, "evaluate", "score the models on talking clips", ".evaluation.evaluate", wanted)
    _describe(commands, "info", "what is installed, which weights, which device").set_defaults(run_command=info)
    return parser


def _describe(commands: Any, name: str, text: str) -> Parser:
    """A command without options."""
    description, kind = text[0].upper() + text[1:] + ".", argparse.RawDescriptionHelpFormatter
    return commands.add_parser(name, help=text, description=description, formatter_class=kind)


def _add(commands: Any, name: str, text: str, module: str, wanted: str) -> None:
    """A command whose module has its options, `add_arguments`, and runs it, `main`; read only when it is `wanted`."""
    parser = _describe(commands, name, text)
    if name == wanted:
        loaded = import_module(module, __package__)
        loaded.add_arguments(parser)
        parser.set_defaults(run_command=loaded.main)


def info(args: argparse.Namespace) -> None:
    """Print what a bug report should contain."""
    for line in import_module(".info", __package__).describe():
        print(line)


def _hear_out() -> dict[int, Any]:
    """Have signals that end the program clean up first; returns who heard them before. `nohup` ignores one."""
    numbers = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, _terminate) for number in heard}


def _terminate(number: int, _: object) -> NoReturn:
    """Leave through the exits that clean up."""
    raise SystemExit(128 + number)


def _fail(message: str, code: int = BAD_INPUT) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code
