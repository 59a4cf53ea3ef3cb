"""What nodes say of inputs that cannot be used: the input's name first, then what is wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from numbers import Integral, Real
from typing import Any

from ..comfyui_mytalk.errors import InputError
from .host import io

NAMED = re.compile(r"[a-z_]+: ")  # how a text begins that names its input already
WIDER = {"fps"}  # widgets that are narrower than what their node takes: it checks that itself


@contextmanager
def named(name: str) -> Iterator[None]:
    """Errors of the library within, as errors of the input `name`; those that name an input stay as they are."""
    try:
        yield
    except InputError as error:
        if NAMED.match(str(error)):
            raise
        raise InputError(f"{name}: {error}") from error


def one_of(name: str, value: str, options: Sequence[str]) -> str:
    """The same value; raises InputError unless it is among the options. A link brings any text."""
    if value not in options:
        raise InputError(f"{name}: got {value!r}, expected {', '.join(options[:-1])} or {options[-1]}")
    return value


def counted(count: int, what: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def within_limits(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    """An `execute` that first holds its numbers to the schema's limits, and whole ones to whole numbers.

    The host does that with what is typed; a link brings any number. Raises InputError that names the input.
    """

    @wraps(execute)
    def checked(cls: type[io.ComfyNode], **inputs: Any) -> io.NodeOutput:
        for number in cls.define_schema().inputs:
            if getattr(number, "min", None) is not None and number.id not in WIDER:
                value = inputs.pop(number.id, None)
                if value is not None or not number.optional:
                    inputs[number.id] = check_number(number, value)
        return execute(cls, **inputs)

    return checked


def check_number(number: io.Input, value: Any) -> int | float:
    """`value` as the kind of number that its input takes, where 4.0 is whole.

    Raises InputError unless it is within the limits of the input.
    """
    kind = int if isinstance(number, io.Int.Input) else float
    within = isinstance(value, Real) and number.min <= value <= number.max  # also false for nan
    if not within or kind(value) != value:
        raise InputError(
            f"{number.id}: got {shown(value)}, expected {shown(number.min)} to {shown(number.max)}"
            f"{', whole' if kind is int else ''}; link a number within these limits, or type one"
        )
    return kind(value)


def shown(value: Any) -> str:
    """A number as people write it; whole ones with every digit."""
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{float(value):g}"  # a Fraction knows no :g before Python 3.12
    return repr(value) if isinstance(value, str) else str(value)
