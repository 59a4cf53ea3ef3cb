"""Train the appearance generator (MyTalk, Section 3.4.2) on prepared clips.

    b batch   k references   s crop side in pixels

Losses: L1 and multi-scale gradient L1 weighted to the mouth, KL 1e-6 on both posteriors, and from `--gan-from`
on a hinge patch GAN with adaptive weight and feature matching.
"""

from __future__ import annotations

import copy
import logging
from argparse import ArgumentParser, Namespace
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from ..appearance.discriminator import PatchDiscriminator, adaptive_weight, feature_matching, hinge_loss
from ..appearance.model import AppearanceModel, model_config
from ..appearance.params import PRESETS, AppearanceParams
from ..checkpoints import find_weights, load_checkpoint, save_checkpoint
from .appearance_data import Sample, SampleStream
from .appearance_validation import save_sheet, validate
from .clips import read_clips
from .loop import Ema, Run, add_run_arguments, seed_everything, set_learning_rate, warmup_cosine

logger = logging.getLogger(__name__)
SEEN = 0.72  # share of each side, from the middle, that the discriminator judges: the mouth and skin around it
REFERENCE_DESIGNS = ("aligned", "masked", "single-masked", "single-full")  # the last three: Table 7


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `train appearance`."""
    add_run_arguments(parser, "runs/appearance", 20_000)
    parser.add_argument("--data", required=True, help="folder of prepared clips")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="small")
    parser.add_argument("--start", help="weights to start from (name or path)")
    parser.add_argument("--save", default="runs/appearance/appearance.safetensors", help="where the weights go")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5e-4, help="peak learning rate")
    parser.add_argument("--references", choices=REFERENCE_DESIGNS, default="aligned", help="paper's Table 7 and ours")
    parser.add_argument("--gan-from", type=float, default=0.45, help="share of the steps after which the GAN starts")
    parser.add_argument("--gan-weight", type=float, default=1.0, help="the paper has 0.5 (default %(default)s)")
    parser.add_argument("--matching-weight", type=float, default=4.0, help="discriminator feature matching")
    parser.add_argument("--kl-weight", type=float, default=1e-6)
    parser.add_argument("--validate-every", type=int, default=2000)
    parser.add_argument("--device", default="cpu")


def design(params: AppearanceParams, references: str) -> AppearanceParams:
    """The preset with one of the paper's reference designs (Table 7) or ours."""
    count = 1 if references.startswith("single") else params.references
    return replace(
        params, references=count, aligned=references == "aligned", masked_references=references != "single-full"
    )


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


def middle_part(picture: Tensor) -> Tensor:
    """The middle `SEEN` of both sides of `(b, c, h, w)`: what lies around it is the source frame anyway."""
    height, width = picture.shape[-2:]
    top, left = (round(side * (1 - SEEN) / 2) for side in (height, width))
    return picture[..., top : height - top, left : width - left]


class Trainer:
    """The generator and discriminator with their optimizers; `step` is one GAN step of latent diffusion's recipe."""

    def __init__(self, params: AppearanceParams, args: Namespace) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.model = AppearanceModel(params).to(self.device, memory_format=torch.channels_last)
        self.discriminator = PatchDiscriminator(32).to(self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), args.rate, betas=(0.5, 0.9))
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), args.rate, betas=(0.5, 0.9))
        self.ema = Ema(self.model, 0.999)

    def step(self, step: int, sample: Sample) -> dict[str, Tensor]:
        rate = self.args.rate * warmup_cosine(step, 200, self.args.steps, 0.02)
        set_learning_rate(self.optimizer, rate)
        set_learning_rate(self.discriminator_optimizer, rate)
        adversarial = step >= self.args.gan_from * self.args.steps
        with torch.autocast(self.device.type, torch.bfloat16):
            picture, kl = self.model.generate(*sample.inputs, sample=True)
        picture = picture.float()
        loss = reconstruction = reconstruction_loss(picture, sample)
        logs = {"reconstruction": reconstruction.detach()}
        composed, real = picture * sample.mask + sample.target * (1 - sample.mask), sample.target
        composed, real = middle_part(composed), middle_part(real)
        if adversarial:
            gan = self._generator_gan(reconstruction, composed, real)
            loss, logs = loss + gan, logs | {"gan": gan.detach()}
        self.optimizer.zero_grad(set_to_none=True)
        (loss + self.args.kl_weight * kl.float()).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update(self.model)
        if adversarial:
            logs["discriminator"] = self._discriminator_step(composed.detach(), real)
        return logs

    def _generator_gan(self, reconstruction: Tensor, fake: Tensor, real: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            logits, features = self.discriminator(fake)
            with torch.no_grad():
                _, real_features = self.discriminator(real)
        adversarial = -logits.float().mean()
        balance = adaptive_weight(reconstruction, adversarial, self.model.decoder.conv_out.weight)
        matching = feature_matching([f.float() for f in real_features], [f.float() for f in features])
        return self.args.gan_weight * balance.clamp(max=1.0) * adversarial + 0.1 * self.args.matching_weight * matching

    def _discriminator_step(self, fake: Tensor, real: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = hinge_loss(self.discriminator(real)[0].float(), self.discriminator(fake)[0].float())
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_optimizer.step()
        return loss.detach()

    def averaged(self) -> AppearanceModel:
        model = copy.deepcopy(self.model)
        self.ema.copy_to(model)
        return model.eval()

    def parts(self) -> dict[str, object]:
        return {"discriminator": self.discriminator, "discriminator_optimizer": self.discriminator_optimizer}


def main(args: Namespace) -> None:
    """Train, resume or fine-tune; writes the averaged weights at every validation and at the end."""
    seed_everything(args.seed)
    clips, validation = read_clips(args.data, "train"), read_clips(args.data, "val")
    params = design(PRESETS[args.preset], args.references)
    trainer = Trainer(params, args)
    if args.start:
        state = load_checkpoint(find_weights(args.start, "appearance"), "appearance").state
        trainer.model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        trainer.ema = Ema(trainer.model, 0.999)
    run = Run(args.run, args.minutes)
    start = run.resume(trainer.model, trainer.optimizer, trainer.ema, **trainer.parts())
    stream = SampleStream(clips, params, args.batch, args.seed, start)
    own = torch.Generator()  # else starting the worker would draw from the generator that was just restored
    loader = DataLoader(
        stream, batch_size=None, num_workers=1, prefetch_factor=4, worker_init_fn=_one_thread, generator=own
    )
    batches = iter(loader)
    step = start
    for step in run.steps(start, args.steps):
        logs = trainer.step(step, next(batches).to(trainer.device))
        if step % 50 == 0:
            run.log(step, **logs)
        if (step + 1) % args.validate_every == 0:
            _checkpoint(run, trainer, params, validation, step + 1)
    _checkpoint(run, trainer, params, validation, step + 1)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
    assert get_worker_info() is not None


def _checkpoint(run: Run, trainer: Trainer, params: AppearanceParams, validation: list, step: int) -> None:
    run.save(step, trainer.model, trainer.optimizer, trainer.ema, **trainer.parts())
    model = trainer.averaged()
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    scores = validate(model, validation)
    run.log(step, **scores)
    logger.info("step %d: %s", step, scores)
    save_sheet(model, validation, run.folder / f"step_{step:06d}.png")
    save_checkpoint(
        trainer.args.save,
        state,
        "appearance",
        model_config(params),
        {"step": str(step), **{k: f"{v:.4f}" for k, v in scores.items()}},
    )
