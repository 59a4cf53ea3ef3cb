"""Streaming video in: any rate, size and rotation, in chunks of frames with their real times.

n frames   h w picture as shown, after rotation
"""

from __future__ import annotations

import math
import mmap
from collections import deque
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream
from PIL import ExifTags, Image
from torch import Tensor

from ..errors import InputError
from .colour import ACCURATE, FULL_RANGE, ColourTags, swscale_matrix
from .index import FrameIndex, scan
from .media import TIMECODE, check_decoder, check_span, decode, open_media, tags, video_stream

CUT_SLACK = 0.5e-3  # seconds: containers round times to milliseconds
HUGE = 2 * 2**20  # bytes
REORDERED = 16  # frames, at most, that H.264 and HEVC let another one wait


@dataclass(frozen=True)
class VideoInfo:
    """The part of a video that is read. `width` and `height` are as shown; `fps` is the mean rate.

    `pixel_aspect` is the width of a pixel over its height, nearly always 1; `colour` says what light pixels mean;
    `interlaced`: each frame is two half pictures of different moments. `tags` are the film's title and the like, and
    the timecode of its first frame where that is the first one read.
    """

    width: int
    height: int
    fps: Fraction
    frames: int
    duration: float
    has_audio: bool
    pixel_aspect: Fraction = Fraction(1)
    colour: ColourTags = ColourTags()
    interlaced: bool = False
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """How the coded picture is turned to be shown: first transposed, then flipped."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame, path: Path) -> Turn:
        """From the display matrix of phones: x' = a x + c y, y' = b x + d y; or what the picture `path` says itself."""
        try:
            matrix = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV 18 cannot list side data newer than itself, such as EXIF
            return cls.of_picture(path) or cls.by(frame.rotation)
        if matrix is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
        return cls(True, c < 0, b < 0) if abs(b) > abs(a) else cls(False, a < 0, d < 0)

    @classmethod
    def of_picture(cls, path: Path) -> Turn | None:
        """From a picture's EXIF orientation, which may also be mirrored; None where Pillow cannot read it."""
        try:
            with Image.open(path) as picture:
                orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
        except (OSError, Image.DecompressionBombError):
            return None
        return cls(orientation >= 5, orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8))

    @classmethod
    def by(cls, degrees: int) -> Turn:
        """Counter-clockwise, in steps of 90."""
        return {90: cls(True, False, True), 180: cls(False, True, True), 270: cls(True, True, False)}.get(
            degrees % 360, cls()
        )

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        picture = picture.swapaxes(0, 1) if self.transpose else picture
        return np.ascontiguousarray(picture[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


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
        check_span(start, duration)
        with open_media(self.path, "a video") as container:
            stream = video_stream(container)
            if stream is None:
                raise InputError(f"{self.path} holds no video, only sound; expected a video")
            check_decoder(self.path, stream)
            self._index = scan(container, stream)
            has_audio, aspect = bool(container.streams.audio), stream.sample_aspect_ratio or Fraction(1)
            colour, said = ColourTags.of(stream.codec_context), tags(container, stream)
        self._first, self._stop = cut(self._index, start, duration, self.path)
        self.offset = float(self._index.seconds[self._first])
        self._turn, self._size, (height, width), interlaced = self._look()
        last = self._stop - 1
        seconds = float(self._index.seconds[last]) - self.offset + self._index.shown(last)
        aspect = 1 / aspect if self._turn.transpose else aspect
        if self._first:
            said.pop(TIMECODE, None)
        self.info = VideoInfo(
            width,
            height,
            self._index.fps,
            frames=len(self),
            duration=seconds,
            has_audio=has_audio,
            pixel_aspect=aspect,
            colour=colour,
            interlaced=interlaced,
            tags=said,
        )

    def __len__(self) -> int:
        return self._stop - self._first

    @property
    def times(self) -> Tensor:
        """Seconds `(frames,)` float64 of all frames after the first one read, without decoding."""
        return torch.from_numpy(self._index.seconds[self._first : self._stop] - self.offset)

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `(frames (n, h, w, 3) uint8, times (n,) float64)` with n <= `size`; two chunks are held."""
        yield from in_chunks(self.frames(), size)

    def pick(self, wanted: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield `(frames (n, h, w, 3) uint8, arange(n), their numbers (n,))` of the frames `wanted (m,)`, rising.

        Others are decoded, but not made pictures of.
        """
        parts = in_chunks(self.frames(wanted=set(wanted.tolist())), size)
        for (frames, _), at in zip(parts, wanted.split(size), strict=len(wanted) > 0):  # nothing is split into one part
            yield frames, torch.arange(len(at)), at

    def frames(
        self, start: int = 0, stop: int | None = None, wanted: Container[int] | None = None
    ) -> Iterator[tuple[np.ndarray, float]]:
        """Yield `(picture (h, w, 3) uint8, seconds)` of frames `start` to `stop` - 1, decoding from a key frame on.

        Always as many as asked for, which may be the `wanted` of them: where the file is damaged, the frame before is
        held.
        """
        first = self._first + start
        stop = self._stop if stop is None else min(self._first + stop, self._stop)
        if first >= stop:
            return
        frames, picture, reformatter = self._decode(first), None, VideoReformatter()
        held, ahead = next(frames), next(frames, None)
        for due in range(first, stop):
            while ahead is not None and ahead[1] <= due:
                held, ahead, picture = ahead, next(frames, None), None
            if wanted is not None and due - self._first not in wanted:
                continue
            picture = self._picture(held[0], reformatter) if picture is None else picture
            yield picture, float(self._index.seconds[due]) - self.offset

    def _decode(self, first: int) -> Iterator[tuple[VideoFrame, int]]:
        """Decoded frames with their number in the file, starting at or before `first`."""
        for key in dict.fromkeys((self._index.key_before(first), 0)):
            with open_media(self.path, "a video") as container:
                frames = self._from(container, key)
                head = next(frames, None)
                if key == 0 or (head is not None and head[1] <= first):
                    yield from chain([head] if head else [], frames)
                    return

    def _from(self, container: InputContainer, key: int) -> Iterator[tuple[VideoFrame, int]]:
        """Frames from key frame `key` on; none when the file cannot be sought."""
        index, stream = self._index, video_stream(container)
        stream.thread_type = "AUTO"
        if key > 0:
            try:
                container.seek(round((index.origin + index.stamps[key]) / stream.time_base), stream=stream)
            except FFmpegError:
                return
        numbered = self._numbered(container, stream, key)
        yield from in_order(numbered) if index.unsorted else numbered

    def _numbered(self, container: InputContainer, stream: VideoStream, key: int) -> Iterator[tuple[VideoFrame, int]]:
        index = self._index
        for count, frame in enumerate(decode(container, stream), key):
            timed = index.timed and frame.pts is not None
            yield frame, index.number(frame.pts * float(stream.time_base) - index.origin) if timed else count

    def _look(self) -> tuple[Turn, tuple[int, int], tuple[int, int], bool]:
        """Of the first frame: how it is turned, coded (width, height), (height, width) as shown, whether interlaced."""
        head = next(self._decode(self._first), None)
        if head is None:
            raise InputError(
                f"no frame of {self.path} can be decoded: it is damaged, or its codec (animated WebP, for one) is not "
                "supported; convert it to MP4 first"
            )
        frame, turn = head[0], Turn.of(head[0], self.path)
        shown = (frame.height, frame.width)
        shown = shown[::-1] if turn.transpose else shown
        return turn, (frame.width, frame.height), shown, bool(frame.interlaced_frame)

    def _picture(self, frame: VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
        width, height = self._size  # of the first frame: some screen recordings change theirs
        matrix = swscale_matrix(int(frame.colorspace), frame.width, frame.height)
        source = {"src_colorspace": matrix, "src_color_range": frame.color_range or None}
        # Older PyAV ignores the source's matrix where the target's is not given and another.
        target = {"dst_colorspace": Colorspace.ITU601, "dst_color_range": FULL_RANGE}
        colour = {**source, **target, "interpolation": ACCURATE}
        return self._turn(reformatter.reformat(frame, width, height, "rgb24", **colour).to_ndarray())


def cut(index: FrameIndex, start: float, duration: float | None, path: Path) -> tuple[int, int]:
    """The first frame from `start` on, and one past the last before `start + duration`."""
    if not len(index):
        raise InputError(f"{path} has no video frames: it is cut off or damaged")
    first = int(np.searchsorted(index.seconds, start - CUT_SLACK))
    if first == len(index):
        end = float(index.seconds[-1]) + index.shown(len(index) - 1)
        raise InputError(f"got start {start:g} s, but {path} ends at {end:.2f} s; start earlier")
    if duration is None:
        return first, len(index)
    stop = int(np.searchsorted(index.seconds, start + duration - CUT_SLACK))
    return first, max(stop, first + 1)


def in_order(frames: Iterator[tuple[VideoFrame, int]]) -> Iterator[tuple[VideoFrame, int]]:
    """The same frames with their numbers sorted: decoders give frames in the order in which they are shown."""
    waiting: deque[VideoFrame] = deque()
    numbers: list[int] = []
    for frame, number in frames:
        waiting.append(frame)
        heappush(numbers, number)
        if len(waiting) > REORDERED:
            yield waiting.popleft(), heappop(numbers)
    while waiting:
        yield waiting.popleft(), heappop(numbers)


def in_chunks(frames: Iterator[tuple[np.ndarray, float]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Gather single frames into chunks of at most `size`, each while the one before it is worked on."""
    with ThreadPoolExecutor(1) as pool:  # decoding and converting let go of the interpreter
        coming = pool.submit(_gather, frames, size)
        while chunk := coming.result():
            coming = pool.submit(_gather, frames, size)
            yield chunk.pop()  # nothing but the caller holds it then


def _gather(frames: Iterator[tuple[np.ndarray, float]], size: int) -> list[tuple[Tensor, Tensor]]:
    """The next chunk; none at the end."""
    group = list(islice(frames, size))
    if not group:
        return []
    pictures = _own_pages((len(group), *group[0][0].shape))
    np.stack([picture for picture, _ in group], out=pictures)
    times = torch.tensor([seconds for _, seconds in group], dtype=torch.float64)
    return [(torch.from_numpy(pictures), times)]


def _own_pages(shape: tuple[int, ...]) -> np.ndarray:
    """An array of bytes that is given back to the system as a whole.

    On the heap, what is kept of each chunk (landmarks) would settle in the room that the chunk before left, the next
    chunk would not fit there, and the heap would grow by the whole film. Linux is asked for pages of 2 MB: it takes
    longer to hand out a chunk in pages of 4 KB than to fill it.
    """
    size = math.prod(shape)
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.frombuffer(mmap.mmap(-1, size), np.uint8).reshape(shape)
    pages = mmap.mmap(-1, -(-size // HUGE) * HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8, size).reshape(shape)
