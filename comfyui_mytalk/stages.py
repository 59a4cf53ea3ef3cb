"""The stages of a run: how far each is, and how long it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from .frames import Progress

StageProgress = Callable[[str, int, int], None]


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
