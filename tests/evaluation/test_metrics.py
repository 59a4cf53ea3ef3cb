"""Every figure on a case with a known answer."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from comfyui_mytalk.evaluation import metrics
from comfyui_mytalk.landmarks.canonical import canonical_face


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """The mouth of the portrait and a cheek `(2, 3, 96, 96)`."""
    image = torch.from_numpy(astronaut().copy()).permute(2, 0, 1).float() / 255
    return torch.stack([image[:, 100:196, 180:276], image[:, 60:156, 160:256]])


def blurred(picture: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(gaussian_filter(picture.numpy(), (0, 0, sigma, sigma)))


def syllables(frames: int = 120) -> Tensor:
    """A mouth opening that never repeats within the search range of the lag."""
    draw = torch.Generator().manual_seed(1)
    return torch.from_numpy(gaussian_filter(torch.rand(frames, generator=draw).numpy(), 1.5))


def test_a_picture_against_itself(picture: Tensor) -> None:
    assert metrics.psnr(picture, picture).tolist() == pytest.approx([100, 100])
    assert metrics.ssim(picture, picture).tolist() == pytest.approx([1, 1])
    assert metrics.sharpness_ratio(picture, picture).tolist() == pytest.approx([1, 1])


def test_psnr_of_a_known_error() -> None:
    grey = torch.full((1, 3, 8, 8), 0.5)
    assert metrics.psnr(grey + 0.1, grey).item() == pytest.approx(20, abs=1e-4)


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_picture_figures_agree_with_torchmetrics(picture: Tensor, sigma: float) -> None:
    other = blurred(picture, sigma)
    for i in range(2):
        pair = other[i : i + 1], picture[i : i + 1]
        assert metrics.psnr(*pair).item() == pytest.approx(
            peak_signal_noise_ratio(*pair, data_range=1.0).item(), abs=1e-3
        )
        theirs = structural_similarity_index_measure(*pair, data_range=1.0).item()
        assert metrics.ssim(*pair).item() == pytest.approx(theirs, abs=1e-4)


def test_blur_lowers_sharpness_and_noise_raises_it(picture: Tensor) -> None:
    ratios = [metrics.sharpness_ratio(blurred(picture, sigma), picture).max().item() for sigma in (0.0, 0.7, 1.5, 3.0)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] < 0.1
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    assert metrics.sharpness_ratio(picture + 0.05 * noise, picture).min() > 1


def test_one_changed_pixel_outside_the_mask_is_seen(picture: Tensor) -> None:
    pixels = picture.mul(255).byte()
    mask = torch.zeros(2, 1, 96, 96)
    mask[:, :, 40:60, 40:60] = 0.01
    changed = pixels.clone()
    changed[:, :, 45:55, 45:55] = 0
    assert metrics.identical_share(changed, pixels, mask) == 1
    changed[0, 2, 10, 10] ^= 1
    assert metrics.identical_share(changed, pixels, mask) < 1


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
