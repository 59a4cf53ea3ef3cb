"""What stays as filmed although it lies over the mouth: a hand, a microphone, from masks that a segmentation made.

b frames   h w frame   s crop side in pixels
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import torch
from torch import Tensor

from .appearance.mask import soft_hull
from .errors import InputError
from .landmarks.align import apply_transform, invert, resized, sample_affine
from .landmarks.sets import landmark_set
from .video.reader import VideoReader
from .video.timing import FittedReader

SIDE = 64  # pixels of the crop in which it is looked whether a mouth is hidden
HIDDEN = 0.05  # share of lips and chin: what covers them shows in pictures painted from this one
AROUND = ("lips_outer", "perioral", "chin", "jaw")


def hides_mouth(masks: Tensor, points: Tensor, transform: Tensor) -> Tensor:
    """Which frames `(b,)` bool are no references, because `masks (b, h, w)` 0..1 cover lips or chin.

    `points (b, 478, >= 2)` are landmarks in frame pixels, `transform (b, 2, 3)` crop to frame.
    """
    transform = resized(transform, SIDE)
    around = torch.cat([landmark_set(name) for name in AROUND])
    face = soft_hull(apply_transform(invert(transform), points[..., :2])[:, around], SIDE, 1.0)
    covered = sample_affine(masks[:, None].float(), transform, (SIDE, SIDE))
    return (face * covered).sum((1, 2, 3)) > HIDDEN * face.sum((1, 2, 3))


class MaskFile:
    """Masks from a picture, which holds for all frames, or from a video beside the one that is changed.

    Light stays as filmed, dark may be painted. Raises InputError unless size and number of frames are those of `film`.
    """

    def __init__(self, path: str | Path, film: VideoReader, start: float = 0.0, duration: float | None = None) -> None:
        reader = VideoReader(path)
        self.still = len(reader) == 1
        self.reader = reader if self.still else VideoReader(path, start, duration)
        size, expected = ((r.info.width, r.info.height) for r in (self.reader, film))
        if size != expected:
            raise InputError(
                f"{path}: got masks of {size[0]}x{size[1]} pixels, expected those of the video, "
                f"{expected[0]}x{expected[1]}"
            )
        if not self.still and len(self.reader) != len(film):
            raise InputError(
                f"{path}: got {len(self.reader)} masks, expected one picture, or as many masks as the video has "
                f"frames, {len(film)}"
            )

    def chunks(self, size: int, index: Tensor | None = None) -> Iterator[Tensor]:
        """Yield masks `(n, h, w)` 0..1 with n <= `size`: of all frames, or of frames `index (f,)` of the film."""
        if self.still:
            shared = _share(next(self.reader.chunks(1))[0])
            counts = repeat(size) if index is None else (len(part) for part in index.split(size))
            yield from (shared.expand(count, -1, -1) for count in counts)
            return
        source = self.reader if index is None else FittedReader(self.reader, index)
        yield from (_share(frames) for frames, _ in source.chunks(size))


def _share(frames: Tensor) -> Tensor:
    """Masks `(b, h, w)` 0..1 of pictures `(b, h, w, 3)` uint8; video knows no pure white, so that near it is 1."""
    light = frames.float().mean(-1) / 255
    return ((light - 0.02) / 0.96).clamp(0, 1)


def covering(masks: Iterator[Tensor], points: Tensor, transform: Tensor, chunk: int) -> Tensor:
    """As `hides_mouth`, of a whole clip `(f,)`, from masks in chunks."""
    parts = zip(points.split(chunk), transform.split(chunk), masks, strict=False)
    return torch.cat([hides_mouth(mask[: len(at)], at, turn) for at, turn, mask in parts])
