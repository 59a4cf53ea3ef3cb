from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.motion.generate import fit_length
from comfyui_mytalk.video.reader import VideoReader
from comfyui_mytalk.video.timing import FittedReader, fit_frames, fit_timeline, fit_times, last_shown, runs


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


SLOWS_DOWN = torch.cat([torch.arange(60) / 30, 2.0 + torch.arange(18)]).double()  # 30 frames a second, then one


@pytest.mark.parametrize(
    ("mode", "seconds", "end"),
    [("trim", 5, 5), ("trim", 15, 15), ("trim", 60, 20), ("auto", 40, 40), ("auto", 19.3, 20), ("loop", 40, 40.03)],
)
def test_a_variable_rate_lasts_as_long_as_the_speech(mode, seconds, end):
    fps = (len(SLOWS_DOWN) - 1) / float(SLOWS_DOWN[-1])
    line = fit_timeline(len(SLOWS_DOWN), fps, seconds, mode, SLOWS_DOWN)
    assert torch.equal(line.index, fit_frames(len(SLOWS_DOWN), fps, seconds, mode, SLOWS_DOWN))
    assert line.end == pytest.approx(end, abs=0.01)
    shown = fit_times(line.index, SLOWS_DOWN, fps)
    assert seconds - 1 <= shown[-1] < seconds or len(line.index) == len(SLOWS_DOWN)
    # What speech there is up to the last frame's usual end is what motion asks for.
    speech = torch.randn(round(50 * (float(shown[-1]) + last_shown(shown))), 6)
    assert len(fit_length(speech, shown)) >= 50 * float(shown[-1])


def test_a_frame_that_stands_still_does_not_cut_the_speech():
    times = torch.tensor([0, 1, 2, 3, 93, 94], dtype=torch.float64) / 30
    line = fit_timeline(len(times), 6 / 3.1, 2.5, "trim", times)
    assert (line.index.tolist(), line.end) == ([0, 1, 2, 3], 2.5)


@pytest.mark.parametrize("mode", ["trim", "loop", "pingpong", "hold", "pad", "auto"])
@pytest.mark.parametrize("seconds", [0.5, 40 * 1001 / 24000, 1.7, 5.0])
def test_times_that_the_container_rounds_are_of_a_constant_rate(mode, seconds):
    fps = Fraction(24000, 1001)
    rounded = (torch.arange(40, dtype=torch.float64) * 1001 / 24).round() / 1000
    line = fit_timeline(40, fps, seconds, mode, rounded)
    assert torch.equal(line.index, fit_frames(40, fps, seconds, mode))
    assert line.end == pytest.approx(len(line.index) / fps, abs=1e-6)


def test_how_long_the_last_frame_is_shown():
    assert last_shown(torch.zeros(1), 30) == pytest.approx(1 / 30)
    assert last_shown(SLOWS_DOWN) == 1
    assert last_shown(SLOWS_DOWN[:30]) == pytest.approx(1 / 30)
    late = torch.tensor([0, 1, 2, 3, 5]) / 25
    assert last_shown(late) == pytest.approx(1 / 25)


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
