"""Where the frames of a video are in time, read from its packets without decoding.

m frames of the file
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

logger = logging.getLogger(__name__)
TIMING_SLACK = 2e-3  # seconds: containers round times to milliseconds
STILL_RATE = Fraction(25)


@dataclass(frozen=True)
class FrameIndex:
    """`seconds (m,)` after the first frame, which is at `origin` on the file's own clock; `keys` can be decoded alone.

    `timed` is False where the file stores no times (raw streams), or those of several recordings: they follow from the
    rate. `tail` is how long the last frame is shown.
    """

    seconds: np.ndarray
    keys: list[int]
    fps: Fraction
    origin: float
    tail: float
    timed: bool

    def __len__(self) -> int:
        return len(self.seconds)

    def key_before(self, frame: int) -> int:
        """The last key frame at or before `frame`."""
        place = bisect_right(self.keys, frame) - 1
        return self.keys[place] if self.timed and place >= 0 else 0

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
    rate = next((r for r in (stream.average_rate, stream.guessed_rate) if r), STILL_RATE)
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
        return FrameIndex(seconds, [0], Fraction(rate), 0.0, 1 / float(rate), False)
    packets = list({packet.pts: packet for packet in sorted(packets, key=lambda packet: packet.pts)}.values())
    times = np.array([packet.pts for packet in packets], dtype=np.float64) * float(stream.time_base)
    keys = [i for i, packet in enumerate(packets) if packet.key]
    seconds = times - times[0] if len(times) else times
    fps = frame_rate(seconds, [stream.average_rate, stream.guessed_rate])
    shown = packets[-1].duration * float(stream.time_base) if packets and packets[-1].duration else 1 / float(fps)
    return FrameIndex(seconds, keys, fps, float(times[0]) if len(times) else 0.0, shown, True)


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


def frame_rate(seconds: np.ndarray, stated: list[Fraction | None]) -> Fraction:
    """The stated rate that the times obey, or else their mean rate."""
    for rate in stated:
        if rate and np.all(np.abs(seconds - np.arange(len(seconds)) / float(rate)) < TIMING_SLACK):
            return Fraction(rate)
    if len(seconds) < 2 or seconds[-1] <= 0:
        return STILL_RATE
    return Fraction((len(seconds) - 1) / float(seconds[-1])).limit_denominator(1001)


def _packets(container: InputContainer, stream: Stream) -> list[_Packet]:
    """Those of every frame that is shown, in the order of the file; a damaged end is where the list stops."""
    found = []
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                found.append(_Packet(packet.pts, packet.dts, packet.is_keyframe, packet.duration or 0))
    except FFmpegError:
        pass
    return found
