"""Progress bars on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm


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
