"""The generator and discriminator of the appearance model, and one step of their training (MyTalk, Section 3.4.2).

    b batch   h w window

Losses: L1, multi-scale gradient L1, SSIM, strength of detail, PSNR of what is coarser, weighted to the mouth, KL 1e-6
on both posteriors, and from `--gan-from` on a hinge patch GAN with adaptive weight and feature matching.
"""

from __future__ import annotations

import copy
from argparse import Namespace

import torch
from torch import Tensor

from ..appearance.discriminator import PatchDiscriminator, adaptive_weight, feature_matching, hinge_loss
from ..appearance.layers import ResnetBlock
from ..appearance.model import AppearanceModel
from ..appearance.params import AppearanceParams
from ..devices import pick_device
from .appearance_data import Sample
from .appearance_losses import fidelity_loss, middle_part, painted, reconstruction_loss, structure_loss, texture_loss
from .loop import Ema, descend
from .schedule import anneal, set_learning_rate

WARMUP = 100  # steps
DISCRIMINATOR_RATE = 0.3  # of the generator's: at the same rate it told all pictures apart after 2000 steps


class Trainer:
    """The generator and discriminator with their optimizers; `step` is one GAN step of latent diffusion's recipe."""

    def __init__(self, params: AppearanceParams, args: Namespace) -> None:
        self.args, self.device = args, pick_device(args.device)
        self.model = AppearanceModel(params).to(self.device, memory_format=torch.channels_last)
        self.discriminator = PatchDiscriminator(32).to(self.device, memory_format=torch.channels_last)
        if args.freeze_encoders:
            freeze_encoders(self.model)
        if args.preset == "paper" if args.recompute is None else args.recompute:
            recompute_blocks(self.model)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, args.rate, betas=(0.5, 0.9))
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), args.rate, betas=(0.5, 0.9))
        self.ema = Ema(self.model, 0.999)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.precision == "bfloat16")

    def step(self, step: int, sample: Sample, progress: float | None = None) -> dict[str, Tensor]:
        """One step on `sample`; the learning rate falls with `progress` 0..1 (default: the share of the steps)."""
        progress = step / self.args.steps if progress is None else progress
        rate = self.args.rate * min(1.0, (step + 1) / WARMUP) * anneal(progress, 0.02)
        set_learning_rate(self.optimizer, rate)
        set_learning_rate(self.discriminator_optimizer, DISCRIMINATOR_RATE * rate)
        adversarial = progress >= self.args.gan_from
        with self.autocast():
            picture, kl = self.model.generate(*sample.inputs, sample=True)
        picture = painted(picture.float(), sample)
        reconstruction, texture = reconstruction_loss(picture, sample), texture_loss(picture, sample)
        fidelity, structure = fidelity_loss(picture, sample), structure_loss(picture, sample)
        loss = reconstruction + self.args.texture_weight * texture + self.args.fidelity_weight * fidelity
        loss = loss + self.args.structure_weight * structure
        terms = {"reconstruction": reconstruction, "texture": texture, "fidelity": fidelity, "structure": structure}
        logs = {name: term.detach() for name, term in terms.items()}
        composed, real = picture * sample.mask + sample.target * (1 - sample.mask), sample.target
        composed, real = middle_part(composed), middle_part(real)
        if adversarial:
            gan = self._generator_gan(reconstruction, composed, real)
            loss, logs = loss + gan, logs | {"gan": gan.detach()}
        descend(loss + self.args.kl_weight * kl.float(), self.optimizer, self.model.parameters())
        self.ema.update(self.model)
        if adversarial:
            logs["discriminator"] = self._discriminator_step(composed.detach(), real)
        return logs

    def _generator_gan(self, reconstruction: Tensor, fake: Tensor, real: Tensor) -> Tensor:
        with self.autocast():
            logits, features = self.discriminator(fake)
            with torch.no_grad():
                _, real_features = self.discriminator(real)
        adversarial = -logits.float().mean()
        balance = adaptive_weight(reconstruction, adversarial, self.model.decoder.conv_out.weight)
        matching = feature_matching([f.float() for f in real_features], [f.float() for f in features])
        return self.args.gan_weight * balance.clamp(max=1.0) * adversarial + 0.1 * self.args.matching_weight * matching

    def _discriminator_step(self, fake: Tensor, real: Tensor) -> Tensor:
        with self.autocast():
            loss = hinge_loss(self.discriminator(real)[0].float(), self.discriminator(fake)[0].float())
        descend(loss, self.discriminator_optimizer)
        return loss.detach()

    def averaged(self) -> AppearanceModel:
        model = copy.deepcopy(self.model)
        self.ema.copy_to(model)
        return model.eval()

    def parts(self) -> dict[str, object]:
        return {"discriminator": self.discriminator, "discriminator_optimizer": self.discriminator_optimizer}


def recompute_blocks(model: AppearanceModel) -> None:
    """Keep only the blocks' inputs for the gradient: 4.4 GB a picture for the paper's network instead of 19."""
    for block in model.modules():
        if isinstance(block, ResnetBlock):
            block.recompute = True


def freeze_encoders(model: AppearanceModel) -> None:
    """Leave the three encoders as they are: how faces look is common property, how they are put together is trained."""
    for encoder in (model.lip_encoder, model.nonlip_encoder, model.landmark_encoder):
        encoder.requires_grad_(False)
