"""What stays as filmed although it lies over the mouth: a hand, a microphone, found here or told by a mask.

b f frames   h w frame   s crop side in pixels
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import torch
from torch import Tensor

from .appearance.mask import MaskExtent
from .appearance.occlusion import Occlusion, OcclusionNet, landmark_marks, reaching_in, settle
from .appearance.uncover import LIPS, SPOILT_LIPS, covers
from .errors import InputError
from .frames import PickableSource, cut_source
from .geometry import Geometry
from .landmarks.align import CROP_SIZE, apply_transform, invert, resized, sample_affine
from .landmarks.track import FaceTrack
from .stages import Progress
from .video.reader import VideoReader
from .video.timing import FittedReader

SIDE = 128  # pixels of the crop at which it is kept what lies in front of it


def find_occlusion(
    net: OcclusionNet, source: PickableSource, track: FaceTrack, chunk: int = 8, progress: Progress = None
) -> Occlusion:
    """What lies in front of the face in each usable frame of a clip. Reads it once; the same for any `chunk`."""
    usable, size = track.usable.nonzero()[:, 0], net.params.size
    place = Geometry(track.pose, track.transform, MaskExtent(), track.points)
    points = place[usable].crop_points(track.points[usable]) * (size / CROP_SIZE)
    return occlusion_of(_chances(net, source, place, points, usable, chunk, progress), points, usable, len(track))


def occlusion_of(chances: Iterator[Tensor], points: Tensor, frames: Tensor, length: int) -> Occlusion:
    """What stays of a clip of this `length`, from the network's chances `(s, s)` in each of its `frames (m,)`.

    `points (m, 478, 2)` are landmarks in pixels of the network's pictures.
    """
    threes = zip(frames.tolist(), points, _threes(chances), strict=True)
    return Occlusion.of(((frame, reaching_in(settle(*three), at)) for frame, at, three in threes), length)


def _chances(
    net: OcclusionNet,
    source: PickableSource,
    place: Geometry,
    points: Tensor,
    frames: Tensor,
    chunk: int,
    progress: Progress,
) -> Iterator[Tensor]:
    """Of each of the `frames (m,)` the chances `(s, s)` that something is in front; `points (m, 478, 2)` are theirs."""
    size, device, start = net.params.size, next(net.parameters()).device, 0
    for pixels, index, at in source.pick(frames, chunk):
        marks = landmark_marks(points[start : start + len(at)], size)
        crops = cut_source(pixels, place[at], size, index)
        with torch.inference_mode():
            logits = net(crops.to(device), marks.to(device))[:, 0]
        yield from logits.sigmoid().float().cpu()
        start += len(at)
        if progress is not None:
            progress(int(at[-1]) + 1, len(place.pose))


def _threes(maps: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each with its two neighbours; the first and the last are their own."""
    here = next(maps, None)
    if here is None:
        return
    before = here
    for after in maps:
        yield before, here, after
        before, here = here, after
    yield before, here, here


def covers_lips(occlusion: Occlusion, place: Geometry, chunk: int = 64) -> Tensor:
    """Which frames of a clip `(f,)` bool are no references, because something was found in front of the lips."""
    hidden = torch.zeros(len(occlusion), dtype=torch.bool)
    for index in (occlusion.rows >= 0).nonzero()[:, 0].split(chunk):
        points = apply_transform(invert(resized(place.transform[index], SIDE)), place.points[index, :, :2])
        hidden[index] = covers(occlusion[index].shares(SIDE), points, LIPS, SPOILT_LIPS)
    return hidden


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


def told_occlusion(masks: Iterator[Tensor], track: FaceTrack, chunk: int) -> Occlusion:
    """The same as `find_occlusion` gives, from masks `(n, h, w)` 0..1 in chunks of at most `chunk` frames."""
    return Occlusion.of(_told(masks, resized(track.transform, SIDE), chunk), len(track))


def _told(masks: Iterator[Tensor], transform: Tensor, chunk: int) -> Iterator[tuple[int, Tensor]]:
    """Number and mask in the crop `(SIDE, SIDE)` of each frame."""
    for start, mask in zip(range(0, len(transform), chunk), masks, strict=False):
        part = transform[start : start + chunk]
        shares = sample_affine(mask[: len(part), None].float().cpu(), part, (SIDE, SIDE))[:, 0].clamp(0, 1)
        yield from enumerate(shares, start)


def either(first: Occlusion | None, second: Occlusion | None) -> Occlusion | None:
    """What the one or the other says lies in front of the face; None is nothing."""
    if first is None or second is None:
        return second if first is None else first
    here = (torch.maximum(first.rows, second.rows) >= 0).nonzero()[:, 0]
    shares = (torch.maximum(*(one[at[None]].shares(SIDE)[0, 0] for one in (first, second))) for at in here)
    return Occlusion.of(zip(here.tolist(), shares, strict=True), len(first))
