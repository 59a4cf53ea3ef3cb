"""Endless batches for the appearance trainer, from as many clips as memory holds views of.

b batch
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..appearance.params import AppearanceParams
from ..appearance.references import BANK
from ..errors import InputError
from .appearance_data import GAP, ClipView, RawSample, Sample, draw_raw, gap_frames, sample_of
from .augment_faces import colour_jitter, mirror, reshape_face
from .augment_films import another_film
from .clips import PreparedClip
from .loop import step_rng

HELD_BYTES = 10e9  # of views in each process that makes samples: all of 860 short clips (8.0e9)
FRAME_BYTES = 4_000  # of a view: landmarks in the crop, and the head's pose
FEWEST_HELD = 16  # views, however large: a batch shows several people
VISIT = 32  # samples of a clip, when not all are held, before another takes its place; to make a view costs as five


class SampleStream(IterableDataset):
    """Endless batches; step `n` depends on the seed and `n` alone, so that a resumed run continues the same stream.

    Several workers of a DataLoader take turns, each with views of its own of the clips.
    Clips are drawn so that every identity counts alike up to a square root, and large faces more than small ones.

    The views of `held_bytes` are kept. Where that is not all of them, nearly every clip drawn would need a new one:
    there are then as many places as views can be held, samples are drawn from any of the clips that have one, and in
    each place a clip gives way to another, drawn by the same weights, after about `VISIT` samples; the places take
    turns, so that views are made all the time and not all at once. Which clip has a place at a step follows from the
    seed, the place and the step.
    """

    View: type[ClipView] = ClipView
    held_bytes: float = HELD_BYTES

    def __init__(
        self, clips: list[PreparedClip], params: AppearanceParams, batch: int, seed: int, start: int = 0
    ) -> None:
        self.clips = [clip for clip in clips if shown_long_enough(clip)]
        self.params, self.batch, self.seed, self.start = params, batch, seed, start
        frames = {clip.identity: 0 for clip in self.clips}
        for clip in self.clips:
            frames[clip.identity] += len(clip)
        weight = np.array([len(c) / frames[c.identity] ** 0.5 * min(c.face_px / 128, 1.5) ** 2 for c in self.clips])
        if not weight.sum() > 0:
            raise InputError(
                f"no clip to train on: each of the {len(clips)} shows a face for no longer than {2 * GAP:.2f} s; "
                "prepare longer clips"
            )
        self.weight = weight / weight.sum()
        self.places = self._places()
        self.views: dict[int, tuple[int, int, ClipView]] = {}  # by place: since which turn, of which clip

    def _places(self) -> int | None:
        """How many views are held; None when every clip's is."""
        sizes = np.array([view_bytes(clip, self.params.regression) for clip in self.clips])
        if sizes.sum() <= self.held_bytes:
            return None
        return max(FEWEST_HELD, int(self.held_bytes / (self.weight @ sizes)))

    def view(self, place: int, step: int = 0) -> tuple[int, ClipView]:
        """Which clip has a place at a step, and its view, made once; a clip's place is its index where all are held."""
        turn = 0 if self.places is None else (step * self.batch + place * VISIT) // (VISIT * self.places)
        if place in self.views and self.views[place][0] != turn:
            self.views.pop(place)[2].clip.forget()
        if place not in self.views:
            clip = place if self.places is None else self._visitor(place, turn)
            self.views[place] = turn, clip, self.View(self.clips[clip])
        return self.views[place][1:]

    def _visitor(self, place: int, turn: int) -> int:
        rng = np.random.default_rng((self.seed, place, turn + 1))  # not 0, or it were the same as that of a step
        return int(rng.choice(len(self.clips), p=self.weight))

    def steps(self) -> Iterator[int]:
        """The steps that this worker makes, or all of them where there are no workers."""
        info = get_worker_info()
        first, every = (0, 1) if info is None else (info.id, info.num_workers)
        return itertools.count(self.start + first, every)

    def __iter__(self) -> Iterator[Sample]:
        for step in self.steps():
            rng = step_rng(self.seed, step)
            raws = [draw_raw(view, frame, self.params, rng) for _, view, frame in self.draw(step, rng)]
            yield sample_of(self.params, augmented(RawSample.stack(raws), rng, self.params.regression), rng)

    def draw(self, step: int, rng: np.random.Generator) -> Iterator[tuple[int, ClipView, int]]:
        """Index and view of the clip, and target frame, of each sample of a step's batch."""
        for _ in range(self.batch):
            anywhere = self.places is not None
            place = int(rng.integers(self.places) if anywhere else rng.choice(len(self.clips), p=self.weight))
            clip, view = self.view(place, step)
            yield clip, view, int(rng.choice(view.frames))


def augmented(raw: RawSample, rng: np.random.Generator, regression: bool) -> RawSample:
    """A batch of other people in other films; `regression`: the first reference is one."""
    raw = mirror(raw, torch.from_numpy(rng.random(len(raw.crop)) < 0.5))
    return another_film(colour_jitter(reshape_face(raw, rng), rng), rng, regression)


def shown_long_enough(clip: PreparedClip) -> bool:
    """Whether every frame with a face has another that may be its reference."""
    frames = clip.found.nonzero()[:, 0]
    return len(frames) > 0 and int(frames[-1] - frames[0]) >= 2 * gap_frames(clip.fps)


def view_bytes(clip: PreparedClip, regression: bool) -> int:
    """About how much memory the view of a clip takes up, with the pictures of its regression or without one."""
    pictures = min(len(clip), BANK) * 3 * int(clip.metadata["crop_size"]) ** 2
    return len(clip) * FRAME_BYTES + regression * pictures
