"""Figures that compare generated pictures with the original's.

    b pictures   f frames of one clip   c h w picture

Pictures are float 0..1. Unless said otherwise there is one number per picture. PSNR and SSIM are torchmetrics',
which comes with the extras `eval` and `train`; all else runs inside ComfyUI as it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

BEST_PSNR = 100.0  # dB, of identical pictures: JSON cannot hold infinity
LEAST = 1e-10


def psnr(picture: Tensor, original: Tensor) -> Tensor:
    """Peak signal to noise ratio `(b,)` in dB of `(b, c, h, w)`; 100 for identical pictures."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    ratio = [peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in zip(picture, original, strict=True)]
    return torch.stack(ratio).clamp(max=BEST_PSNR)


def ssim(picture: Tensor, original: Tensor) -> Tensor:
    """Structural similarity `(b,)` of `(b, c, h, w)` (Wang et al. 2004, Gaussian window)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    return structural_similarity_index_measure(picture, original, data_range=1.0, reduction="none").reshape(-1)


def laplacian_energy(picture: Tensor) -> Tensor:
    """Mean square of the grey picture's Laplacian `(b,)`: falls with blur, rises with noise and ringing."""
    grey = picture.mean(1, keepdim=True)
    kernel = grey.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(grey, kernel).square().mean((1, 2, 3))


def sharpness_ratio(picture: Tensor, original: Tensor) -> Tensor:
    """Laplacian energy over the original's `(b,)`: 1 as sharp, below 1 blurred."""
    return laplacian_energy(picture) / laplacian_energy(original).clamp_min(LEAST)


def flicker(pictures: Tensor, mask: Tensor, chunk: int = 16) -> float:
    """Mean size of the second difference over time of `pictures (f, c, h, w)` where `mask (f, 1, h, w)` is above 0.

    uint8 pictures count as 0..1. 0 for a still or evenly changing picture; not a number for fewer than three frames.
    """
    if len(pictures) < 3:
        return float("nan")
    unit, total, count = 1.0 if pictures.is_floating_point() else 255.0, 0.0, 0.0
    for start in range(0, len(pictures) - 2, chunk):  # a long clip's differences would not fit into memory at once
        part = pictures[start : start + chunk + 2].float() / unit
        inside = mask[start + 1 : start + len(part) - 1] > 0
        total += (part.diff(n=2, dim=0).abs().mean(1, keepdim=True) * inside).sum().item()
        count += inside.sum().item()
    return total / max(count, 1)


def seam_ratio(picture: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Gradients where `mask (b, 1, h, w)` is soft, which is where a seam would show, over the original's `(b,)`."""
    edge = ((mask > 0) & (mask < 1))[:, :, 1:, 1:].to(picture.dtype)
    strength = [
        ((x.diff(dim=2)[..., 1:].abs() + x.diff(dim=3)[..., 1:, :].abs()) * edge).sum((1, 2, 3))
        for x in (picture, original)
    ]
    return strength[0] / strength[1].clamp_min(1e-6)


def identical_share(picture: Tensor, original: Tensor, mask: Tensor) -> float:
    """Share of the pixels with `mask (b, 1, h, w)` 0 whose values are all equal; 1 is bit-identical."""
    outside = mask[:, 0] == 0
    same = (picture == original).all(1)
    return (same & outside).sum().item() / max(1, outside.sum().item())


def require_torchmetrics() -> None:
    """Raise InputError, before any work, when PSNR and SSIM cannot be computed."""
    try:
        import torchmetrics  # noqa: F401
    except ImportError as error:
        raise InputError(
            'torchmetrics is not installed: pip install -e ".[eval]" in the pack\'s folder, or pip install torchmetrics'
        ) from error
