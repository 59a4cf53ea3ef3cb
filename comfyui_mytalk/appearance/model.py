"""Motion-conditioned appearance generation (MyTalk, Section 3.4): three encoders, FusionNet, one decoder.

b batch   k references   z latent channels   h w picture   l resolution levels
"""

from __future__ import annotations

from dataclasses import asdict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..checkpoints import build_network, find_weights, load_checkpoint, params_from
from ..errors import InputError
from .layers import Decoder, Encoder, FusionNet, Refinement, blur
from .params import AppearanceParams
from .warp import move_pictures

COARSE = 2.0  # pixels


class Posterior(NamedTuple):
    """A diagonal Gaussian over latents, each `(b, z, h, w)`."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> Posterior:
        mean, log_variance = moments.chunk(2, dim=1)
        return cls(mean, log_variance.clamp(-30.0, 20.0))

    def sample(self) -> Tensor:
        return self.mean + (0.5 * self.log_variance).exp() * torch.randn_like(self.mean)

    def kl(self) -> Tensor:
        """Divergence from the standard normal, summed over a picture, averaged over the batch."""
        terms = self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance
        return 0.5 * terms.flatten(1).sum(1).mean()


class SkipFusion(nn.Module):
    """One level's skip: features of the visible face, the landmark image and every reference, mixed per pixel."""

    def __init__(self, width: int, width_out: int, references: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width * (2 + references), width_out, 1)

    def forward(self, nonlip: Tensor, landmark: Tensor, lips: Tensor) -> Tensor:
        return self.mix(torch.cat([nonlip, landmark, lips.unflatten(0, (len(nonlip), -1)).flatten(1, 2)], 1))


class AppearanceModel(nn.Module):
    """Masked crop, landmark image and `k` lip references -> the crop with the mouth that the landmarks say.

    Pictures are `(b, 3, h, w)` in 0..1. At inference the posteriors' means are used: the same input gives
    the same picture.
    """

    name, sha256 = "", ""  # of the file that the weights were loaded from

    def __init__(self, params: AppearanceParams) -> None:
        super().__init__()
        p = self.params = params
        self.lip_encoder, self.nonlip_encoder, self.landmark_encoder = Encoder(p), Encoder(p), Encoder(p)
        self.fusion = FusionNet(p)
        moments = 2 * p.latent
        self.quant_appearance, self.quant_landmark = nn.Conv2d(moments, moments, 1), nn.Conv2d(moments, moments, 1)
        self.quant, self.post_quant = nn.Conv2d(moments, p.latent, 1), nn.Conv2d(p.latent, p.latent, 1)
        self.decoder = Decoder(p, 3 + (p.references + 2 if p.blend else 0))
        widths = [p.channels * m for m in p.multipliers]
        above = [*widths[1:], widths[-1]]  # what the decoder carries when it enters each level
        mixes = (SkipFusion(width, out, p.references) for width, out in zip(widths, above, strict=True))
        self.skips = nn.ModuleList(mixes) if p.skips else None
        self.refine = Refinement(p) if p.refine else None

    def forward(self, masked: Tensor, landmarks: Tensor, references: Tensor) -> Tensor:
        """masked, landmarks `(b, 3, h, w)`, references `(b, k, 3, h, w)`, 0..1 -> `(b, 3, h, w)`, 0..1."""
        return self.generate(masked, landmarks, references)[0].clamp(0.0, 1.0)

    def generate(
        self, masked: Tensor, landmarks: Tensor, references: Tensor, sample: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The picture before clamping, and the KL term of both posteriors (Section 3.4.2).

        Layers run in the precision of their weights, pictures keep theirs: bfloat16 cannot tell half the shades of a
        bright picture apart, and networks do not mind.
        """
        if references.shape[1] != self.params.references:
            raise InputError(f"got {references.shape[1]} references, expected {self.params.references}")
        seen = (masked, references.flatten(0, 1), landmarks)
        seen_masked, seen_lips, seen_motion = ((x * 2 - 1).to(self.quant.weight.dtype) for x in seen)
        nonlip, nonlip_features = self.nonlip_encoder(seen_masked)
        lips, lip_features = self.lip_encoder(seen_lips)
        motion, motion_features = self.landmark_encoder(seen_motion)
        fused = self.fusion(nonlip, lips.unflatten(0, (len(masked), -1)))
        appearance = Posterior.from_moments(self.quant_appearance(fused))
        landmark = Posterior.from_moments(self.quant_landmark(motion))
        latents = [q.sample() if sample else q.mean for q in (appearance, landmark)]
        skips = self._skips(nonlip_features, motion_features, lip_features)
        features = self.decoder.features(self.post_quant(self.quant(torch.cat(latents, 1))), skips)
        return self._picture(features, masked, references), appearance.kl() + landmark.kl()

    def _skips(self, nonlip: list[Tensor], landmark: list[Tensor], lips: list[Tensor]) -> list[Tensor] | None:
        if self.skips is None:
            return None
        return [skip(*level) for skip, *level in zip(self.skips, nonlip, landmark, lips, strict=True)]

    def _picture(self, features: Tensor, masked: Tensor, references: Tensor) -> Tensor:
        """Blend candidates by predicted weights: new colour, the visible frame, each aligned reference."""
        out, added, regression = self.decoder.picture(features).to(masked.dtype), 0.0, references[:, 0]
        if self.refine is not None:
            flow, added = self.refine(features)
            references, added = move_pictures(references, flow), added.to(masked.dtype)
        colour = (out[:, :3] + 1) / 2
        picture = colour
        if self.params.blend:
            weights = out[:, 3:].float().softmax(1)
            candidates = torch.cat([colour[:, None], masked[:, None], references], 1)
            picture = (weights[:, :, None] * candidates).sum(1)
        picture = picture + added
        if self.params.detail:
            picture = picture + self._detail(features, picture, references)
        if self.params.detail and self.params.sharpen:
            fine = (picture - blur(picture.float(), self.params.detail)).to(picture.dtype)
            picture = picture + self.params.sharpen * fine
        if self.params.hold:
            picture = held(picture, regression, self.params.hold)
        return within(picture, references, self.params.bound) if self.params.bound else picture

    def _detail(self, features: Tensor, picture: Tensor, references: Tensor) -> Tensor:
        """What `picture` lacks of the film's own finest detail, its grain among others, that no network can foresee."""
        source = references[:, 1]
        if self.params.detail_choice:
            source = (self.refine.detail_shares(features)[:, :, None] * references[:, 1:]).sum(1)
        missing = (source - picture).float()
        return missing - blur(missing, self.params.detail)


def held(picture: Tensor, regression: Tensor, limit: float) -> Tensor:
    """`picture (b, 3, h, w)`, coarser than `COARSE` pixels nowhere farther than `limit` from `regression`.

    The regression knows how dark the inside of this mouth is. What networks correct are edges a pixel or two off;
    where they differ broadly, they have taken a mouth for one of those that they were trained on.
    """
    apart = blur((picture - regression).float(), COARSE)
    return picture - (apart - apart.clamp(-limit, limit)).to(picture.dtype)


def within(picture: Tensor, references: Tensor, bound: float) -> Tensor:
    """`picture (b, 3, h, w)`, nowhere farther than `bound` outside the range of `references (b, k, 3, h, w)`.

    Where references are hidden, that is black, the picture stays. A network that has seen two hundred people may
    correct what the references of another show, but what it invents in its stead has been dark blots on teeth.
    """
    least, most = references.amin(1), references.amax(1)
    bounded = picture.minimum(most + bound).maximum(least - bound)
    return torch.where(most.amax(1, keepdim=True) > 0, bounded, picture)


def model_config(params: AppearanceParams) -> dict[str, object]:
    """What goes into a checkpoint's metadata."""
    return asdict(params)


def load_appearance(name: str = "appearance_small", device: str | torch.device = "cpu") -> AppearanceModel:
    """Load shipped or own weights by name or path; raises InputError when they are missing or do not fit."""
    checkpoint = load_checkpoint(find_weights(name, "appearance"), "appearance")
    model = build_network(checkpoint, lambda config: AppearanceModel(params_from(AppearanceParams, config)))
    model.name, model.sha256 = checkpoint.path.stem, checkpoint.sha256
    return model.eval().to(device, memory_format=torch.channels_last)
