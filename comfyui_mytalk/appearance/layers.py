"""Encoder and decoder of the latent-diffusion autoencoder family, which Table 9 of the MyTalk paper pins down.

b batch   c channels   h w picture   z latent channels
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .params import AppearanceParams

GROUPS = 32
NEAREST = 4.0  # logit by which the nearest mouth is the likelier source of fine detail before training


def norm(p: AppearanceParams, channels: int) -> nn.Module:
    """Group normalisation as in the paper, or nothing: on a CPU it costs 40 % of a training step."""
    return nn.GroupNorm(GROUPS, channels, eps=1e-6) if p.normalise else nn.Identity()


def conv3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride, padding=1 if stride == 1 else 0)


class ResnetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 convolution on the shortcut when channels change."""

    recompute = False  # in training: keep only x, and compute the rest once more for the gradient

    def __init__(self, p: AppearanceParams, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(p, channels_in), conv3(channels_in, channels_out)
        self.norm2, self.conv2 = norm(p, channels_out), conv3(channels_out, channels_out)
        if not p.normalise:
            nn.init.zeros_(self.conv2.weight)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._sum, x, use_reentrant=False, preserve_rng_state=False)
        return self._sum(x)

    def _sum(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    """Single-head self-attention over all positions of a feature map."""

    def __init__(self, p: AppearanceParams, channels: int) -> None:
        super().__init__()
        self.norm = norm(p, channels)
        self.q, self.k, self.v, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).mT[:, None] for layer in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v)[:, 0].mT.unflatten(2, x.shape[2:])
        return x + self.out(h)


class Downsample(nn.Module):
    """Halve the picture by a strided convolution, padded at the far edges as in the original."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the picture: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def middle(p: AppearanceParams, channels: int) -> nn.Sequential:
    attend = [Attention(p, channels)] if p.attention else []
    return nn.Sequential(ResnetBlock(p, channels, channels), *attend, ResnetBlock(p, channels, channels))


class Encoder(nn.Module):
    """Picture `(b, 3, h, w)` -> moments `(b, 2 z, h / factor, w / factor)` and the features of each level."""

    def __init__(self, p: AppearanceParams) -> None:
        super().__init__()
        widths = [p.channels * m for m in p.multipliers]
        self.patch = p.patch
        self.conv_in = conv3(3 * p.patch**2, p.channels)
        self.levels, self.downs = nn.ModuleList(), nn.ModuleList()
        for before, width in zip([p.channels, *widths[:-1]], widths, strict=True):
            blocks = [ResnetBlock(p, before if i == 0 else width, width) for i in range(p.encoder_blocks)]
            self.levels.append(nn.Sequential(*blocks))
        self.downs.extend(Downsample(width) for width in widths[:-1])
        self.middle = middle(p, widths[-1])
        self.norm_out, self.conv_out = norm(p, widths[-1]), conv3(widths[-1], 2 * p.latent)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        h = self.conv_in(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        features = []
        for i, level in enumerate(self.levels):
            h = level(self.downs[i - 1](h) if i else h)
            features.append(h)
        return self.conv_out(F.silu(self.norm_out(self.middle(h)))), features


class Decoder(nn.Module):
    """Latent `(b, z, h / factor, w / factor)` [+ skip features per level] -> `(b, channels_out, h, w)`."""

    def __init__(self, p: AppearanceParams, channels_out: int) -> None:
        super().__init__()
        widths = [p.channels * m for m in p.multipliers]
        self.patch = p.patch
        self.conv_in = conv3(p.latent, widths[-1])
        self.middle = middle(p, widths[-1])
        self.levels, self.ups = nn.ModuleList(), nn.ModuleList()
        for before, width in zip([widths[-1], *widths[:0:-1]], widths[::-1], strict=True):
            blocks = [ResnetBlock(p, before if i == 0 else width, width) for i in range(p.decoder_blocks)]
            self.levels.append(nn.Sequential(*blocks))
        self.ups.extend(Upsample(width) for width in widths[:0:-1])
        self.norm_out = norm(p, widths[0])
        self.conv_out = conv3(widths[0], channels_out * p.patch**2)

    def forward(self, z: Tensor, skips: list[Tensor] | None = None) -> Tensor:
        return self.picture(self.features(z, skips))

    def features(self, z: Tensor, skips: list[Tensor] | None = None) -> Tensor:
        """The last features `(b, channels, h / patch, w / patch)`, from which heads read."""
        h = self.middle(self.conv_in(z))
        for i, level in enumerate(self.levels):
            h = self.ups[i - 1](h) if i else h
            h = level(h if skips is None else h + skips[-1 - i])
        return F.silu(self.norm_out(h))

    def picture(self, features: Tensor) -> Tensor:
        h = self.conv_out(features)
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h


class Refinement(nn.Module):
    """What the blend of aligned references still lacks: a small movement of each, and colour on top.

    Landmarks miss by a pixel or two and skin between them stretches: pictures that do not lie exactly above each other
    blend to a blur. Not in the paper. Both heads start at zero, so an untrained refinement changes nothing.
    """

    def __init__(self, p: AppearanceParams) -> None:
        super().__init__()
        self.patch, self.reach = p.patch, p.reach
        width = p.channels * p.multipliers[0]
        self.flow, self.colour = conv3(width, 2 * p.references), conv3(width, 3 * p.patch**2)
        self.detail = conv3(width, p.references - 1) if p.detail_choice else None
        for layer in filter(None, (self.flow, self.colour, self.detail)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if self.detail is not None:
            nn.init.constant_(self.detail.bias[0], NEAREST)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's features -> smooth flow `(b, k, 2, h, w)` in pixels, and colour `(b, 3, h, w)`."""
        flow = self._enlarge(self.flow(features))
        flow = (flow.clamp(-self.reach, self.reach) if self.reach else flow).unflatten(1, (-1, 2))
        return flow, F.pixel_shuffle(self.colour(features), self.patch)

    def detail_shares(self, features: Tensor) -> Tensor:
        """How much of each mouth's finest detail the picture gets `(b, k - 1, h, w)`, adding up to 1.

        The first reference, the regression, is not among them, nor the network's own picture: both are soft, and
        errors measured pixel by pixel like soft pictures best.
        """
        if self.detail is None:
            raise ValueError("expected a refinement with `detail_choice`")
        return self._enlarge(self.detail(features)).softmax(1)

    def _enlarge(self, features: Tensor) -> Tensor:
        return F.interpolate(features.float(), scale_factor=float(self.patch), mode="bilinear")


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian of `sigma` pixels over pictures `(b, c, h, w)`, whose borders are repeated."""
    radius = math.ceil(3 * sigma)
    at = torch.arange(-radius, radius + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(pictures.shape[1], 1, 1, -1)
    for weight in (kernel, kernel.mT):
        pad = (radius, radius, 0, 0) if weight is kernel else (0, 0, radius, radius)
        pictures = F.conv2d(F.pad(pictures, pad, mode="replicate"), weight, groups=len(weight))
    return pictures


class FusionNet(nn.Module):
    """Non-lip moments and the lip moments of `k` references, concatenated -> fused moments (Section 3.4, Fig. 9c)."""

    def __init__(self, p: AppearanceParams) -> None:
        super().__init__()
        moments = 2 * p.latent
        width = p.fusion_channels
        self.conv_in = conv3(moments * (1 + p.references), width)
        self.blocks = nn.Sequential(*(ResnetBlock(p, width, width) for _ in range(p.fusion_blocks)))
        self.norm_out, self.conv_out = norm(p, width), conv3(width, moments)

    def forward(self, nonlip: Tensor, lips: Tensor) -> Tensor:
        """nonlip `(b, 2 z, h, w)`, lips `(b, k, 2 z, h, w)` -> `(b, 2 z, h, w)`."""
        h = self.conv_in(torch.cat([nonlip, lips.flatten(1, 2)], 1))
        return self.conv_out(F.silu(self.norm_out(self.blocks(h))))
