"""Streaming video out: H.264 and AAC in MP4, MOV or Matroska, whole or not at all.

n frames   h w picture   c channels
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from ..output import check_output, write_aside
from ..speech.audio import AUDIO_BLOCK, Audio, add_audio_stream, audio_frames, resampled
from .colour import ACCURATE, FULL_RANGE, RGB, VIDEO_RANGE, ColourTags, swscale_matrix

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv")
PRESET = "fast"
# x264's macroblock tree reads memory that nobody wrote: the same frames gave other files, at 832x480 for one.
# Without it files are 7 to 30 % larger, and as near to the frames.
REPEATABLE = "mbtree=0"
TICKS = 48_000  # per second at least: times are kept to 20 microseconds
AAC_RATES = {96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}
AAC_DEFAULT = 48_000


class VideoWriter:
    """Writes frames and, cut to their length, sound. A context manager: the file appears when the block succeeds.

    Expected usage::

        with VideoWriter("out.mp4", width, height, fps=Fraction(30000, 1001), audio=speech) as writer:
            for frames, times in reader.chunks(16):
                writer.write(frames, times)

    `crf` is x264's quality, 0 to 51, lower is better; 0 stores RGB bit by bit, which few players show. Odd sizes are
    kept exactly, at full colour resolution. Without `times`, frames are `1 / fps` apart. Sound goes on until `end`
    seconds, or else `1 / fps` after the last frame began. `colour` is what the file says that its pixels mean, `tags`
    its title and the like, so far as its format has room for them.
    Raises InputError, at once, when `path` cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: Fraction | float,
        audio: Audio | None = None,
        crf: int = 14,
        pixel_aspect: Fraction = Fraction(1),
        end: float | None = None,
        colour: ColourTags | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        self.path = check_output(path, SUFFIXES)
        self.width, self.height, self.crf, self.pixel_aspect = width, height, crf, pixel_aspect
        self.end, self.colour, self.tags = end, colour or ColourTags(), tags or {}
        self.fps = Fraction(fps).limit_denominator(1001)
        self.audio = for_aac(audio) if audio is not None else None
        # One frame is a whole number of ticks, so that constant rates stay exact.
        self._frame_ticks = self.fps.denominator * math.ceil(TICKS / self.fps.numerator)
        self._tick = 1 / (self.fps * self._frame_ticks)
        self._reformatter = VideoReformatter()
        self._last, self._heard, self.frames = -1, 0, 0

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            aside = stack.enter_context(write_aside(self.path))
            self._container = stack.enter_context(_open(aside))
            self._container.metadata.update(self.tags)
            self._video = self._add_video()
            self._sound = add_audio_stream(self._container, "aac", self.audio) if self.audio else None
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, frames: Tensor | np.ndarray, times: Tensor | np.ndarray | None = None) -> None:
        """Append frames `(n, h, w, 3)` uint8, shown at `times (n,)` seconds after the first frame of the video."""
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.shape[1:] != (self.height, self.width, 3):
            expected = f"uint8 (n, {self.height}, {self.width}, 3)"
            raise ValueError(f"got frames {frames.dtype} {frames.shape}, expected {expected}")
        for i, picture in enumerate(frames):
            self._write(picture, None if times is None else float(times[i]))

    def _write(self, picture: np.ndarray, seconds: float | None) -> None:
        ticks = self.frames * self._frame_ticks if seconds is None else round(seconds / self._tick)
        self._last = max(ticks, self._last + 1)
        frame = self._encodable(np.ascontiguousarray(picture))
        frame.pts, frame.time_base = self._last, self._tick
        self._container.mux(self._video.encode(frame))
        self.frames += 1
        self._write_sound(float(self._last * self._tick))

    def _write_sound(self, until: float, end: bool = False) -> None:
        """Sound goes in whole blocks between the pictures it belongs to; what is left at the `end` is the last."""
        if self._sound is None or self.audio is None:
            return
        stop = min(round(until * self.audio.sample_rate), self.audio.waveform.shape[1])
        stop -= 0 if end else (stop - self._heard) % AUDIO_BLOCK
        for frame in audio_frames(self.audio, self._heard, stop):
            self._container.mux(self._sound.encode(frame))
        self._heard = max(stop, self._heard)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        if self.frames == 0:
            raise ValueError(f"no frames were written to {self.path}")
        shown = float((self._last + self._frame_ticks) * self._tick)
        self._write_sound(shown if self.end is None else self.end, end=True)
        for stream in filter(None, (self._video, self._sound)):
            self._container.mux(stream.encode(None))

    def _add_video(self) -> VideoStream:
        stream = self._container.add_stream("libx264" if self.crf else "libx264rgb", rate=self.fps)
        stream.width, stream.height = self.width, self.height
        stream.pix_fmt = self._format
        stream.options = {"crf": str(self.crf), "preset": PRESET, "x264-params": REPEATABLE}
        context = stream.codec_context
        context.time_base = self._tick
        context.sample_aspect_ratio = self.pixel_aspect
        context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer
        context.colorspace = self._matrix if self.crf else RGB
        context.color_range = int(VIDEO_RANGE if self.crf else FULL_RANGE)
        return stream

    @property
    def _format(self) -> str:
        if self.crf == 0:
            return "rgb24"
        return "yuv444p" if self.width % 2 or self.height % 2 else "yuv420p"

    @property
    def _matrix(self) -> int:
        return self.colour.matrix(self.width, self.height)

    def _encodable(self, picture: np.ndarray) -> VideoFrame:
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        if self.crf == 0:
            return frame
        matrix = swscale_matrix(self._matrix, self.width, self.height)
        colour = {"dst_colorspace": matrix, "dst_color_range": VIDEO_RANGE, "interpolation": ACCURATE}
        frame = self._reformatter.reformat(frame, self.width, self.height, self._format, **colour)
        frame.colorspace, frame.color_range = self._matrix, int(VIDEO_RANGE)
        return frame


@contextmanager
def _open(path: Path) -> Iterator[OutputContainer]:
    """A container that is finished on success; after an exception its own complaints about the end do not matter."""
    options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
    container = av.open(f"file:{path}", "w", options=options)
    try:
        yield container
    except BaseException:
        with suppress(FFmpegError):
            container.close()
        raise
    container.close()


def for_aac(audio: Audio) -> Audio:
    """Mono or stereo at a rate that AAC knows: its own where possible."""
    waveform = audio.waveform.float() if len(audio.waveform) <= 2 else audio.waveform.float().mean(0, keepdim=True)
    rate = audio.sample_rate
    if rate in AAC_RATES:
        return Audio(waveform, rate)
    return Audio(resampled(waveform, rate, AAC_DEFAULT), AAC_DEFAULT)
