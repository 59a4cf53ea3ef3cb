"""Writing results: never over what is read, and so that a failed or interrupted run leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError


def check_output(path: str | Path, suffixes: Sequence[str] = ()) -> Path:
    """The path of a file that can be written, before any long work.

    Raises InputError when `path` is a folder, does not end in one of `suffixes`, or its folder is missing or closed.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"got the folder {path} as output, expected a file name in it")
        if suffixes and path.suffix.lower() not in suffixes:
            raise InputError(f"got {path.name} as output, expected a name that ends in {' or '.join(suffixes)}")
        if not path.parent.is_dir():
            raise InputError(f"cannot write {path}: there is no folder {path.parent}; create it first")
        aside = _aside(path)
        aside.touch()
        aside.unlink()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder or name") from error
    return path


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


@contextmanager
def write_aside(path: str | Path) -> Iterator[Path]:
    """A hidden name beside `path` to write to: it becomes `path` on success and disappears on any exception.

    With the rights of any new file: safetensors makes files that nobody but their owner may read.
    """
    path = Path(path)
    aside = _aside(path)
    try:
        aside.touch()
        rights = aside.stat().st_mode
        yield aside
        aside.chmod(rights)
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.stem[:80]}.{os.getpid()}.part{path.suffix}")
