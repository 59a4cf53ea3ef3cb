from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.video.reader import VideoReader
from comfyui_mytalk.video.timing import FittedReader, fit_frames, fit_times, runs


@pytest.mark.parametrize(
    ("mode", "seconds", "expected"),
    [
        ("trim", 0.6, [0, 1, 2]),
        ("trim", 9, [0, 1, 2, 3]),
        ("loop", 1.8, [0, 1, 2, 3, 0, 1, 2, 3, 0]),
        ("pingpong", 2.0, [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]),
        ("hold", 1.2, [0, 1, 2, 3, 3, 3]),
        ("pad", 0.2, [0, 1, 2, 3]),
        ("pad", 9, [0, 1, 2, 3]),
        ("auto", 0.2, [0, 1, 2, 3]),
        ("auto", 1.4, [0, 1, 2, 3, 2, 1, 0]),
        ("hold", 0.4, [0, 1]),
        ("loop", 0.41, [0, 1, 2]),
    ],
)
def test_modes(mode, seconds, expected):
    assert fit_frames(4, 5, seconds, mode).tolist() == expected


@pytest.mark.parametrize("mode", ["loop", "pingpong", "hold", "auto"])
def test_a_picture_lasts_as_long_as_the_speech(mode):
    assert fit_frames(1, 25, 0.4, mode).tolist() == [0] * 10


def test_speech_that_fills_the_frames_exactly_adds_none():
    assert len(fit_frames(10, Fraction(30000, 1001), 40 * 1001 / 30000, "loop")) == 40


def test_unknown_mode_and_nothing_are_refused():
    with pytest.raises(InputError, match="auto, trim"):
        fit_frames(4, 25, 1, "stretch")
    with pytest.raises(InputError, match="0 s of speech"):
        fit_frames(4, 25, 0, "trim")


def test_times_keep_real_distances_in_both_directions():
    times = torch.tensor([0, 0.1, 0.5, 0.6], dtype=torch.float64)
    found = fit_times(torch.tensor([0, 1, 2, 3, 2, 1, 0, 1, 3, 3]), times, 10)
    expected = [0, 0.1, 0.5, 0.6, 0.7, 1.1, 1.2, 1.3, 1.4, 1.5]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_runs_have_constant_steps():
    index = [0, 1, 2, 1, 0, 0, 0, 5, 6, 2]
    split = list(runs(index))
    assert sum(split, []) == index
    assert all(len(set(np.diff(run))) <= 1 for run in split)


@pytest.mark.parametrize("segment", [1, 5, 100])
@pytest.mark.parametrize("mode", ["pingpong", "loop", "hold"])
def test_any_order_is_served_in_small_segments(clip, number, mode, segment):
    index = fit_frames(40, 25, 4.2, mode)
    fitted = FittedReader(VideoReader(clip()), index)
    fitted.segment = segment
    served = [(number(frame), len(frames)) for frames, _ in fitted.chunks(16) for frame in frames]
    assert [n for n, _ in served] == index.tolist()
    assert max(size for _, size in served) == 16
    times = torch.cat([times for _, times in fitted.chunks(16)])
    torch.testing.assert_close(times, torch.arange(len(index)) / 25, check_dtype=False)


def test_the_cut_is_what_is_served(clip, number):
    fitted = FittedReader(VideoReader(clip(), start=0.4, duration=0.4), fit_frames(10, 25, 0.8, "pingpong"))
    served = [number(frame) for frames, _ in fitted.chunks(4) for frame in frames]
    assert served == [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 11]


def test_going_backwards_holds_one_segment_only(clip, monkeypatch):
    fitted = FittedReader(VideoReader(clip()), torch.arange(39, -1, -1))
    fitted.segment = 5
    asked = []
    original = fitted.reader.frames
    monkeypatch.setattr(fitted.reader, "frames", lambda a, b: asked.append(b - a) or original(a, b))
    assert sum(len(frames) for frames, _ in fitted.chunks(16)) == 40
    assert asked == [5] * 8
