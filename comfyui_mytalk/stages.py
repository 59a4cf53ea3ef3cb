"""The stages of a run: how far each is, and how long it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

Progress = Callable[[int, int], None] | None  # told (done, total); what it raises ends the work
StageProgress = Callable[[str, int, int], None]  # told the stage as well


@dataclass
class Stopwatch:
    """Seconds spent in each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[name] = round(perf_counter() - start, 3)


def stage_progress(progress: StageProgress | None, name: str) -> Progress:
    """The progress callback of one stage."""
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)


def in_turn(progress: Progress, turn: int, turns: int) -> Progress:
    """`progress` of all the `turns` that something long is done in, for what is done in one of them, from 0 on."""
    return progress and (lambda done, total: progress(turn * total + done, turns * total))
