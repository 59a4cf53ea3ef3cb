"""Train the motion model (MyTalk, section 3.3.4) on prepared clips.

    b batch   t motion frames   c generated channels   r resting frames

Loss: mean square error of x0 in landmark space with more weight on the lips, of its velocity, and the identity loss
of equation 4, gated to steps at which the noisy sample still shows a face.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoints import save_checkpoint
from ..commands.arguments import whole_number
from ..devices import pick_device
from ..evaluation.metrics import CLOSED
from ..landmarks.canonical import mouth_opening
from ..landmarks.sets import landmark_set
from ..motion.diffusion import add_noise, cosine_alphas
from ..motion.identity import IdentityExtractor, KeyLandmarks, load_identity
from ..motion.model import MotionModel, Needs
from ..motion.params import CONDITIONS, PRESETS
from ..speech.features import load_speech_encoder
from .clips import read_clips, read_offsets
from .loop import Ema, add_run_arguments, descend, halved, positive, saved, seed_everything, step_rng, trainer
from .motion_data import CLEAN, VERSIONS, Batch, Sampler, Take, load_takes
from .motion_fit import fit_coordinates, point_weights
from .motion_validation import save_sheet, validate
from .processes import is_first, own_seed, own_share
from .run import Run
from .schedule import set_learning_rate

logger = logging.getLogger(__name__)
MIDDLE = ((82, 87), (13, 14), (312, 317))  # points of the inner lips above each other
OPENING_VARIANCE = 0.2  # cm^2, of the opening of a mouth that talks
IDENTITY_FROM = 0.1  # signal share above which the identity loss counts


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `train motion`."""
    add_run_arguments(parser, "runs/motion", 6000)
    add = parser.add_argument
    add("--preset", choices=sorted(PRESETS), default="small", help="size of the networks (default %(default)s)")
    add(
        "--condition",
        choices=CONDITIONS,
        default=CONDITIONS[0],
        help="Table 5: how the person enters (default %(default)s)",
    )
    add(
        "--validate-every",
        type=whole_number(1),
        default=1000,
        help="steps from one validation to the next (default %(default)s)",
    )
    add_objective(parser)


def add_objective(parser: ArgumentParser) -> None:
    """Options of data and loss, which `train style` shares."""
    parser.add_argument("--data", required=True, help="folder of prepared clips")
    add = parser.add_argument
    add("--speech-encoder", default="speech_small", help="name, folder or file (default %(default)s)")
    add(
        "--identity",
        default="identity_small",
        help="identity extractor, name or file: the one that ships, unless you name what `train identity` wrote, "
        "such as runs/identity/identity_small.safetensors (default %(default)s)",
    )
    add("--cache", default="runs/features", help="where speech features are kept (default %(default)s)")
    add("--offsets", help="JSON of seconds by clip name: how much the speech comes late (default: what clips say)")
    add("--tokens", type=whole_number(1), default=1024, help="motion frames in a batch (default %(default)s)")
    add("--rate", type=positive, default=1e-3, help="peak learning rate (default %(default)s)")
    add("--weight-decay", type=float, default=0.02, help="of AdamW (default %(default)s)")
    add("--identity-weight", type=float, default=1.0, help="of the loss, Table 6: 0, 1 or 2 (default %(default)s)")
    add("--velocity-weight", type=float, default=1.0, help="of the loss (default %(default)s)")
    add(
        "--closure-weight",
        type=float,
        default=0.0,
        help="of errors where lips are closed (default %(default)s)",
    )
    add("--speech-dropout", type=float, default=0.1, help="share of clips without speech (default %(default)s)")
    add(
        "--upper-dropout",
        type=float,
        default=0.5,
        help="share of clips with another moment's upper face (default %(default)s)",
    )
    add(
        "--feature-noise",
        type=float,
        default=0.3,
        help="noise on speech features, which are of unit size (default %(default)s)",
    )
    add("--noise", type=float, default=0.01, help="landmark noise on the conditions, cm (default %(default)s)")
    add(
        "--noise-bias",
        type=float,
        default=0.5,
        help="below 1 trains the noisy steps more, where speech decides (default %(default)s)",
    )
    add(
        "--versions",
        type=whole_number(1, len(VERSIONS)),
        default=len(VERSIONS),
        help="augmented versions of each clip's speech (default %(default)s)",
    )
    add(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the layers in training (default %(default)s)",
    )


class MotionLoss:
    """The training objective, with everything about it that is random drawn from torch's own generator."""

    def __init__(
        self, model: MotionModel, extractor: IdentityExtractor, args: Namespace, person: torch.nn.Module | None = None
    ) -> None:
        self.model, self.extractor, self.args = model, extractor.requires_grad_(False), args
        self.person = person or extractor  # what the denoiser is told about the person
        self.device = model.lower_mean.device
        self.alphas, weight = cosine_alphas().to(self.device), point_weights().to(self.device)
        self.weight = weight / (model.from_channels.square() @ weight).sum()

    def __call__(self, batch: Batch, reference: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """All losses of a batch; `reference` says what a style reference shows at encoded speech (`train style`)."""
        args, model = self.args, self.model
        lower, upper = landmark_set("generated"), landmark_set("prefix")
        rest = batch.rest + args.noise * torch.randn_like(batch.rest)
        origin = batch.rest[:, :, lower].mean(1)
        clean = model.encode(batch.landmarks[:, :, lower], origin)
        step = (len(self.alphas) * torch.rand(len(clean), device=self.device).pow(args.noise_bias)).long()
        alpha = self.alphas[step][:, None, None]
        noisy = add_noise(clean, torch.randn_like(clean), alpha)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=args.precision == "bfloat16"):
            heard = batch.features + args.feature_noise * torch.randn_like(batch.features)
            speech = model.speech_encoder(heard)
            spoken = torch.rand(len(clean), 1, 1, device=self.device) >= args.speech_dropout
            speech, style = speech * spoken, None if reference is None else reference(speech) * spoken
            given = self.upper_condition(batch.landmarks[:, :, upper], batch.upper_mean)
            found = model.denoiser(noisy, given, step, speech, self.person(rest), style)
        found = found.float()
        losses = {"x0": self.square(found - clean), "velocity": self.square((found - clean).diff(dim=1))}
        losses["identity"] = self.identity_loss(found, batch, origin, alpha)
        losses["closed"] = self.closure_loss(found - clean, batch)
        losses["loss"] = losses["x0"] + args.velocity_weight * losses["velocity"]
        losses["loss"] += args.identity_weight * losses["identity"] + args.closure_weight * losses["closed"]
        return losses

    def square(self, error: Tensor) -> Tensor:
        """Weighted mean square of `error (b, t, c)` in landmark space, 1 for the data's own variance."""
        return ((error @ self.model.from_channels).square() * self.weight).sum(-1).mean()

    def closure_loss(self, error: Tensor, batch: Batch) -> Tensor:
        """Mean square error of the lips' distance where they are closed, 1 for the variance of openings.

        What errs least where a closure may come a frame early or late is a mouth half open: no *m* is seen in it.
        """
        if self.args.closure_weight == 0:
            return error.new_zeros(())
        shape = (error @ self.model.from_channels).unflatten(2, (-1, 2))
        rows = [torch.isin(landmark_set("generated"), torch.tensor(points)) for points in zip(*MIDDLE, strict=True)]
        upper, lower = (row.to(error.device) for row in rows)
        apart = (shape[:, :, upper] - shape[:, :, lower]).mean(2).square().sum(-1)
        closed = mouth_opening(batch.landmarks) < CLOSED
        return (apart * closed).sum() / closed.sum().clamp_min(1) / OPENING_VARIANCE

    def upper_condition(self, upper: Tensor, mean: Tensor) -> Tensor:
        """Upper faces `(b, t, 103, 2)` as the denoiser sees them, some from another take.

        In use the upper face belongs to other words: a model that trusted it would repeat the old mouth.
        """
        given = self.model.encode_upper(upper + self.args.noise * torch.randn_like(upper), mean)
        foreign = torch.rand(len(given), 1, 1, device=self.device) < self.args.upper_dropout
        return torch.where(foreign, given.roll(1, 0), given)

    def identity_loss(self, found: Tensor, batch: Batch, reference: Tensor, alpha: Tensor) -> Tensor:
        """1 - cosine between the embeddings of the generated and of the resting faces."""
        if self.args.identity_weight == 0:
            return found.new_zeros(())
        frames = torch.arange(0, found.shape[1], 8)
        faces = batch.landmarks[:, frames].clone()
        faces[:, :, landmark_set("generated")] = self.model.decode(found[:, frames], reference)
        target = F.normalize(self.extractor(batch.rest).mean(1, keepdim=True), dim=-1)
        distance = 1 - (self.extractor(faces) * target).sum(-1, keepdim=True)
        return (distance * (alpha > IDENTITY_FROM)).mean()


def train(
    args: Namespace, encode: Callable[[Tensor], Tensor], needs: Needs, extractor: IdentityExtractor
) -> MotionModel:
    """Train on features of `encode`; returns the averaged model."""
    return train_on(*load_splits(args, encode), args, needs, extractor)


def person_of(args: Namespace, extractor: IdentityExtractor) -> IdentityExtractor | KeyLandmarks:
    """What the denoiser is told about a person, from the landmarks of key frames."""
    return extractor if args.condition == CONDITIONS[0] else KeyLandmarks(extractor)


def load_splits(args: Namespace, encode: Callable[[Tensor], Tensor]) -> tuple[list[Take], list[Take]]:
    """Takes to train on, in all versions, and to validate on, where this process does."""
    clips, held_out, cache = read_clips(args.data, "train"), read_clips(args.data, "val"), Path(args.cache)
    offsets = read_offsets(args.offsets, clips)
    takes = load_takes(own_share(clips), encode, cache, VERSIONS[: args.versions], offsets)
    return takes, load_takes(held_out, encode, cache, (CLEAN,), offsets) if is_first() else []


def train_on(
    takes: list[Take], val: list[Take], args: Namespace, needs: Needs, extractor: IdentityExtractor
) -> MotionModel:
    """Train on `takes`, validate on `val`; returns the averaged model, on `args.device`, where `extractor` goes too."""
    device = pick_device(args.device)
    seed_everything(args.seed)
    extractor = extractor.eval().to(device)
    person = person_of(args, extractor)
    dims = {"speech_in": takes[0].features.shape[1], "identity_dim": person.dim}  # of what is used, not of the preset
    params = replace(PRESETS[args.preset], condition=args.condition, **dims)
    model, averaged = MotionModel(params, needs), MotionModel(params, needs).eval().to(device)
    fit_coordinates(model, takes)  # in double precision, which not every device knows
    model = model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=args.weight_decay)
    run, ema = Run.of(args), Ema(model, 0.998)
    start = run.resume(model, optimizer, ema)
    loss_of, sampler = MotionLoss(model, extractor, args, person), Sampler(takes, args.tokens)
    for step in run.steps(start, args.steps):
        set_learning_rate(optimizer, args.rate * run.rate(step, args.steps, 100))
        losses = loss_of(sampler.draw(step_rng(own_seed(args.seed), step)).to(device))
        descend(losses["loss"], optimizer, model.parameters())
        ema.update(model)
        if is_first() and (step + 1) % args.validate_every == 0:
            run.save(step + 1)
            ema.copy_to(averaged)
            export(averaged, args)
            run.log(step, **losses, **validate(averaged, person, val, extractor))
            save_sheet(run.folder / f"sheet_{step + 1:06d}.png", averaged, person, val[:: max(1, len(val) // 6)])
        elif step % 50 == 0:
            run.log(step, **losses)
    ema.copy_to(averaged)
    return averaged


def export(averaged: MotionModel, args: Namespace) -> None:
    """Write the weights, if they are wanted."""
    if args.save:
        save_checkpoint(args.save, halved(averaged), "motion", averaged.config())


@trainer(lambda args: f"motion_{args.preset}")
def main(args: Namespace) -> str:
    """Train with the named speech encoder and identity extractor, and save; says what was written."""
    device = pick_device(args.device)
    speech, extractor = load_speech_encoder(args.speech_encoder, device), load_identity(args.identity, device)
    needs = Needs(speech.name, speech.sha256, Path(args.identity).stem, extractor.sha256)
    args.cache = str(Path(args.cache) / speech.sha256[:12])
    model = train(args, speech, needs, extractor)
    if is_first():
        export(model, args)
    return saved(args)
