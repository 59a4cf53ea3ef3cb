"""The same faces in other films: one film for a target and its references, and only grain differs."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from comfyui_mytalk.training import augment_films
from comfyui_mytalk.training.appearance_data import RawSample
from comfyui_mytalk.training.appearance_stream import augmented
from comfyui_mytalk.training.augment_films import another_film, colour_matrices


def batch(count: int = 64, references: int = 3) -> RawSample:
    """Samples whose target and references are one picture."""
    picture = torch.rand(1, 1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    images = picture.expand(count, references, -1, -1, -1)
    points, others = torch.zeros(count, 478, 2), torch.zeros(count, references, 478, 2)
    return RawSample(images[:, 0], points, images[:, 0, :1], images, others, images[:, :, :1], torch.zeros(count, 2))


def strength(pictures: Tensor) -> Tensor:
    """Deviation `(...)` of neighbouring pixels' differences."""
    return pictures.diff(dim=-1).square().mean((-3, -2, -1)).sqrt()


def test_greys_stay_grey_and_other_colours_do_not() -> None:
    matrices = colour_matrices(np.array([0.0, 0.5, -0.3]), np.array([1.0, 1.0, 1.7]))
    np.testing.assert_allclose(matrices[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(matrices @ np.ones(3), np.ones((3, 3)), atol=1e-12)
    assert np.abs(matrices[1:] - np.eye(3)).max((1, 2)).min() > 0.2


def test_hues_turn_and_colours_fade_as_much_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(augment_films, "colour_matrices", lambda *how: given.extend(how) or colour_matrices(*how))
    another_film(batch(1000), np.random.default_rng(0), regression=True)
    assert given[0].std() == pytest.approx(augment_films.HUE, rel=0.1)
    assert np.log(given[1]).std() == pytest.approx(augment_films.SATURATION, rel=0.1)


def test_a_turn_of_a_third_exchanges_the_primaries() -> None:
    (matrix,) = colour_matrices(np.array([2 * np.pi / 3]), np.array([1.0]))
    np.testing.assert_allclose(matrix @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_a_target_and_its_references_are_of_one_film(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment_films, "GRAIN", 0.0)
    changed = another_film(batch(), np.random.default_rng(0), regression=True)
    for index in range(3):
        torch.testing.assert_close(changed.images[:, index], changed.crop)
    assert (changed.crop[0] - changed.crop[1:]).abs().amax((1, 2, 3)).min() > 0.01, "every sample has a film of its own"


@pytest.mark.parametrize("regression", [True, False])
def test_every_batch_is_of_other_people_in_other_films(regression: bool) -> None:
    raw = batch()
    raw = replace(raw, crop=torch.full_like(raw.crop, 0.5), images=torch.full_like(raw.images, 0.5))
    changed = augmented(raw, np.random.default_rng(0), regression)
    assert changed.crop.mean((1, 2, 3)).std() > 0.05, "recoloured"
    grain = torch.stack([picture.diff(dim=-1).std((1, 2, 3)) for picture in changed.images.unbind(1)])
    grainy = grain[1] > 1e-4
    assert 0.15 < grainy.float().mean() < 0.45
    assert ((grain[0] / grain[1])[grainy].mean() < 0.5) == regression


def test_films_are_softened_and_sharpened(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRAIN", "HUE", "SATURATION"):
        monkeypatch.setattr(augment_films, name, 0.0)
    raw = batch(300)
    ratio = strength(another_film(raw, np.random.default_rng(0), regression=True).crop) / strength(raw.crop)
    softer, sharper = (ratio < 0.99).float().mean(), (ratio > 1.01).float().mean()
    assert 0.2 < softer < 0.4 and 0.2 < sharper < 0.4
    assert ratio.min() < 0.5 and 1.3 < ratio.max() < 2


@pytest.mark.parametrize("regression", [True, False])
def test_grain_is_every_pictures_own_and_weaker_in_a_mean_of_many(
    monkeypatch: pytest.MonkeyPatch, regression: bool
) -> None:
    for name in ("HUE", "SATURATION", "SHARPER"):
        monkeypatch.setattr(augment_films, name, 0.0)
    monkeypatch.setattr(augment_films, "CHANGED", 1.0)
    monkeypatch.setattr(augment_films, "blur", lambda pictures, sigma: pictures)
    raw = batch(40)
    changed = another_film(raw, np.random.default_rng(0), regression)
    own = (changed.images - raw.images).flatten(2).std(2)
    target = (changed.crop - raw.crop).flatten(1).std(1)
    torch.testing.assert_close(own[:, 1], target, rtol=0.15, atol=1e-5)
    torch.testing.assert_close(own[:, 0], target * (0.25 if regression else 1.0), rtol=0.15, atol=1e-5)
    assert (changed.images[:, 1] - changed.crop).flatten(1).std(1).median() > target.median(), "not the same grain"


def test_what_lies_beyond_the_frame_stays_black() -> None:
    raw = batch()
    raw = replace(raw, crop=raw.crop.clone(), images=raw.images.clone())
    raw.crop[..., :9], raw.images[..., :9] = 0, 0
    changed = another_film(raw, np.random.default_rng(1), regression=True)
    assert not changed.crop[..., :9].any() and not changed.images[..., :9].any()
    assert changed.images.min() >= 0 and changed.images.max() <= 1


def test_a_seed_gives_one_film_and_the_sample_stays_as_it_was() -> None:
    raw = batch()
    before = {f.name: getattr(raw, f.name).clone() for f in fields(raw)}
    first, again, other = (another_film(raw, np.random.default_rng(seed), True) for seed in (1, 1, 2))
    assert all(torch.equal(getattr(first, f.name), getattr(again, f.name)) for f in fields(raw))
    assert not torch.equal(first.crop, other.crop)
    assert all(torch.equal(getattr(raw, name), value) for name, value in before.items())
