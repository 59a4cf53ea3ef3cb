"""Writing results so that a failed or interrupted run leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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
