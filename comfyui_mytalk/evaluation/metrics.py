"""Figures that compare a generated talking face with the original: pictures first, then motion.

    b pictures   c h w picture   f frames   n points

Pictures are float 0..1 and give one number per picture; series of one clip give one number.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks.sets import landmark_set

LEAST_ERROR = 1e-10  # mean square: identical pictures score 100 dB, not infinity, which JSON cannot hold
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # Wang et al. 2004
SSIM_K1, SSIM_K2 = 0.01, 0.03
LIPS = ("lips_outer", "lips_outer_mid", "lips_inner_mid", "lips_inner")
MAX_LAG = 10  # frames searched to each side
STILL = 1e-3  # deviation, centimetres, below which a mouth does not move and correlates with nothing


def psnr(picture: Tensor, original: Tensor) -> Tensor:
    """Peak signal to noise ratio `(b,)` in dB of `(b, c, h, w)`; 100 for identical pictures."""
    return -10 * (picture - original).square().mean((1, 2, 3)).clamp_min(LEAST_ERROR).log10()


def ssim(picture: Tensor, original: Tensor) -> Tensor:
    """Structural similarity `(b,)` of `(b, c, h, w)`, Gaussian window, borders reflected: torchmetrics' figure."""
    channels = picture.shape[1]
    offset = torch.arange(SSIM_WINDOW, device=picture.device, dtype=picture.dtype) - SSIM_WINDOW // 2
    line = torch.exp(-0.5 * (offset / SSIM_SIGMA) ** 2)
    window = (line / line.sum()).outer(line / line.sum()).expand(channels, 1, -1, -1)

    def local_mean(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (SSIM_WINDOW // 2,) * 4, mode="reflect"), window, groups=channels)

    mean_x, mean_y = local_mean(picture), local_mean(original)
    var_x, var_y = local_mean(picture**2) - mean_x**2, local_mean(original**2) - mean_y**2
    covariance = local_mean(picture * original) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_K1**2) / (mean_x**2 + mean_y**2 + SSIM_K1**2)
    structure = (2 * covariance + SSIM_K2**2) / (var_x + var_y + SSIM_K2**2)
    return (luminance * structure).mean((1, 2, 3))


def laplacian_energy(picture: Tensor) -> Tensor:
    """Mean square of the grey picture's Laplacian `(b,)`: falls with blur, rises with noise and ringing."""
    grey = picture.mean(1, keepdim=True)
    kernel = grey.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(grey, kernel).square().mean((1, 2, 3))


def sharpness_ratio(picture: Tensor, original: Tensor) -> Tensor:
    """Laplacian energy over the original's `(b,)`: 1 as sharp, below 1 blurred."""
    return laplacian_energy(picture) / laplacian_energy(original).clamp_min(LEAST_ERROR)


def identical_share(picture: Tensor, original: Tensor, mask: Tensor) -> float:
    """Share of the pixels with `mask (b, 1, h, w)` 0 whose values are all equal; 1 is bit-identical."""
    outside = mask[:, 0] == 0
    same = (picture == original).all(1)
    return (same & outside).sum().item() / max(1, outside.sum().item())


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson correlation of two series `(f,)` in centimetres; 0 when either stands still."""
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    if min(x.norm(), y.norm()) < STILL * len(x) ** 0.5:
        return 0.0
    return (x @ y / (x.norm() * y.norm())).item()


def best_lag(series: Tensor, original: Tensor, max_lag: int = MAX_LAG) -> tuple[int, float]:
    """The lag at which `series (f,)` follows `original (f,)` best, and the correlation there.

    In frames; positive means late: `series[i + lag]` goes with `original[i]`. The smaller lag wins a tie.
    """
    length, best = len(series), (0, correlation(series, original))
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        if length - abs(lag) < 2:
            continue
        late, early = series[max(0, lag) : length + min(0, lag)], original[max(0, -lag) : length - max(0, lag)]
        value = correlation(late, early)
        best = (lag, value) if value > best[1] + 1e-9 else best
    return best


def articulation_ratio(series: Tensor, original: Tensor) -> float:
    """Standard deviation of the mouth opening `(f,)` over the original's: 0 frozen, 1 as lively."""
    return (series.std() / original.std().clamp_min(1e-9)).item()


def lip_distance(landmarks: Tensor, original: Tensor) -> float:
    """Mean distance of the 80 lip points (LMD) between pose-free landmarks `(f, 478, ≥ 2)`, centimetres.

    In the face's plane: the depth of a mesh fitted to one picture is a guess.
    """
    lips = torch.cat([landmark_set(name) for name in LIPS])
    return (landmarks[:, lips, :2] - original[:, lips, :2]).norm(dim=-1).mean().item()
