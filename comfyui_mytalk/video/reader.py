"""Streaming video in: any rate, size and rotation, in chunks of frames with their real times.

    n frames   h w picture as shown, after rotation
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from torch import Tensor

from ..errors import InputError
from .colour import swscale_matrix
from .index import scan
from .media import decode, open_media, video_stream

CUT_SLACK = 0.5e-3  # seconds: containers round times to milliseconds
SAME = 1e-6


@dataclass(frozen=True)
class VideoInfo:
    """The part of a video that is read. `width` and `height` are as shown; `fps` is the mean rate.

    `frames` is counted without decoding: exact for intact files, an upper limit for damaged ones. `pixel_aspect` is
    the width of a pixel over its height, nearly always 1.
    """

    width: int
    height: int
    fps: Fraction
    frames: int
    duration: float
    has_audio: bool
    pixel_aspect: Fraction = Fraction(1)


class VideoReader:
    """Frames of `path`, which may also be a picture, from `start` for `duration` seconds; can be read repeatedly.

    Expected usage::

        reader = VideoReader("clip.mp4", start=1.0, duration=10.0)
        for frames, times in reader.chunks(16):  # uint8 (n, h, w, 3), float64 (n,) seconds after the first frame read
            ...

    `offset` is where the first frame read is in the file, in seconds after the file's first frame: the sound that
    belongs to it is `read_audio(path, start=reader.offset)`.
    Raises InputError, at once, when there is no such file, it holds no video, or the part asked for is empty.
    """

    def __init__(self, path: str | Path, start: float = 0.0, duration: float | None = None) -> None:
        self.path = Path(path)
        with self._open() as container:
            stream = video_stream(container)
            self._index = scan(container, stream)
            has_audio, aspect = bool(container.streams.audio), stream.sample_aspect_ratio or Fraction(1)
        self._first, self._stop = self._cut(start, duration)
        self.offset = float(self._index.seconds[self._first])
        self._turn = Turn()
        sample = self._sample()
        self._turn = Turn.of(sample)
        self._coded = (sample.width, sample.height)
        height, width = self._picture(sample).shape[:2]
        last = self._stop - 1
        seconds = float(self._index.seconds[last]) - self.offset + self._index.shown(last)
        aspect = 1 / aspect if self._turn.transpose else aspect
        self.info = VideoInfo(width, height, self._index.fps, len(self), seconds, has_audio, aspect)

    def __len__(self) -> int:
        return self._stop - self._first

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `(frames (n, h, w, 3) uint8, times (n,) float64)` with n <= `size`; only one chunk is held."""
        yield from in_chunks(self.frames(), size)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[np.ndarray, float]]:
        """Yield `(picture (h, w, 3) uint8, seconds)` of frames `start` to `stop` - 1, from the key frame before them."""
        first = self._first + start
        stop = self._stop if stop is None else min(self._first + stop, self._stop)
        if first >= stop:
            return
        begin, end = self._index.seconds[first] - SAME, self._index.seconds[stop - 1] + SAME
        for frame, seconds in self._decode(first):
            if seconds > end:
                return
            if seconds >= begin:
                yield self._picture(frame), seconds - self.offset

    def _open(self):
        return open_media(self.path, "a video")

    def _cut(self, start: float, duration: float | None) -> tuple[int, int]:
        """First frame and one past the last of the part asked for."""
        seconds = self._index.seconds
        if not len(seconds):
            raise InputError(f"{self.path} has no video frames: it is cut off or damaged")
        if start < 0 or (duration is not None and duration <= 0):
            raise InputError(f"got start {start:g} s, duration {duration} s; expected start >= 0 and duration > 0")
        ...
