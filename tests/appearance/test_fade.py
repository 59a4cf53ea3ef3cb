"""Fades to black and white and switched lamps are followed; shade, hands and flat light are none."""

from __future__ import annotations

import pytest
import torch

from comfyui_mytalk.appearance.fade import BRIGHTEST, faded
from comfyui_mytalk.landmarks.align import CROP_SIZE
from comfyui_mytalk.landmarks.canonical import canonical_face

MOUTH = 160  # rows from here on are hidden


def face() -> torch.Tensor:
    """Landmarks `(1, 478, 2)`."""
    points = torch.full((1, 478, 2), CROP_SIZE / 2)
    points[0, :468] += canonical_face()[:468, :2] * torch.tensor([9.0, -9.0])
    return points


def picture() -> torch.Tensor:
    """Smooth skin `(1, 3, s, s)` between 0.3 and 0.7."""
    y, x = torch.arange(CROP_SIZE)[:, None] / 45, torch.arange(CROP_SIZE) / 36
    return 0.5 + 0.2 * torch.stack([x.sin() * y.cos(), (x + y).sin(), (x - y).cos()])[None]


def follow(reference: torch.Tensor, crop: torch.Tensor) -> torch.Tensor:
    """`reference (1, 3, s, s)` as far faded as `crop`."""
    visible = torch.ones(1, 1, CROP_SIZE, CROP_SIZE)
    visible[..., MOUTH:, :] = 0
    hidden = torch.where(visible > 0, crop, 1.0)  # what is hidden takes no part
    return faded(reference[:, None], face()[:, None], hidden, face(), visible)[:, 0]


@pytest.mark.parametrize("share", [0.05, 0.5, 2.0])
def test_a_fade_to_black_is_followed_up_to_what_a_gain_follows(share: float) -> None:
    bright = picture() * min(1.0, 1 / share / 1.5)
    left = bright * share / follow(bright, bright * share)
    assert left.min() > 0.79 and left.max() < 1.26


def test_a_black_picture_is_lit_up_within_a_bound() -> None:
    assert (follow(0.001 * picture(), picture()) <= 0.001 * picture() * BRIGHTEST + 1e-6).all()


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_fade_to_white_is_followed_in_the_dark_of_a_mouth_too(share: float) -> None:
    crop = picture()
    crop[..., MOUTH + 20 : MOUTH + 40, 100:160] = 0.05
    white = crop * share + 1 - share
    assert (follow(crop, white) - white).abs().max() < 0.05


def test_each_reference_fades_by_itself() -> None:
    visible, crop = torch.ones(1, 1, CROP_SIZE, CROP_SIZE), picture() * 0.3
    both = torch.stack([crop, picture()], 1)
    done = faded(both, face()[:, None].expand(1, 2, -1, -1), crop, face(), visible)
    assert torch.equal(done[:, 0], crop) and 0.3 < (done[:, 1] / picture()).mean() < 0.4


def test_a_head_that_turns_into_shade_is_no_fade() -> None:
    """In a dark film the skin above the mouth went half into shade, and the chin was painted brown."""
    shade = torch.where(torch.arange(CROP_SIZE) < 120, 0.4, 1.0)
    assert (follow(picture(), picture() * shade) - picture()).abs().max() < 0.05
    assert (follow(picture(), picture() * 0.4) / picture()).mean() < 0.55, "that is one"


def test_a_dark_hand_in_the_frame_is_no_fade() -> None:
    covered = picture()
    covered[..., :MOUTH, :90] = 0.05
    assert torch.equal(follow(picture(), covered), picture())


def test_flat_light_is_no_fade() -> None:
    """The same face without its shades: a quarter of the contrast, as light as before."""
    flat = 0.25 * picture() + 0.75 * picture().mean((2, 3), keepdim=True)
    assert (follow(picture(), flat) - picture()).abs().max() < 0.05


def test_nothing_to_compare_changes_nothing() -> None:
    crop, visible = 0.1 * picture(), torch.zeros(1, 1, CROP_SIZE, CROP_SIZE)
    assert torch.equal(faded(picture()[:, None], face()[:, None], crop, face(), visible)[:, 0], picture())


def test_coloured_lamps_are_followed_up_to_what_a_gain_follows() -> None:
    red = picture() * torch.tensor([1.0, 0.3, 0.3])[:, None, None]
    left = red / follow(picture(), red)
    assert left.min() > 0.79 and left.max() < 1.26
