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
ELSEWHERE = {"fps", "audio"}  # checked where they are read: rates beyond the widget's, films without sound


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


def checked_inputs(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    """An `execute` that first looks whether anything came through its links, and at its numbers.

    These are held to the schema's limits, and whole ones to whole numbers: the host does that with what is typed, but a
    link brings any number, and None from a switch that nothing is connected to. Raises InputError that names the input.
    """

    @wraps(execute)
    def checked(cls: type[io.ComfyNode], **inputs: Any) -> io.NodeOutput:
        for field in (fields := cls.define_schema().inputs):
            if getattr(field, "min", None) is not None and field.id not in ELSEWHERE:
                value = inputs.pop(field.id, None)
                if value is not None or not field.optional:
                    inputs[field.id] = check_number(field, value)
        for field in fields:
            if inputs.get(field.id) is None and not field.optional and field.id not in ELSEWHERE:
                raise InputError(f"{field.id}: got nothing from the node that is linked to it; connect another")
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
