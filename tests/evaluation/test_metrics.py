"""Every movement figure on a case with a known answer."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from comfyui_mytalk.evaluation import metrics
from comfyui_mytalk.landmarks.canonical import canonical_face

OPEN, SHUT = 0.6, 0.1  # cm


def syllables(frames: int = 120) -> Tensor:
    """A mouth opening that never repeats within the search range of the lag."""
    draw = torch.Generator().manual_seed(1)
    return torch.from_numpy(gaussian_filter(torch.rand(frames, generator=draw).numpy(), 1.5))


@pytest.mark.parametrize("lag", [-7, -1, 0, 5])
def test_a_shifted_mouth_gives_its_shift(lag: int) -> None:
    opening = syllables()
    late = opening.roll(lag)
    found, value = metrics.best_lag(late, opening)
    assert found == lag
    assert value > 0.95
    if lag:
        assert metrics.correlation(late, opening) < value - 0.1


def test_correlation_ignores_scale_and_sees_sign() -> None:
    opening = syllables()
    assert metrics.correlation(3 * opening + 2, opening) == pytest.approx(1)
    assert metrics.correlation(-opening, opening) == pytest.approx(-1)


def test_a_frozen_mouth_has_no_articulation_and_no_correlation() -> None:
    opening = syllables()
    frozen = torch.full_like(opening, 0.3)
    assert metrics.articulation_ratio(frozen, opening) == 0
    assert metrics.correlation(frozen, opening) == 0
    assert metrics.best_lag(frozen, opening) == (0, 0.0)
    assert metrics.articulation_ratio(0.5 * opening, opening) == pytest.approx(0.5)


def test_lip_distance_is_the_distance_the_lips_moved() -> None:
    face = torch.cat([canonical_face(), torch.zeros(10, 3)])[None].repeat(4, 1, 1)
    moved = face + torch.tensor([0.3, -0.4, 5.0])
    assert metrics.lip_distance(moved, face) == pytest.approx(0.5, abs=1e-6)
    brow = face.clone()
    brow[:, 105] += 9
    assert metrics.lip_distance(brow, face) == 0


def test_short_series_still_have_a_lag() -> None:
    lag, value = metrics.best_lag(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    assert lag == 0
    assert math.isclose(value, 1, abs_tol=1e-9)


def mouth(*closed: tuple[int, int], frames: int = 60) -> Tensor:
    """An open mouth that is shut in the given first and last frames."""
    opening = torch.full((frames,), OPEN)
    for first, last in closed:
        opening[first : last + 1] = SHUT
    return opening


def test_closures_are_runs_after_an_open_mouth() -> None:
    assert metrics.closures(mouth((10, 12), (30, 30))) == [(10, 12), (30, 30)]
    assert metrics.closures(mouth((0, 5), (20, 22), (58, 59))) == [(20, 22), (58, 59)]
    assert metrics.closures(mouth()) == metrics.closures(torch.full((9,), SHUT)) == []


def test_closures_met_early_missed_and_invented() -> None:
    original = mouth((10, 12), (30, 31), (50, 51))
    same = metrics.closure_scores(original, original)
    assert same == {"precision": 1, "recall": 1, "f1": 1}
    made = metrics.closure_scores(mouth((8, 9), (20, 21)), original)  # one a frame early, one invented, two missed
    assert made["recall"] == pytest.approx(1 / 3)
    assert made["precision"] == pytest.approx(1 / 2)
    assert made["f1"] == pytest.approx(0.4)
    assert metrics.closure_scores(mouth((6, 8)), mouth((10, 12)))["recall"] == 0, "two frames are too early"


@pytest.mark.parametrize("frozen", [OPEN, SHUT])
def test_a_frozen_mouth_meets_no_closure(frozen: float) -> None:
    scores = metrics.closure_scores(torch.full((60,), frozen), mouth((10, 12)))
    assert scores["recall"] == scores["f1"] == 0
    assert math.isnan(scores["precision"])


def test_an_original_that_never_closes_has_no_recall() -> None:
    scores = metrics.closure_scores(mouth((10, 12)), mouth())
    assert math.isnan(scores["recall"]) and math.isnan(scores["f1"])
    assert scores["precision"] == 0


def test_silence_is_a_long_pause_without_its_ends() -> None:
    speech = torch.sin(torch.arange(metrics.RATE * 2) * 0.3)
    speech[: metrics.RATE // 5 * 2] *= 0.001  # 10 frames at the start
    speech[metrics.RATE : metrics.RATE * 6 // 5] = 0  # 5 frames: too short
    speech[metrics.RATE * 7 // 5 : metrics.RATE * 9 // 5] = 0  # 10 frames from frame 35
    silent = metrics.silence(metrics.speech_level(speech, 50)).nonzero()[:, 0].tolist()
    assert silent == [*range(0, 7), *range(38, 42)]


def test_movement_in_silence() -> None:
    silent = torch.zeros(60, dtype=torch.bool)
    silent[20:40] = True
    moving = mouth(*((i, i) for i in range(0, 60, 2)))
    still = torch.where(silent, SHUT, moving)
    assert metrics.silent_movement(moving, silent) == pytest.approx(1, abs=0.05)
    assert metrics.silent_movement(still, silent) == 0
    assert math.isnan(metrics.silent_movement(moving, torch.zeros_like(silent)))
    assert math.isnan(metrics.silent_movement(torch.full((60,), OPEN), silent))


def test_jerk_is_one_for_the_same_lips_and_none_for_even_movement() -> None:
    face = torch.cat([canonical_face(), torch.zeros(10, 3)])[None].repeat(30, 1, 1)
    shaking = face + 0.1 * torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    even = face + torch.linspace(0, 1, 30)[:, None, None]
    assert metrics.jerk_ratio(shaking, shaking) == pytest.approx(1)
    assert metrics.jerk_ratio(even, shaking) < 1e-3
    assert metrics.jerk_ratio(face + 2 * (shaking - face), shaking) == pytest.approx(2)
