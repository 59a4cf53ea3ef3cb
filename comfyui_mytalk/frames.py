"""A clip's pictures, read in chunks from a file or from memory, and what is cut from them.

f frames   b of them in a batch   m picked ones   h w frame size   s crop side
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from .geometry import Geometry
from .landmarks.align import CROP_SIZE, crop_window, cut_crops, resized
from .stages import Progress

CHUNK = 8  # frames of a film that are worked on at a time


class FrameSource(Protocol):
    """Frames in order, as often as asked for."""

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `(frames (f, h, w, 3) uint8, times (f,) seconds)` with at most `size` frames each, of all frames."""
        ...


class PickableSource(FrameSource, Protocol):
    """Frames of which some can be had without the others."""

    def pick(self, wanted: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Only the frames `wanted (m,)`, rising, at most `size` at a time: `(pixels, index into them, their numbers)`.

        Pixels are `(f, h, w, c)` uint8 or float 0..1, and may hold frames that the index leaves out.
        """
        ...


class TensorSource:
    """Frames that are already in memory, `(f, h, w, c)` float 0..1 (the host's IMAGE) or uint8, at a constant rate."""

    def __init__(self, frames: Tensor, fps: float) -> None:
        self.frames, self.fps = frames, fps

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.frames), size):
            frames = self.frames[start : start + size, :, :, :3].cpu()
            if frames.is_floating_point():
                frames = torch.stack([frame.float().clamp(0, 1).mul_(255).round_().byte() for frame in frames])
            yield frames, (torch.arange(len(frames), dtype=torch.float64) + start) / self.fps

    def pick(self, wanted: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All of the frames each time, uncopied: what is cut from them is smaller."""
        yield from ((self.frames, at, at) for at in wanted.split(size) if len(at))


def picked(frames: Tensor, index: Tensor) -> Tensor:
    """`frames[index]` for a rising, not empty `index (b,)`; no copy where the frames follow each other."""
    first, last = int(index[0]), int(index[-1])
    return frames[first : last + 1] if last - first + 1 == len(index) else frames[index.to(frames.device)]


def pictures(frames: Tensor) -> Tensor:
    """Frames `(f, h, w, c)` of any type -> `(f, 3, h, w)` float32 0..1, on the CPU."""
    picture = frames[..., :3].permute(0, 3, 1, 2).cpu()
    return picture.float() if picture.is_floating_point() else picture.float().div_(255)


def cut_source(
    frames: Tensor, place: Geometry, size: int = CROP_SIZE, index: Tensor | None = None, repeating: bool = False
) -> Tensor:
    """Aligned crops `(b, 3, size, size)` float 0..1 of frames `(b, h, w, c)`, float or uint8; of `frames[index]`.

    Black outside, or the edge `repeating`.
    """
    rows, columns, transform = crop_window(resized(place.transform, size), frames.shape[1:3], size)
    window = frames[:, rows, columns]  # first: picking from whole frames would copy all of them
    return cut_crops(pictures(window if index is None else picked(window, index)), transform, size, repeating)


def cut_frames(
    source: PickableSource, place: Geometry, frames: Tensor, size: int = CROP_SIZE, progress: Progress = None
) -> Tensor:
    """Aligned crops `(m, 3, size, size)` uint8 of the frames with the given indices, in their order.

    Beyond a frame its edge is repeated: as references they are moved, and black would move into the picture.
    """
    return cut_sizes(source, place, frames, [size], progress)[0]


def cut_sizes(
    source: PickableSource, place: Geometry, frames: Tensor, sizes: Sequence[int], progress: Progress = None
) -> list[Tensor]:
    """As `cut_frames`, the same crops in several sizes: the clip is read once."""
    crops = [torch.zeros(len(frames), 3, size, size, dtype=torch.uint8) for size in sizes]
    for pixels, index, at in source.pick(frames.unique(), 16):
        found = torch.searchsorted(at, frames).clamp(max=len(at) - 1)
        here = at[found] == frames
        for made in crops:
            cut = cut_source(pixels, place[at], made.shape[-1], index, repeating=True).mul(255).round().byte()
            made[here] = cut[found[here]]
        if progress is not None:
            progress(int(at[-1]) + 1, len(place.pose))
    if progress is not None:
        progress(len(place.pose), len(place.pose))
    return crops
