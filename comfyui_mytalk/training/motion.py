"""Train the motion model (MyTalk, section 3.3.4) on prepared clips; its loss: `motion_loss.py`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints import save_checkpoint
from ..commands.arguments import positive, share, weight, whole_number
from ..devices import pick_device
from ..motion.identity import IdentityExtractor, KeyLandmarks, load_identity
from ..motion.model import MotionModel, Needs
from ..motion.params import CONDITIONS, PRESETS
from ..speech.features import load_speech_encoder
from .clips import read_clips, read_offsets
from .loop import Ema, add_run_arguments, descend, halved, saved, seed_everything, step_rng, trainer
from .motion_data import CLEAN, VERSIONS, Sampler, Take, load_takes
from .motion_fit import fit_coordinates
from .motion_loss import MotionLoss
from .motion_validation import save_sheet, validate
from .processes import is_first, own_seed, own_share
from .run import Run
from .schedule import set_learning_rate


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
        default=200,
        help="steps from one validation to the next; the end is validated too (default %(default)s)",
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
    add("--weight-decay", type=weight, default=0.02, help="of AdamW (default %(default)s)")
    add("--identity-weight", type=weight, default=1.0, help="of the loss, Table 6: 0, 1 or 2 (default %(default)s)")
    add("--velocity-weight", type=weight, default=1.0, help="of the loss (default %(default)s)")
    add(
        "--closure-weight",
        type=weight,
        default=0.0,
        help="of errors where lips are closed (default %(default)s)",
    )
    add("--speech-dropout", type=share, default=0.1, help="share of clips without speech (default %(default)s)")
    add(
        "--upper-dropout",
        type=share,
        default=0.5,
        help="share of clips with another moment's upper face (default %(default)s)",
    )
    add(
        "--feature-noise",
        type=weight,
        default=0.3,
        help="noise on speech features, which are of unit size (default %(default)s)",
    )
    add("--noise", type=weight, default=0.01, help="landmark noise on the conditions, cm (default %(default)s)")
    add(
        "--noise-bias",
        type=weight,
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
    """Train on `takes`, validate on `val`, if there are any, now and then and at the end, and write the weights.

    Returns the averaged model, on `args.device`, where `extractor` goes too.
    """
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
    start = done = run.resume(model, optimizer, ema)
    loss_of, sampler = MotionLoss(model, extractor, args, person), Sampler(takes, args.tokens)

    def check(**losses: Tensor) -> None:
        """Write the averaged weights after `done` steps, and what validation says of them."""
        ema.copy_to(averaged)
        figures = validate(averaged, person, val, extractor) if val else {}
        export(averaged, args, {"steps": str(done)} | {name: f"{value:.3f}" for name, value in figures.items()})
        if val:
            run.log(max(done - 1, 0), **losses, **figures)
            save_sheet(run.folder / f"sheet_{done:06d}.png", averaged, person, val[:: max(1, len(val) // 6)])

    for step in run.steps(start, args.steps):
        set_learning_rate(optimizer, args.rate * run.rate(step, args.steps, 100))
        losses = loss_of(sampler.draw(step_rng(own_seed(args.seed), step)).to(device))
        descend(losses["loss"], optimizer, model.parameters())
        ema.update(model)
        done = step + 1
        if is_first() and done % args.validate_every == 0:
            run.save(done)
            check(**losses)
        elif step % 50 == 0:
            run.log(step, **losses)
    if is_first() and (done == start or done % args.validate_every):
        check()
    ema.copy_to(averaged)
    return averaged


def export(averaged: MotionModel, args: Namespace, info: dict[str, str] | None = None) -> None:
    """Write the weights, if they are wanted, with what is to be known of their training."""
    if args.save:
        save_checkpoint(args.save, halved(averaged), "motion", averaged.config(), info)


def know_files(args: Namespace, needs: Needs) -> None:
    """Let the run's options say what is in the files that its motion model needs: of the same name they may be others
    when the run goes on, and the model would be taken for one that was trained with them."""
    args.identity_sha256, args.speech_sha256 = needs.identity_sha256[:12], needs.speech_sha256[:12]


@trainer(lambda args: f"motion_{args.preset}")
def main(args: Namespace) -> str:
    """Train with the named speech encoder and identity extractor, and save; says what was written."""
    device = pick_device(args.device)
    speech, extractor = load_speech_encoder(args.speech_encoder, device), load_identity(args.identity, device)
    needs = Needs(speech.name, speech.sha256, Path(args.identity).stem, extractor.sha256)
    args.cache = str(Path(args.cache) / speech.sha256[:12])
    know_files(args, needs)
    train(args, speech, needs, extractor)
    return saved(args)
