"""Where the frames of a video are in time, read from its packets without decoding.

m frames of the file
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

TIMING_SLACK = 2e-3  # seconds: containers round times to milliseconds
STILL_RATE = Fraction(25)


@dataclass(frozen=True)
class FrameIndex:
    """`seconds (m,)` after the first frame, which is at `origin` on the file's own clock; `keys` can be decoded alone.

    `timed` is False where the file stores no times (raw streams): they follow from the rate. `tail` is how long the
    last frame is shown.
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


def scan(container: InputContainer, stream: Stream) -> FrameIndex:
    """Index all frames of `stream`."""
    packets = _packets(container, stream)
    rate = next((r for r in (stream.average_rate, stream.guessed_rate) if r), STILL_RATE)
    if any(pts is None for pts, _, _ in packets):
        seconds = np.arange(len(packets)) / float(rate)
        return FrameIndex(seconds, [0], Fraction(rate), 0.0, 1 / float(rate), False)
    packets.sort()
    times = np.array([pts for pts, _, _ in packets], dtype=np.float64) * float(stream.time_base)
    keys = [i for i, (_, is_key, _) in enumerate(packets) if is_key]
    seconds = times - times[0] if len(times) else times
    fps = frame_rate(seconds, [stream.average_rate, stream.guessed_rate])
    shown = packets[-1][2] * float(stream.time_base) if packets and packets[-1][2] else 1 / float(fps)
    return FrameIndex(seconds, keys, fps, float(times[0]) if len(times) else 0.0, shown, True)


def frame_rate(seconds: np.ndarray, stated: list[Fraction | None]) -> Fraction:
    """The stated rate that the times obey, or else their mean rate."""
    for rate in stated:
        if rate and np.all(np.abs(seconds - np.arange(len(seconds)) / float(rate)) < TIMING_SLACK):
            return Fraction(rate)
    if len(seconds) < 2 or seconds[-1] <= 0:
        return STILL_RATE
    return Fraction((len(seconds) - 1) / float(seconds[-1])).limit_denominator(1001)


def _packets(container: InputContainer, stream: Stream) -> list[tuple[int | None, bool, int]]:
    """(pts, key frame, duration) of every frame that is shown; a damaged end is where the list stops."""
    found = []
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                found.append((packet.pts, packet.is_keyframe, packet.duration or 0))
    except FFmpegError:
        pass
    return found
