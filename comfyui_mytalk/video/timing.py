"""When speech and video differ in length: which source frame is shown when, served in bounded memory.

    f output frames   m source frames

Modes of `fit_frames`:
    auto      longer speech: as pingpong; shorter speech: as pad. Nothing that was given is lost. The default.
    trim      the shorter of both
    loop      as long as the speech; the video starts again
    pingpong  as long as the speech; the video runs backwards, then forwards again: no jumps
    hold      as long as the speech; the last frame stays
    pad       as long as the video; speech is cut, or followed by silence
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .index import STILL_RATE, TIMING_SLACK
from .reader import VideoReader, in_chunks

Rate = Fraction | float  # frames per second
MODES = ("auto", "trim", "loop", "pingpong", "hold", "pad")
SAME = 1e-6  # of a frame: speech that ends so little after a frame began needs no other
LAST_INTERVALS = 3  # that tell how long a last frame is shown
SEGMENT_BYTES = 128 * 2**20  # of decoded pictures that running backwards may hold


@dataclass(frozen=True)
class Timeline:
    """Source frames `index (f,)` int64 in the order in which they are shown, the last until `end` seconds."""

    index: Tensor
    end: float


def fit_frames(frames: int, fps: Rate, seconds: float, mode: str = "auto", times: Tensor | None = None) -> Tensor:
    """Source frame `(f,)` int64 shown at each output frame: the `index` of `fit_timeline`, whose arguments it takes."""
    return fit_timeline(frames, fps, seconds, mode, times).index


def fit_timeline(frames: int, fps: Rate, seconds: float, mode: str = "auto", times: Tensor | None = None) -> Timeline:
    """What is shown, of a video of `frames` at `times (m,)` seconds from 0, or `fps` without, to speech of `seconds`.

    Raises InputError for an unknown mode, or when nothing is left.
    """
    if mode not in MODES:
        raise InputError(f"got length mode {mode!r}, expected {', '.join(MODES)}")
    times = _exact(frames, float(fps), times)
    if mode == "auto" and frames:
        film = float(times[-1]) + last_shown(times, fps)
        mode = "pingpong" if (seconds - film) * float(fps) > SAME else "pad"
    index, at = torch.arange(frames), times
    while frames and mode not in ("trim", "pad") and at[-1] < seconds:
        index = _ordered(mode, frames, 2 * len(index))
        at = fit_times(index, times, fps)
    heard = frames if mode == "pad" else int((at < seconds - SAME / float(fps)).sum())
    if not heard:
        raise InputError(f"got a video of {frames} frames and {seconds:g} s of speech, expected some of both")
    index, at = index[:heard], at[:heard]
    end = float(at[-1]) + last_shown(at, fps)
    all_shown = mode in ("trim", "pad") and heard == frames
    return Timeline(index, end if all_shown else max(end, seconds))


def _exact(frames: int, fps: float, times: Tensor | None) -> Tensor:
    """`times (m,)`, which containers round, as `fps` has them exactly where the rate is constant."""
    even = torch.arange(frames, dtype=torch.float64) / fps
    if times is not None and len(times) and float((times - even).abs().max()) > 2 * TIMING_SLACK:
        return times
    return even


def _ordered(mode: str, frames: int, count: int) -> Tensor:
    """The first `count` source frames that are shown, speech or no speech."""
    index = torch.arange(count)
    if mode == "loop":
        return index % frames
    if mode == "pingpong":
        index = index % max(2 * frames - 2, 1)
        return torch.minimum(index, 2 * frames - 2 - index)
    return index.clamp(max=frames - 1)


def last_shown(times: Tensor, fps: Rate = STILL_RATE) -> float:
    """Seconds that the last of the frames at `times (f,)` is shown, which no time tells; `1 / fps` for a single one.

    As long as those just before it: the median, for one of them may be late, but of no more than three, for the rate
    of a film's beginning may not be that of its end.
    """
    if len(times) < 2:
        return 1 / float(fps)
    return times[-LAST_INTERVALS - 1 :].diff().median().item()


def fit_times(index: Tensor, times: Tensor, fps: Rate) -> Tensor:
    """Seconds `(f,)` at which the frames of `index` are shown, from the source's own `times (m,)`.

    Neighbours keep their real distance, in both directions; jumps and held frames take `1 / fps`.
    """
    step = (times[index[1:]] - times[index[:-1]]).abs()
    step = torch.where((index[1:] - index[:-1]).abs() == 1, step, torch.full_like(step, 1 / float(fps)))
    return torch.cat([times.new_zeros(1), step.cumsum(0)])


class FittedReader:
    """The frames `index (f,)` of a video as a video of its own: any order, the same `chunks`, bounded memory.

    Backward runs are decoded in segments that fit into `SEGMENT_BYTES`.
    """

    def __init__(self, reader: VideoReader, index: Tensor) -> None:
        self.reader, self.index = reader, index
        self.times = fit_times(index, reader.times, reader.info.fps)
        self.segment = max(SEGMENT_BYTES // (reader.info.width * reader.info.height * 3), 1)

    def __len__(self) -> int:
        return len(self.index)

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `(frames (n, h, w, 3) uint8, times (n,) float64)` with n <= `size`; two chunks are held."""
        yield from in_chunks(zip(self._pictures(), self.times.tolist(), strict=True), size)

    def _pictures(self) -> Iterator[np.ndarray]:
        for run in runs(self.index.tolist()):
            if run[-1] < run[0]:
                yield from self._backward(run[0], run[-1])
            elif run[-1] > run[0]:
                yield from self._forward(run[0], run[-1] + 1)
            else:
                yield from list(self._forward(run[0], run[0] + 1)) * len(run)

    def _backward(self, first: int, last: int) -> Iterator[np.ndarray]:
        for stop in range(first + 1, last, -self.segment):
            held = list(self._forward(max(stop - self.segment, last), stop))
            while held:
                yield held.pop()

    def _forward(self, start: int, stop: int) -> Iterator[np.ndarray]:
        return (picture for picture, _ in self.reader.frames(start, stop))


def runs(index: Sequence[int]) -> Iterator[list[int]]:
    """Split into stretches with a constant step of 1, -1 or 0."""
    run: list[int] = []
    for frame in index:
        step = frame - run[-1] if run else 0
        if run and (abs(step) > 1 or (len(run) > 1 and step != run[1] - run[0])):
            yield run
            run = []
        run.append(frame)
    if run:
        yield run
