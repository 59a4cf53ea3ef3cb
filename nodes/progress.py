"""Long work: the node's bar with previews, Cancel, and what to do when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from PIL import Image
from torch import Tensor

from .host import comfy, throw_if_cancelled

logger = logging.getLogger(__name__)
STEPS = 1000  # resolution of a progress bar
PREVIEWS = 20  # pictures per stage: enough to watch, too few to slow it down
PREVIEW_SIDE = 512  # pixels
OutOfMemory = comfy.model_management.OOM_EXCEPTION
Show = Callable[[int], Tensor]
Result = TypeVar("Result")


class Progress:
    """The library's `progress(done, total)`: moves a share of the node's bar, and raises when the user cancels.

    `show(frame)` gives a picture `(h, w, 3)` of what was just done, for a preview on the node.
    """

    def __init__(
        self,
        bar: comfy.utils.ProgressBar | None = None,
        start: float = 0.0,
        stop: float = 1.0,
        show: Show | None = None,
    ) -> None:
        self.bar = bar or comfy.utils.ProgressBar(STEPS)
        self.start, self.stop, self.show, self.shown = start, stop, show, 0

    def part(self, start: float, stop: float) -> Progress:
        """A stage that takes the bar from `start` to `stop`, both 0..1 of this one."""
        length = self.stop - self.start
        return Progress(self.bar, self.start + length * start, self.start + length * stop)

    def showing(self, show: Show) -> Progress:
        """The same share of the bar, with previews."""
        return Progress(self.bar, self.start, self.stop, show)

    def __call__(self, done: int, total: int) -> None:
        throw_if_cancelled()
        share = done / max(total, 1)
        value = round(STEPS * (self.start + (self.stop - self.start) * share))
        self.bar.update_absolute(value, STEPS, self.preview(done, share))

    def preview(self, done: int, share: float) -> tuple[str, Image.Image, int] | None:
        """What the host sends to the node: one of at most `PREVIEWS` pictures per stage."""
        if self.show is None or done < 1 or int(share * PREVIEWS) <= self.shown:
            return None
        self.shown = int(share * PREVIEWS)
        picture = self.show(done - 1).detach()[..., :3].cpu()
        step = max(1, max(picture.shape[:2]) // PREVIEW_SIDE)
        picture = picture[::step, ::step]
        if picture.is_floating_point():
            picture = (picture.float().clamp(0, 1) * 255).round().byte()
        return "JPEG", Image.fromarray(picture.numpy()), PREVIEW_SIDE


def halving(run: Callable[[slice], None], total: int, batch: int, progress: Progress | None = None) -> None:
    """Call `run` on slices of `range(total)`; a slice that runs out of memory is run again in halves."""
    start = 0
    while start < total:
        part = slice(start, min(start + batch, total))
        try:
            run(part)
        except OutOfMemory as error:
            batch = halved(batch, error)
        else:
            start = part.stop
            if progress is not None:
                progress(start, total)
            continue
        make_room(batch)


def retrying(run: Callable[[int], Result], batch: int, least: int = 1) -> Result:
    """`run(batch)`; when it runs out of memory it is run again with half of that, down to `least`."""
    while True:
        try:
            return run(batch)
        except OutOfMemory as error:
            batch = halved(batch, error, least)
        make_room(batch)


def halved(batch: int, error: Exception, least: int = 1) -> int:
    """Half of a batch that did not fit; raises its `error` again when that is less than `least`."""
    if batch // 2 < least:
        raise error
    return batch // 2


def make_room(batch: int) -> None:
    """Give back what the failed batch took, before `batch` at a time are tried.

    Never while its error is being handled: the traceback holds on to every tensor of the functions that failed.
    """
    logger.warning("out of memory: going on with %d at a time", batch)
    comfy.model_management.soft_empty_cache()
