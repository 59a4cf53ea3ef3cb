"""What options of several commands share: their types, and words that are said of each."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable

PROGRAM = "python -m comfyui_mytalk"
MOST_SEED = 2**63 - 1
FACE_HELP = (
    "largest, an index (people in order of appearance, those who are there together from left to right), or a place "
    "x,y (default %(default)s)"
)


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argument type: whole numbers in a range."""
    expected = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"

    def parse(text: str) -> int:
        value = int(text) if text.lstrip("+-").isdigit() else None
        if value is None or value < least or (most is not None and value > most):
            raise ArgumentTypeError(f"got {text!r}, expected {expected}")
        return value

    return parse


def seconds(text: str) -> float:
    """An argument type: seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"got {text!r}, expected seconds such as 12.5")
    return value


def positive(text: str) -> float:
    """An argument type: numbers above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"got {text!r}, expected a number above 0")
    return value


def share(text: str) -> float:
    """An argument type: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"got {text!r}, expected a number from 0 to 1")
    return value


def shard(text: str) -> tuple[int, int]:
    """An argument type: the I-th of N shares of the work, `2/4` -> (1, 4)."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ArgumentTypeError(f"got {text!r}, expected I/N such as 1/4")
    return int(number) - 1, int(count)
