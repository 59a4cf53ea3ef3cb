"""What options of several commands share: their types, and words that are said of each."""

from __future__ import annotations

import math
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


def number(expected: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """An argument type: numbers that fit what is `expected`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            raise ArgumentTypeError(f"got {text!r}, expected {expected}")
        return value

    return parse


seconds = number("seconds such as 12.5", lambda value: 0 <= value < math.inf)
positive = number("a number above 0", lambda value: 0 < value < math.inf)
weight = number("a number of at least 0", lambda value: 0 <= value < math.inf)
share = number("a number from 0 to 1", lambda value: 0 <= value <= 1)


def shard(text: str) -> tuple[int, int]:
    """An argument type: the I-th of N shares of the work, `2/4` -> (1, 4)."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ArgumentTypeError(f"got {text!r}, expected I/N such as 1/4")
    return int(number) - 1, int(count)
