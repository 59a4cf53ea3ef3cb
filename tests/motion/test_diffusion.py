"""Schedule, samplers and windows against facts that hold for any denoiser."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from comfyui_mytalk.motion.diffusion import add_noise, cosine_alphas, guide, sample_ddim, sample_ddpm, sampling_steps
from comfyui_mytalk.motion.windows import cut_windows, fuse_windows, window_starts

ALPHAS = cosine_alphas()


def posterior_mean(x: Tensor, step: int, mean: float = 2.0, std: float = 0.5) -> Tensor:
    """The exact denoiser of data that are Gaussian."""
    alpha = ALPHAS[step]
    gain = alpha.sqrt() * std**2 / (alpha * std**2 + 1 - alpha)
    return mean + gain * (x - alpha.sqrt() * mean)


def test_cosine_schedule_falls_from_signal_to_noise() -> None:
    assert len(ALPHAS) == 1000
    assert ALPHAS[0] > 0.999 and ALPHAS[-1] < 1e-3
    assert (ALPHAS.diff() <= 0).all()
    assert ALPHAS[499] == pytest.approx(0.5, abs=0.02)


def test_forward_process_keeps_unit_variance() -> None:
    torch.manual_seed(0)
    noisy = add_noise(torch.randn(100_000), torch.randn(100_000), torch.tensor(0.3))
    assert noisy.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("steps", [1, 2, 25])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_returns_the_sample_that_an_exact_denoiser_knows(steps: int, eta: float) -> None:
    truth = torch.randn(7, 3)
    found = sample_ddim(lambda x, step: truth, torch.randn(7, 3), ALPHAS, steps, eta, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, truth)


def test_ddpm_returns_the_sample_that_an_exact_denoiser_knows() -> None:
    truth = torch.randn(7, 3)
    torch.testing.assert_close(sample_ddpm(lambda x, step: truth, torch.randn(7, 3), ALPHAS, 10), truth)


@pytest.mark.parametrize("sampler", ["ddim", "ddim eta 1", "ddpm"])
def test_samplers_draw_from_the_data(sampler: str) -> None:
    """With the exact denoiser of N(2, 0.5), samples have that mean and deviation."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 1, generator=generator)
    if sampler == "ddpm":
        x = sample_ddpm(posterior_mean, noise, ALPHAS, 200, generator)
    else:
        x = sample_ddim(posterior_mean, noise, ALPHAS, 200, float(sampler.endswith("1")), generator)
    assert x.mean() == pytest.approx(2, abs=0.02)
    assert x.std() == pytest.approx(0.5, abs=0.02)


def test_steps_go_from_the_noisiest_to_the_cleanest() -> None:
    steps = sampling_steps(1000, 25)
    assert (len(steps), steps[0], steps[-1]) == (25, 999, 0)
    assert all(a > b for a, b in zip(steps, steps[1:], strict=False))
    assert sampling_steps(1000, 1) == [999]


def test_guidance_moves_away_from_the_unconditional_estimate() -> None:
    conditional, free = (lambda x, step: x + 1), (lambda x, step: x)
    x = torch.zeros(2)
    assert guide(conditional, free, 1)(x, 0).tolist() == [1, 1]
    assert guide(conditional, free, 2.5)(x, 0).tolist() == [2.5, 2.5]
    assert guide(conditional, free, 0)(x, 0).tolist() == [0, 0]


@pytest.mark.parametrize("frames", [1, 19, 20, 21, 34, 35, 100])
def test_windows_cover_and_reproduce_the_clip(frames: int) -> None:
    size = min(20, frames)
    starts = window_starts(frames, size, 6)
    x = torch.randn(frames, 3)
    assert starts[0] == 0 and starts[-1] + size == frames
    assert all(b - a <= size - 6 for a, b in zip(starts, starts[1:], strict=False))
    torch.testing.assert_close(fuse_windows(cut_windows(x, starts, size), starts, frames, 6), x)


def test_windows_blend_without_a_step() -> None:
    """Neighbours that disagree by 1 are blended over the whole overlap, not cut."""
    starts = window_starts(34, 20, 6)
    assert starts == [0, 14]
    fused = fuse_windows(torch.stack([torch.zeros(20, 1), torch.ones(20, 1)]), starts, 34, 6)[:, 0]
    assert fused[:14].max() == 0 and fused[20:].min() == 1
    assert fused.diff().max() < 1 / 5
