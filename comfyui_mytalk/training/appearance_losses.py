"""What the appearance generator is trained for, apart from fooling the discriminator.

b batch   c channels   h w picture
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..appearance.blend import RING_OUTSIDE
from ..appearance.layers import blur
from ..appearance.mask import dilate
from .appearance_data import Sample

SSIM_LIGHT, SSIM_CONTRAST = 0.01**2, 0.03**2  # SSIM's constants for pictures 0..1
LEAST_ERROR = 1e-4  # squared: nearer than 40 dB nothing is gained
SEEN = 0.72  # share of each side, from the middle, that the discriminator judges: the mouth and skin around it


def painted(picture: Tensor, sample: Sample, where: Tensor | None = None) -> Tensor:
    """`picture` where it is pasted or colours are matched, the target elsewhere: only that can be wrong.

    `where` is `painted_where(sample)`, for who paints more than one picture of it.

    Where references end, the limits of `model.py` hold the picture to their black. A network that was asked for the
    target there too wrote ever wilder noise around the face: half to nine tenths of the gradient was of it.
    """
    return torch.where(painted_where(sample) if where is None else where, picture, sample.target)


def painted_where(sample: Sample) -> Tensor:
    """The mask and the ring around it in which colours are matched `(b, 1, h, w)` bool."""
    return dilate((sample.mask > 0).float(), RING_OUTSIDE) > 0


def loss_weight(mask: Tensor, mouth: Tensor) -> Tensor:
    """Per-pixel weight `(b, 1, h, w)`: little outside the mask, most in the mouth box."""
    return 0.05 + mask + mouth


def gradient_l1(picture: Tensor, target: Tensor, weight: Tensor, scales: int = 3) -> Tensor:
    """L1 of horizontal and vertical differences at several scales: edges, not only colours, must agree."""
    total = picture.new_zeros(())
    for _ in range(scales):
        for axis in (2, 3):
            error = (picture.diff(dim=axis) - target.diff(dim=axis)).abs()
            total = total + (error * weight.narrow(axis, 1, error.shape[axis])).mean() / weight.mean()
        picture, target, weight = (F.avg_pool2d(x, 2) for x in (picture, target, weight))
    return total / (2 * scales)


def reconstruction_loss(picture: Tensor, sample: Sample) -> Tensor:
    """Weighted L1 plus multi-scale gradient L1."""
    weight = loss_weight(sample.mask, sample.mouth)
    l1 = ((picture - sample.target).abs() * weight).mean() / weight.mean()
    return l1 + gradient_l1(picture, sample.target, weight)


def fidelity_loss(picture: Tensor, sample: Sample, sigma: float = 1.5) -> Tensor:
    """Half the logarithm of the mouth box's squared error, of what is coarser than `sigma` pixels; mean of the batch.

    PSNR as a loss, so that easy faces count as much as hard ones; fine detail is left to the other terms.
    """
    weight = sample.mask * sample.mouth
    error = blur(picture - sample.target, sigma).square().mean(1, keepdim=True) * weight
    return 0.5 * (error.sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1.0) + LEAST_ERROR).log().mean()


def structure_loss(picture: Tensor, sample: Sample, sigma: float = 1.5) -> Tensor:
    """1 - SSIM (Wang et al. 2004, Gaussian window of `sigma`), weighted: blur costs contrast, which L1 hardly sees."""
    weight = loss_weight(sample.mask, sample.mouth)
    target, channels = sample.target, picture.shape[1]
    products = torch.cat([picture, target, picture.square(), target.square(), picture * target], 1)
    mean, other, square, other_square, both = blur(products, sigma).split(channels, 1)
    variance, other_variance, covariance = square - mean**2, other_square - other**2, both - mean * other
    light = (2 * mean * other + SSIM_LIGHT) / (mean**2 + other**2 + SSIM_LIGHT)
    contrast = (2 * covariance + SSIM_CONTRAST) / (variance + other_variance + SSIM_CONTRAST)
    return ((1 - light * contrast) * weight).mean() / weight.mean()


def tuning_loss(picture: Tensor, before: Tensor, sample: Sample, sigma: float = 1.5) -> Tensor:
    """What tuning on one actor lowers: the error of what is coarser than `sigma` pixels, and changes of what is finer.

    `before` is the untuned network's picture. A few seconds of one person cannot teach fine detail without a
    discriminator: trained on plain errors, pictures got softer and on half of the clips no nearer.
    """
    weight = loss_weight(sample.mask, sample.mouth)
    coarse = blur(picture - sample.target, sigma).abs()
    fine = (picture - before) - blur(picture - before, sigma)
    l1 = ((coarse + 2 * fine.abs()) * weight).mean() / weight.mean()
    return l1 + 0.02 * fidelity_loss(picture, sample, sigma)


def texture_loss(picture: Tensor, sample: Sample, side: int = 8) -> Tensor:
    """How far the strength of fine detail in each `side x side` patch is from the target's, wherever it lies.

    L1 pays for detail that is misplaced by a pixel and so prefers none; this pays for none.
    """
    weight = F.avg_pool2d(loss_weight(sample.mask, sample.mouth), side)
    error = (_detail(picture, side) - _detail(sample.target, side)).abs()
    return (error * weight).mean() / weight.mean()


def _detail(picture: Tensor, side: int) -> Tensor:
    """Root mean square of the Laplacian in each patch `(b, c, h / side, w / side)`."""
    kernel = picture.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(picture.shape[1], 1, 3, 3)
    laplacian = F.conv2d(picture, kernel, padding=1, groups=picture.shape[1])
    return (F.avg_pool2d(laplacian.square(), side) + 1e-6).sqrt()


def middle_part(picture: Tensor) -> Tensor:
    """The middle `SEEN` of both sides of `(b, c, h, w)`: what lies around it is the source frame anyway."""
    height, width = picture.shape[-2:]
    top, left = (round(side * (1 - SEEN) / 2) for side in (height, width))
    return picture[..., top : height - top, left : width - left]
