"""Gaussian diffusion with a network that predicts the clean sample: schedule, noising, samplers, guidance.

x `(b, t, c)`   alphas `(n,)`: the share of signal variance left at each step, often written alpha-bar
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, int], Tensor]  # (x_t, step) -> x0


def cosine_alphas(steps: int = 1000) -> Tensor:
    """Cosine schedule (Nichol and Dhariwal 2021, arXiv 2102.09672, equation 17) -> `(steps,)`."""
    angle = (torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * math.pi / 2
    signal = angle.cos().square()
    return (signal[1:] / signal[0]).clamp(min=1e-5).float()


def add_noise(x: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Forward process: sample x_t given the clean `x` (Ho et al. 2020, arXiv 2006.11239, equation 4)."""
    return alpha.sqrt() * x + (1 - alpha).sqrt() * noise


def sampling_steps(total: int, count: int) -> list[int]:
    """`count` steps from the noisiest to 0, evenly spaced."""
    return torch.linspace(total - 1, 0, min(count, total), dtype=torch.float64).round().long().tolist()


def gaussian(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Noise drawn on the CPU, so that a seed gives one result on every device."""
    return torch.randn(like.shape, generator=generator).to(like)


def sample_ddim(
    denoise: Denoise,
    noise: Tensor,
    alphas: Tensor,
    steps: int,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoising diffusion implicit models (Song et al. 2021, arXiv 2010.02502, equation 12)."""
    x, taken = noise, sampling_steps(len(alphas), steps)
    for step, after in zip(taken, [*taken[1:], None], strict=True):
        alpha = alphas[step]
        alpha_after = alphas[after] if after is not None else torch.ones_like(alpha)
        clean = denoise(x, step)
        direction = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        sigma = eta * ((1 - alpha_after) / (1 - alpha) * (1 - alpha / alpha_after)).sqrt()
        x = alpha_after.sqrt() * clean + (1 - alpha_after - sigma**2).clamp(min=0).sqrt() * direction
        if eta > 0:
            x = x + sigma * gaussian(x, generator)
    return x


def sample_ddpm(
    denoise: Denoise, noise: Tensor, alphas: Tensor, steps: int, generator: torch.Generator | None = None
) -> Tensor:
    """Ancestral sampling from the posterior (Ho et al. 2020, arXiv 2006.11239, equations 6 and 7)."""
    x, taken = noise, sampling_steps(len(alphas), steps)
    for step, after in zip(taken, [*taken[1:], None], strict=True):
        alpha = alphas[step]
        clean = denoise(x, step)
        if after is None:
            return clean
        alpha_after, ratio = alphas[after], alpha / alphas[after]
        mean = alpha_after.sqrt() * (1 - ratio) * clean + ratio.sqrt() * (1 - alpha_after) * x
        variance = (1 - alpha_after) * (1 - ratio) / (1 - alpha)
        x = mean / (1 - alpha) + variance.sqrt() * gaussian(x, generator)
    return x


def guide(denoise: Denoise, unconditional: Denoise, weight: float) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598); weight 1 is the condition alone."""
    if weight == 1:
        return denoise

    def guided(x: Tensor, step: int) -> Tensor:
        free = unconditional(x, step)
        return free + weight * (denoise(x, step) - free)

    return guided
