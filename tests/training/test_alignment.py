"""Clips whose speech is late are found out: features here are the clip's own mouth, moved and hidden in noise."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from comfyui_mytalk.training.alignment import LAGS, RATE, align_clips, at_positions, choose_lags, fit_folds

WIDTH = 3


def opening(seconds, seed):
    """A smooth opening at 100 Hz `(n,)`, with room before and after."""
    noise = torch.randn(int(100 * (seconds + 2)), generator=torch.Generator().manual_seed(seed))
    kernel = torch.hann_window(16)
    return torch.nn.functional.conv1d(noise[None, None], kernel[None, None] / kernel.sum(), padding=8)[0, 0, :-1] + 0.6


def clip(index, late, corpus="one", seconds=6.0, identity=None, split="train"):
    """A clip whose sound comes `late` seconds after the picture; its speech is its number."""
    series, times = opening(seconds, index), torch.arange(int(25 * seconds), dtype=torch.float64) / 25
    canonical = torch.zeros(len(times), 478, 3)
    canonical[:, 13, 1] = series[(100 + 100 * times).round().long()]
    heard = series[(100 + 100 * ((torch.arange(int(50 * seconds)) + 0.5) / 50 - late)).round().long()]
    mixing = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(len(heard), generator=torch.Generator().manual_seed(1000 + index))
    return SimpleNamespace(
        path=Path(f"{split}__{corpus}-{index}.safetensors"),
        metadata={"split": split},
        corpus=corpus,
        identity=identity or f"person {index}",
        found=torch.ones(len(times), dtype=torch.bool),
        times=times,
        canonical=canonical,
        features=torch.stack([heard - heard.mean(), 0.1 * noise], 1) @ mixing,
        speech=torch.tensor([float(index)]),
    )


def align(clips):
    return align_clips(clips, lambda speech: next(c.features for c in clips if c.speech is speech))


def test_each_clip_gets_the_delay_of_its_own_speech():
    lates = [0.0, 0.0, 0.0, 0.04, -0.06, 0.0, 0.1, 0.0, 0.0, -0.02]
    clips = [clip(index, late) for index, late in enumerate(lates)]
    seconds, gains = align(clips)
    found = [seconds[c.path.stem] for c in clips]
    assert np.allclose(found, lates, atol=0.021)
    before, after = gains[clips[6].path.stem]
    assert after > before + 0.2 and after > 0.8


def test_a_predictor_has_never_seen_the_person():
    clips, lags = [clip(index, 0.0) for index in range(2)], np.zeros(2, dtype=int)
    weights = fit_folds(clips, [each.features for each in clips], lags)
    alone = fit_folds(clips[1:], [clips[1].features], lags[1:])
    assert np.allclose(weights("person 0"), alone("person 1"))
    assert not np.allclose(weights("person 0"), weights("person 1"))


def test_a_clip_that_fits_nowhere_is_as_late_as_its_corpus():
    clips = [clip(index, 0.08, corpus="late") for index in range(6)] + [clip(index, 0.0) for index in range(6, 12)]
    clips[3].features = torch.randn(clips[3].features.shape, generator=torch.Generator().manual_seed(5))
    seconds, gains = align(clips)
    assert gains[clips[3].path.stem][1] < 0.4
    assert abs(seconds[clips[3].path.stem] - seconds[clips[0].path.stem]) < 0.021
    assert seconds[clips[0].path.stem] - seconds[clips[7].path.stem] == pytest.approx(0.08, abs=0.021)


def test_validation_clips_are_aligned_and_teach_nothing():
    clips = [clip(index, 0.0) for index in range(8)] + [clip(8, 0.06, split="val")]
    with_it, without = align(clips), align(clips[:8])
    assert with_it[0][clips[8].path.stem] == pytest.approx(0.06, abs=0.021)
    assert {name: with_it[0][name] for name in without[0]} == without[0]


def test_a_short_clip_needs_more_evidence_than_a_long_one():
    curve = np.full(len(LAGS), 0.5)
    curve[3] = 0.62
    for frames, expected in ((25, 0), (200, LAGS[3])):
        assert choose_lags(["one"], curve[None], np.array([frames])).tolist() == [expected]


def test_positions_between_features_are_interpolated_and_the_ends_held():
    features = torch.arange(4.0)[:, None]
    found = at_positions(features, np.array([0.5, 2.25, 7.0]), context=(0,))[:, 0]
    assert np.allclose(found - found[0], [0.0, 1.75, 2.5])
    assert RATE == 50
