"""PatchGAN discriminator and its losses (the paper follows latent diffusion's autoencoder training).

b batch   h w picture
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Isola et al. 2017, `layers` strided 4x4 convolutions; returns patch logits and the features of each layer."""

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [channels * min(2**i, 8) for i in range(layers + 1)]
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2))])
        for i, (before, width) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            conv = nn.Conv2d(before, width, 4, 2 if i < layers - 1 else 1, 1, bias=False)
            self.blocks.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.LeakyReLU(0.2)))
        self.out = nn.Conv2d(widths[-1], 1, 4, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x `(b, 3, h, w)` in 0..1 -> logits `(b, 1, h', w')`, features per block."""
        features = []
        h = x * 2 - 1
        for block in self.blocks:
            h = block(h)
            features.append(h)
        return self.out(h), features


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's hinge loss."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """L1 between discriminator features of real and generated pictures: our perceptual term, since no
    pretrained backbone ships with the pack."""
    return torch.stack(
        [F.l1_loss(f, r.detach()) / r.detach().abs().mean() for r, f in zip(real, fake, strict=True)]
    ).mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor, limit: float = 1e4) -> Tensor:
    """VQGAN's balance: the ratio of both losses' gradient norms at the generator's last layer."""
    grads = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (reconstruction, adversarial)]
    return (grads[0].norm() / (grads[1].norm() + 1e-4)).clamp(0.0, limit).detach()
