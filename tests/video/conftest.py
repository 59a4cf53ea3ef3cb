"""Clips whose frames carry their own number, made with PyAV alone (not with the code under test)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 8
BLOCK = 16


def numbered(number: int, width: int = 128, height: int = 48) -> np.ndarray:
    """A grey picture whose top row of blocks is `number` in binary, black and white."""
    picture = np.full((height, width, 3), 128, np.uint8)
    for bit in range(BITS):
        picture[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number that `numbered` drew, after any codec."""
    centres = np.asarray(picture)[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK, 0]
    return sum(int(value > 128) << bit for bit, value in enumerate(centres))


@pytest.fixture
def number() -> Callable[[np.ndarray], int]:
    return number_of


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    return numbered


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Writes numbered frames with a key frame every 12, at a constant rate or at the ticks `pts` of `time_base`."""

    def make(
        name: str = "clip.mp4",
        frames: int = 40,
        rate: Fraction | int = 25,
        pts: Sequence[int] | None = None,
        time_base: Fraction | None = None,
        pictures: Sequence[np.ndarray] | None = None,
        options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        pictures = [numbered(i) for i in range(frames)] if pictures is None else pictures
        with av.open(str(path), "w") as container:
            stream = container.add_stream(
                "libx264", rate=Fraction(rate), options={"crf": "10", "g": "12"} | (options or {})
            )
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = "yuv444p"
            if time_base is not None:
                stream.codec_context.time_base = time_base
            for i, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = i if pts is None else pts[i]
                frame.time_base = time_base or 1 / Fraction(rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make
