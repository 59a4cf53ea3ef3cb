"""Every picture figure on a case with a known answer."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut
from torch import Tensor

from comfyui_mytalk.evaluation import pictures


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """The mouth of the portrait and a cheek `(2, 3, 96, 96)`."""
    image = torch.from_numpy(astronaut().copy()).permute(2, 0, 1).float() / 255
    return torch.stack([image[:, 100:196, 180:276], image[:, 60:156, 160:256]])


def blurred(picture: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(gaussian_filter(picture.numpy(), (0, 0, sigma, sigma)))


def patch(size: int = 96) -> Tensor:
    """A soft square mask `(1, 1, size, size)`."""
    mask = torch.zeros(1, 1, size, size)
    mask[..., 24:72, 24:72] = 1
    return torch.nn.functional.avg_pool2d(mask, 9, 1, 4)


def test_a_picture_against_itself(picture: Tensor) -> None:
    assert pictures.psnr(picture, picture).tolist() == pytest.approx([100, 100])
    assert pictures.ssim(picture, picture).tolist() == pytest.approx([1, 1])
    assert pictures.sharpness_ratio(picture, picture).tolist() == pytest.approx([1, 1])


def test_psnr_of_a_known_error() -> None:
    grey = torch.full((1, 3, 8, 8), 0.5)
    assert pictures.psnr(grey + 0.1, grey).item() == pytest.approx(20, abs=1e-4)


def test_each_picture_of_a_batch_has_its_own_figures(picture: Tensor) -> None:
    other = torch.stack([picture[0], blurred(picture, 2.0)[1]])
    for figure, best in ((pictures.psnr, 100), (pictures.ssim, 1)):
        same, worse = figure(other, picture).tolist()
        assert same == pytest.approx(best)
        assert worse < 0.95 * best


def test_blur_lowers_sharpness_and_noise_raises_it(picture: Tensor) -> None:
    ratios = [pictures.sharpness_ratio(blurred(picture, sigma), picture).max().item() for sigma in (0.0, 0.7, 1.5, 3.0)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] < 0.1
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    assert pictures.sharpness_ratio(picture + 0.05 * noise, picture).min() > 1


def test_one_changed_pixel_outside_the_mask_is_seen(picture: Tensor) -> None:
    pixels = picture.mul(255).byte()
    mask = torch.zeros(2, 1, 96, 96)
    mask[:, :, 40:60, 40:60] = 0.01
    changed = pixels.clone()
    changed[:, :, 45:55, 45:55] = 0
    assert pictures.identical_share(changed, pixels, mask) == 1
    changed[0, 2, 10, 10] ^= 1
    assert pictures.identical_share(changed, pixels, mask) < 1


def test_a_still_clip_does_not_flicker_and_noise_does(picture: Tensor) -> None:
    still = picture[:1].expand(5, -1, -1, -1)
    fading = still * torch.linspace(0.5, 1, 5)[:, None, None, None]
    noise = 0.05 * torch.randn(still.shape, generator=torch.Generator().manual_seed(0))
    mask = patch().expand(5, -1, -1, -1)
    assert pictures.flicker(still, mask) == 0
    assert pictures.flicker(fading, mask) == pytest.approx(0, abs=1e-6)
    assert pictures.flicker(still + noise, mask) > 0.05
    assert pictures.flicker(still + noise * (mask == 0), mask) == 0, "what is outside the mask does not count"
    once = torch.zeros(5, 1, *still.shape[2:])
    once[1] = 1
    assert pictures.flicker(still + noise * once, once) > 0.05, "where the mask was when it changed"
    assert math.isnan(pictures.flicker(still[:2], mask[:2]))


def test_a_seam_shows_at_the_edge_of_the_mask(picture: Tensor) -> None:
    source, mask = blurred(picture[:1], 3.0), patch()
    seam = torch.where(mask > 0.3, source + 0.3, source)
    assert pictures.seam_ratio(source, source, mask).item() == pytest.approx(1)
    assert pictures.seam_ratio(seam, source, mask).item() > 1.5
