"""Batches made on a GPU: on a CPU one takes longer than a training step there.

b batch   k references   m pictures in a bank   s crop side in pixels

All crops of all clips are kept in the GPU's memory, as uint8, and so are the pictures of every clip's regression (for
40 minutes of film about 23 GB in all). Processes on the CPU only say which of them go into a sample; what they say for
a step depends on the seed and the step alone, as in `appearance_stream.SampleStream`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from ..appearance.mask import FEATHER, lip_region, soft_hull
from ..appearance.references import BANK
from ..appearance.regression import PictureRegression
from ..appearance.warp import align_references
from ..errors import InputError
from .appearance_data import ClipView, RawSample, Sample, choose, sample_of
from .appearance_stream import SampleStream, augmented
from .clips import PreparedClip
from .loop import start_worker, step_rng

MOVED_AT_ONCE = 32  # pictures
MIXED_AT_ONCE = 8  # samples


class Choices(NamedTuple):
    """What goes into a batch: rows of all frames, the clips, and what each picture of their banks counts."""

    frames: Tensor  # (b,)
    references: Tensor  # (b, k), or one less with a regression
    clips: Tensor  # (b,)
    shares: Tensor  # (b, BANK)
    openings: Tensor  # (b, 2)


def first_rows(clips: list[PreparedClip]) -> list[int]:
    """Where each clip begins among the frames of all clips, one after the other."""
    return list(accumulate((len(clip) for clip in clips[:-1]), initial=0))


class BlindView(ClipView):
    """A view that says what a regression weighs, and leaves the pictures to others."""

    def __init__(self, clip: PreparedClip) -> None:
        super().__init__(clip)
        self.know(self.frames)

    def _regression(self) -> PictureRegression:
        return PictureRegression.blind(self.points[self.bank], self.size)


class ChoiceStream(SampleStream):
    """Endless choices from step `start` on; several workers take turns.

    All clips' pictures are on the device, so all views are held: they are small without pictures.
    """

    View = BlindView
    held_bytes = math.inf

    def __iter__(self) -> Iterator[Choices]:
        first = first_rows(self.clips)
        for step in self.steps():
            rng = step_rng(self.seed, step)
            rows = [self._choose(*drawn, first, rng) for drawn in self.draw(step, rng)]
            yield Choices(*map(torch.stack, zip(*rows, strict=True)))

    def _choose(
        self, clip: int, view: ClipView, frame: int, first: list[int], rng: np.random.Generator
    ) -> tuple[Tensor, ...]:
        references, allowed = choose(view, frame, self.params, rng)
        shares = torch.zeros(BANK) if allowed is None else view.shares(frame, allowed)[0]
        shares = F.pad(shares, (0, BANK - len(shares)))
        openings = view.openings(references if allowed is None else allowed)
        rows = first[clip] + torch.tensor([frame, *references])
        return rows[0], rows[1:], torch.tensor(clip), shares, openings


class DevicePictures:
    """Crops, landmarks and regressions of clips on a device."""

    def __init__(self, views: list[BlindView], device: torch.device, regression: bool) -> None:
        self.size, self.device = views[0].size, device
        lengths = [len(view.clip) for view in views]
        self.crops = torch.empty(sum(lengths), 3, self.size, self.size, dtype=torch.uint8, device=device)

        def fill(part: Tensor, view: BlindView) -> None:
            part.copy_(view.clip.crops(range(len(part))))

        with ThreadPoolExecutor() as pool:  # decoding lets go of the interpreter
            list(pool.map(fill, self.crops.split(lengths), views))
        self.points = torch.cat([view.points for view in views]).to(device)
        self.outlines = torch.cat([view.outlines() for view in views]).to(device)
        self.base = torch.stack([view.regression.base for view in views]).to(device)
        self.banks = self._banks(views) if regression else None

    def _banks(self, views: list[BlindView]) -> Tensor:
        """Every clip's pictures on its base face `(clips, BANK, 3, s, s)` uint8."""
        banks = torch.zeros(len(views), BANK, 3, self.size, self.size, dtype=torch.uint8, device=self.device)
        firsts = first_rows([view.clip for view in views])
        for bank, base, view, first in zip(banks, self.base, views, firsts, strict=True):
            rows = torch.from_numpy(view.bank).to(self.device) + first
            for slots in torch.arange(len(rows), device=self.device).split(MOVED_AT_ONCE):
                pictures, points = self.crops[rows[slots]].float() / 255, self.points[rows[slots]]
                moved = align_references(pictures[:, None], points[:, None], base.expand(len(slots), -1, -1))
                bank[slots] = (moved[:, 0] * 255).round().byte()
        return banks

    def raw(self, choices: Choices) -> RawSample:
        """The batch that `choices` are of, before augmentation."""
        frames, references, clips, shares, openings = (tensor.to(self.device) for tensor in choices)
        images, points = self.crops[references].float() / 255, self.points[references]
        if self.banks is not None:
            parts = zip(shares.split(MIXED_AT_ONCE), clips.split(MIXED_AT_ONCE), strict=True)
            expected = torch.cat([self._expected(*part) for part in parts])
            images, points = torch.cat([expected, images], 1), torch.cat([self.base[clips][:, None], points], 1)
        masks = lip_region(points.flatten(0, 1), self.size).unflatten(0, points.shape[:2])
        hole = soft_hull(self.outlines[frames], self.size, FEATHER)
        return RawSample(self.crops[frames].float() / 255, self.points[frames], hole, images, points, masks, openings)

    def _expected(self, shares: Tensor, clips: Tensor) -> Tensor:
        """The regressions' pictures `(b, 1, 3, s, s)`."""
        mixed = torch.bmm(shares[:, None], self.banks[clips].flatten(2).float())
        return mixed.div_(255).clamp_(0, 1).unflatten(2, (3, self.size, self.size))


def check_room(clips: list[PreparedClip], regression: bool, device: torch.device) -> None:
    """Raise InputError when the pictures of all clips do not fit on a GPU, before they are read."""
    if device.type != "cuda":
        return
    pictures = sum(len(clip) + regression * BANK for clip in clips) * 3 * int(clips[0].metadata["crop_size"]) ** 2
    free = torch.cuda.mem_get_info(device)[0]
    if pictures > free:
        raise InputError(
            f"the pictures of {len(clips)} clips take {pictures / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free on "
            f"{device}; leave out --on-device, or use fewer frames of each clip (scripts/thin_clips.py)"
        )


def device_samples(stream: ChoiceStream, device: torch.device, workers: int) -> Iterator[Sample]:
    """The samples of a stream, made on `device`, with `workers` processes that choose."""
    check_room(stream.clips, stream.params.regression, device)
    views = [stream.view(index)[1] for index in range(len(stream.clips))]  # before the workers start: they share them
    pictures = DevicePictures(views, device, stream.params.regression)
    own = torch.Generator()  # else starting workers would draw from the generator that training uses
    loader = DataLoader(stream, None, num_workers=workers, worker_init_fn=start_worker, generator=own)
    for step, choices in enumerate(loader, stream.start):
        rng = step_rng(stream.seed + 3, step)
        yield sample_of(stream.params, augmented(pictures.raw(choices), rng, stream.params.regression), rng)


def prefetched(samples: Iterator[Sample], device: torch.device, ahead: int = 2) -> Iterator[Sample]:
    """`samples` of a GPU, made beside the training steps: making them waits for the GPU again and again."""
    stream = torch.cuda.Stream(device)

    def make() -> Sample:
        with torch.cuda.stream(stream):
            sample = next(samples)
            stream.synchronize()
            return sample

    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(make) for _ in range(ahead))
        while True:
            sample = coming.popleft().result()
            coming.append(pool.submit(make))
            for tensor in sample.tensors():  # memory of another stream: not to be used anew before we are done with it
                tensor.record_stream(torch.cuda.current_stream(device))
            yield sample
