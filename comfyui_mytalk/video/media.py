"""Opening files and decoding streams, robust against what users really have."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.frame import Frame
from av.stream import Stream
from av.video.stream import VideoStream

from ..errors import InputError

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg")  # what a folder of clips may hold
LOCAL_ONLY = {"protocol_whitelist": "file"}  # a playlist must not make us open connections
# What a film says of itself that stays true when it says other words: no lyrics, no loudness, no encoder.
TAGS = ("title", "artist", "album", "date", "genre", "comment", "description", "synopsis", "copyright", "location")
TIMECODE = "timecode"  # of the first frame
NOT_MEDIA = {"tty"}  # FFmpeg draws text files as pictures of a terminal


@contextmanager
def open_media(path: Path, expected: str) -> Iterator[InputContainer]:
    """Open a local media file; raises InputError that says why `path` is not a readable `expected` (video, audio)."""
    if path.is_dir():
        raise InputError(f"got the folder {path}, expected {expected} file")
    if not path.is_file():
        raise InputError(f"there is no file {path}, expected {expected} file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes), expected {expected} file")
    try:
        container = av.open(f"file:{path}", options=LOCAL_ONLY, metadata_errors="replace")  # Latin-1 in WAV and AVI
    except (FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read {path} as {expected} file ({reason}); convert it to MP4 or WAV first") from error
    with container:
        if container.format.name in NOT_MEDIA:
            raise InputError(f"{path} is a text, expected {expected} file")
        yield container


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first picture stream; the cover of a sound file is none."""
    return next((stream for stream in container.streams.video if not is_cover(stream)), None)


def tags(container: InputContainer, stream: VideoStream) -> dict[str, str]:
    """`TAGS` and `TIMECODE` of a film, so far as it has them."""
    said = {name.lower(): text for name, text in container.metadata.items()}
    said |= {name: text for name, text in stream.metadata.items() if name == TIMECODE}
    return {name: said[name] for name in (*TAGS, TIMECODE) if name in said}


def is_cover(stream: VideoStream) -> bool:
    """Whether a picture stream is the cover of a sound file."""
    return _marked(stream, "attached_pic")


def _marked(stream: VideoStream, name: str) -> bool:
    disposition = getattr(stream, "disposition", None)  # PyAV 12 does not tell
    return disposition is not None and bool(disposition & getattr(type(disposition), name))


def check_decoder(path: Path, stream: Stream) -> None:
    """Raises InputError when nobody here can decode `stream` of `path`."""
    if stream.codec_context is None:
        raise InputError(f"{path}: its {stream.type} codec is not supported; convert it to MP4 or WAV first")
    if isinstance(stream, VideoStream) and _marked(stream, "dependent"):
        raise InputError(
            f"{path} is a picture in tiles, such as phones' HEIC, which cannot be read; save it as JPEG first"
        )


def decode(container: InputContainer, stream: Stream) -> Iterator[Frame]:
    """Frames of `stream`; damaged parts are left out with a warning instead of ending the reading."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)  # after an error of its own the demuxer is at its end
            frames = packet.decode() if packet is not None else None
        except av.error.EOFError:
            return
        except FFmpegError as error:
            logger.warning("%s: left out a damaged part (%s)", container.name, error.strerror)
            continue
        if frames is None:
            return
        yield from frames


def check_span(start: float, duration: float | None) -> None:
    """Raises InputError when `start` and `duration` in seconds do not name a part of anything."""
    if not start >= 0:
        raise InputError(f"got start {start:g} s, expected 0 or more")
    if duration is not None and not duration > 0:
        raise InputError(f"got duration {duration:g} s, expected more than 0")
