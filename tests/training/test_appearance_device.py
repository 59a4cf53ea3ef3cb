"""Batches made on a device are the ones that the plain way makes, whoever chooses them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from comfyui_mytalk.appearance.params import AppearanceParams
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training import appearance_device
from comfyui_mytalk.training.appearance import design
from comfyui_mytalk.training.appearance_data import ClipView, RawSample, Sample, choose
from comfyui_mytalk.training.appearance_device import (
    ChoiceStream,
    DevicePictures,
    check_room,
    device_samples,
    first_rows,
    prefetched,
)
from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.loop import step_rng
from tests.synthetic_clips import write_clips

CPU = torch.device("cpu")
TINY = AppearanceParams(size=64, aligned=True, relight=True)
REGRESSION = design(TINY, "regression")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("prepared"), identities=2, takes=1, frames=40)


def samples(data: Path, params: AppearanceParams, workers: int, start: int, count: int) -> list[Sample]:
    stream = ChoiceStream(read_clips(data), params, 2, seed=3, start=start)
    return list(islice(device_samples(stream, CPU, workers), count))


def same(one: Sample, other: Sample) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.tensors(), other.tensors(), strict=True))


@pytest.mark.parametrize("params", [TINY, REGRESSION])
def test_the_pictures_are_those_of_the_clips(data: Path, params: AppearanceParams) -> None:
    stream = ChoiceStream(read_clips(data), params, 4, seed=0)
    views = [stream.view(clip)[1] for clip in range(len(stream.clips))]
    batch = DevicePictures(views, CPU, params.regression).raw(next(iter(stream)))
    rng, raws = step_rng(0, 0), []
    for clip, view, frame in stream.draw(0, rng):
        raws.append(ClipView(stream.clips[clip]).raw(frame, *choose(view, frame, params, rng)))
    wanted = RawSample.stack(raws)
    assert len({float(crop.mean()) for crop in wanted.crop}) > 1, "more than one picture is compared"
    for f in fields(RawSample):
        torch.testing.assert_close(getattr(batch, f.name), getattr(wanted, f.name), atol=1e-4, rtol=0, msg=f.name)


@pytest.mark.parametrize("params", [TINY, REGRESSION])
def test_samples_depend_on_seed_and_step_alone(data: Path, params: AppearanceParams) -> None:
    """Not on how many processes choose, nor on where a run was resumed."""
    first, second, third = samples(data, params, workers=0, start=0, count=3)
    assert same(samples(data, params, workers=2, start=0, count=3)[2], third)
    assert same(samples(data, params, workers=0, start=1, count=1)[0], second)
    assert not same(first, second)


def test_every_batch_is_changed_in_a_way_of_its_own(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(appearance_device, "augmented", lambda raw, rng, _: drawn.append(rng.random()) or raw)
    samples(data, TINY, workers=0, start=0, count=3)
    assert len(set(drawn)) == 3


def test_batches_have_what_training_wants(data: Path) -> None:
    (sample,) = samples(data, REGRESSION, workers=0, start=0, count=1)
    assert sample.inputs.references.shape == (2, 3, 3, 64, 64)
    assert sample.target.shape == sample.inputs.masked.shape == (2, 3, 64, 64)
    assert np.isfinite([float(tensor.mean()) for tensor in sample.tensors()]).all()
    assert sample.mouth.amax() == 1 and sample.mask.amax() == 1


def test_pictures_that_do_not_fit_are_found_before_they_are_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, free = read_clips(data), []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free[-1], 80e9))
    needed = {False: sum(map(len, clips)) * 3 * 64**2}
    needed[True] = needed[False] + len(clips) * 64 * 3 * 64**2
    for regression, enough in needed.items():
        free.append(enough)
        check_room(clips, regression, torch.device("cuda"))
        free.append(enough - 1)
        with pytest.raises(InputError, match="leave out --on-device"):
            check_room(clips, regression, torch.device("cuda"))
    check_room(clips, True, CPU)


def test_clips_lie_one_after_the_other() -> None:
    assert first_rows(["abc", "d", "ef"]) == [0, 3, 4]


def test_samples_made_ahead_come_in_order_and_bring_their_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs beside the training is the same stream, ends with it, and does not hide what went wrong."""

    class NoStream:
        def __init__(self, _: torch.device) -> None: ...
        def synchronize(self) -> None: ...

    class Made:
        def __init__(self, step: int) -> None:
            self.step = step

        def tensors(self) -> list[torch.Tensor]:
            return []

    closed = []

    def stream() -> Iterator[Made]:
        try:
            yield from map(Made, range(5))
            raise RuntimeError("no more pictures")
        finally:
            closed.append(True)

    monkeypatch.setattr(torch.cuda, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    made = prefetched(stream(), CPU)
    assert [next(made).step for _ in range(5)] == list(range(5))
    with pytest.raises(RuntimeError, match="no more pictures"):
        next(made)
    half = prefetched(stream(), CPU)
    next(half)
    half.close()
    del half
    assert len(closed) == 2
