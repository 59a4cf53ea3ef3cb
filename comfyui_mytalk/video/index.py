"""Where the frames of a video are in time, read from its packets without decoding.

m frames of the file
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

logger = logging.getLogger(__name__)
TIMING_SLACK = 2e-3  # seconds: containers round times to milliseconds
SAME = 1e-6
STILL_RATE = Fraction(25)
FILM_RATES = {Fraction(rate, base) for rate in (24, 25, 30, 48, 50, 60) for base in (1, Fraction(1001, 1000))}


@dataclass(frozen=True)
class FrameIndex:
    """`seconds (m,)` after the first frame, which is at `origin` on the file's own clock; `keys` can be decoded alone.

    `stamps (m,)` are the same as the file stores them: rounded to milliseconds in Matroska, for one. `timed` is False
    where it stores none (raw streams), or those of several recordings: they follow from the rate. `unsorted`: frames
    may come out of the decoder with the times of others (AVI stores none of its own for frames that wait for later
    ones). `tail` is how long the last frame is shown.
    """

    seconds: np.ndarray
    stamps: np.ndarray
    keys: list[int]
    fps: Fraction
    origin: float
    tail: float
    timed: bool
    unsorted: bool = False

    def __len__(self) -> int:
        return len(self.seconds)

    def key_before(self, frame: int) -> int:
        """The last key frame at or before `frame`."""
        place = bisect_right(self.keys, frame) - 1
        return self.keys[place] if self.timed and place >= 0 else 0

    def number(self, stamp: float) -> int:
        """The frame that the file shows at `stamp` seconds after its first."""
        return int(np.searchsorted(self.stamps, stamp - SAME))

    def shown(self, frame: int) -> float:
        """Seconds that `frame` is shown."""
        return self.tail if frame == len(self) - 1 else float(self.seconds[frame + 1] - self.seconds[frame])


class _Packet(NamedTuple):
    """Of one frame, in ticks of the stream; what the file does not say is None, or 0 as `duration`."""

    pts: int | None
    dts: int | None
    key: bool
    duration: int


def scan(container: InputContainer, stream: Stream) -> FrameIndex:
    """Index all frames of `stream`. Of several with one and the same time, which players skip, the last is left."""
    packets = _packets(container, stream)
    stated = [broadcast_rate(Fraction(rate)) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    rate = next(iter(stated), STILL_RATE) if len(packets) > 1 else still_rate(stated)
    untimed = any(packet.pts is None for packet in packets)
    if not untimed and starts_over(packets):
        logger.warning(
            "%s: its timestamps start over, as in recordings that were joined without being re-muxed; its frames are "
            "taken to be evenly spaced, %.5g a second",
            container.name.removeprefix("file:"),
            rate,
        )
        untimed = True
    if untimed:
        seconds = np.arange(len(packets)) / float(rate)
        return FrameIndex(seconds, seconds, [0], rate, 0.0, 1 / float(rate), False)
    rising = all(one.pts < other.pts for one, other in pairwise(packets))
    packets = list({packet.pts: packet for packet in sorted(packets, key=lambda packet: packet.pts)}.values())
    tick = float(stream.time_base)
    times = np.array([packet.pts for packet in packets], dtype=np.float64) * tick
    keys = [i for i, packet in enumerate(packets) if packet.key]
    stamps = times - times[0] if len(times) else times
    fps = frame_rate(stamps, stated)
    even = np.arange(len(stamps)) / float(fps)
    seconds = even if follows(stamps, even, min(tick + SAME, TIMING_SLACK)) else stamps
    shown = packets[-1].duration * tick if packets and packets[-1].duration else 1 / float(fps)
    origin, waits = float(times[0]) if len(times) else 0.0, bool(stream.codec_context.has_b_frames)
    return FrameIndex(seconds, stamps, keys, fps, origin, shown, True, rising and waits)


def starts_over(packets: list[_Packet]) -> bool:
    """Whether times go back where none may: the next recording begins.

    Frames that wait for later ones (B-frames) go back too, but key frames are never shown before what was decoded
    before them, and the times of decoding never fall. One of the two alone may be a slip of the file.
    """
    latest, decoded, keys_fall, decoding_falls = -math.inf, -math.inf, False, False
    for packet in packets:
        keys_fall |= packet.key and packet.pts < latest
        decoding_falls |= packet.dts is None or packet.dts < decoded
        latest = max(latest, packet.pts)
        decoded = decoded if packet.dts is None else packet.dts
    return keys_fall and decoding_falls


def frame_rate(stamps: np.ndarray, stated: list[Fraction]) -> Fraction:
    """The stated rate that the times obey, or else their mean rate."""
    if len(stamps) < 2:
        return still_rate(stated)
    for rate in stated:
        if follows(stamps, np.arange(len(stamps)) / float(rate), TIMING_SLACK):
            return rate
    return broadcast_rate(Fraction((len(stamps) - 1) / float(stamps[-1])).limit_denominator(1001))


def still_rate(stated: list[Fraction]) -> Fraction:
    """That of a single frame: of a film's, what is stated; pictures state nothing that is meant (1 in AVIF)."""
    return next((rate for rate in stated if rate in FILM_RATES), STILL_RATE)


def broadcast_rate(rate: Fraction) -> Fraction:
    """`rate`, or the multiple of 1000/1001 that it is meant to be: 60000/1001 for the 19001/317 of Matroska."""
    near = Fraction(1000 * round(rate * Fraction(1001, 1000)), 1001)
    return near if abs(near - rate) < SAME * rate else rate


def follows(stamps: np.ndarray, even: np.ndarray, slack: float) -> bool:
    """Whether times are those of a constant rate, to `slack` seconds."""
    return bool(np.all(np.abs(stamps - even) <= slack))


def _packets(container: InputContainer, stream: Stream) -> list[_Packet]:
    """Those of every frame that is shown, in the order of the file; a damaged end is where the list stops."""
    found, count = [], 0
    try:
        for packet in container.demux(stream):
            count += packet.dts is not None  # the last is none of the file's
            if packet.size and not packet.is_discard:
                found.append(_Packet(packet.pts, packet.dts, packet.is_keyframe, packet.duration or 0))
    except FFmpegError:
        pass
    listed = len(getattr(stream, "index_entries", ()))  # PyAV 12 does not tell
    if "mp4" in container.format.name and count < listed:
        name = container.name.removeprefix("file:")
        logger.warning("%s is cut off or damaged: it lists %d frames, and %d are there", name, listed, count)
    return found
