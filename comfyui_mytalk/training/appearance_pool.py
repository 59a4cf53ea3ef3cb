"""Batches from samples that were made before: making one takes longer than a training step on it.

b batch   k references   h w window

Data echoing (Choi et al. 2020) with a pool: of every batch read, samples are trained on several times, each time in
other company, another part of their window and perhaps mirrored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..appearance.render import Inputs
from .appearance_data import Sample
from .loop import step_rng

FILL = 32  # batches read before the first step, at most


class _Kept(NamedTuple):
    """A sample of a quarter of the size: uint8, and without what follows from the rest."""

    target: Tensor
    mask: Tensor
    mouth: Tensor
    landmarks: Tensor
    references: Tensor


class EchoPool:
    """The last `size` batches of a stream, from which mixed batches are drawn.

    A new batch is read every `echo` steps. What step `n` gets depends on the seed and `n` alone: `stream(i)` must
    give the batches from the `i`-th on, and the pool is filled with those that an uninterrupted run would hold.
    """

    def __init__(
        self, stream: Callable[[int], Iterator[Sample]], batch: int, seed: int, step: int, echo: int = 1, size: int = 1
    ) -> None:
        self.batch, self.seed, self.echo = batch, seed, echo
        self.fill = min(size, FILL)
        self.read = max(0, step // echo + self.fill - size)
        self.batches = stream(self.read)
        self.kept: deque[_Kept] = deque(maxlen=size * batch)

    def draw(self, step: int) -> Sample:
        """The batch of a step; steps must be asked for in order."""
        while self.read < step // self.echo + self.fill:
            self.kept.extend(_keep(next(self.batches)))
            self.read += 1
        rng = step_rng(self.seed + 2, step)
        chosen = rng.choice(len(self.kept), self.batch, replace=False)
        return _give([self.kept[i] for i in chosen], rng)


def _keep(sample: Sample) -> list[_Kept]:
    pictures = (sample.target, sample.mask, sample.mouth, sample.inputs.landmarks, sample.inputs.references)
    return list(map(_Kept, *((picture * 255).round().byte() for picture in pictures)))


def _give(kept: list[_Kept], rng: np.random.Generator) -> Sample:
    mirrored = rng.random(len(kept)) < 0.5
    parts = [[x.flip(-1) if flip else x for x in sample] for sample, flip in zip(kept, mirrored, strict=True)]
    target, mask, mouth, landmarks, references = (torch.stack(x).float() / 255 for x in zip(*parts, strict=True))
    return Sample(Inputs(target * (1 - mask), landmarks, references), target, mask, mouth)
