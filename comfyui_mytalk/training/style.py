"""Train the style reference of a motion model (arXiv 2408.05412) on prepared clips; all else stays as it is.

    b batch   t motion frames   k pieces of p frames   e width of encoded speech

Stretches are denoised as in `train motion`, and shown other moments of the same person with their sound. Only the
attention to them and its entry into the blocks are trained, so that the model without a reference is the one that was
started from.
"""

from __future__ import annotations

import copy
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..commands.arguments import share, whole_number
from ..devices import pick_device
from ..errors import InputError
from ..motion.identity import IdentityExtractor, load_identity
from ..motion.model import MotionModel, check_needs, load_motion
from ..motion.style import StyleMemory
from ..speech.features import load_speech_encoder
from .clips import read_clips, read_offsets
from .loop import Ema, add_run_arguments, descend, saved, seed_everything, step_rng, trainer
from .motion import add_objective, export, know_files
from .motion_data import VERSIONS, Take, load_takes
from .motion_loss import MotionLoss
from .processes import is_first, own_seed, own_share
from .run import Run
from .schedule import set_learning_rate
from .style_data import ReferenceBatch, StyleSampler

SCALES = ("sharpness", "enough")  # single numbers, learnt on a logarithmic scale
SCALES_RATE = 10.0  # times the rate of the others


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `train style`."""
    add_run_arguments(parser, "runs/style", 900)
    add = parser.add_argument
    add("--start", default="motion_small", help="motion weights to add it to, name or file (default %(default)s)")
    add("--heads", type=whole_number(1), default=4, help="of the attention (default %(default)s)")
    add("--style-dropout", type=share, default=0.15, help="share of clips without a reference (default %(default)s)")
    add(
        "--save-every",
        type=whole_number(1),
        default=100,
        help="steps from one time that weights are written to the next (default %(default)s)",
    )
    add_objective(parser)
    parser.set_defaults(feature_noise=0.4, weight_decay=0.05, closure_weight=0.25)


def with_style(base: MotionModel, heads: int) -> MotionModel:
    """A copy of `base` that takes a reference, and for now does nothing with it; its own reference is kept, if any."""
    if base.params.style_heads not in (0, heads):
        raise InputError(f"got --heads {heads}, but the reference of --start has {base.params.style_heads}; say these")
    if base.params.dim % heads:
        raise InputError(f"got --heads {heads}, expected a divisor of the model's width {base.params.dim}, such as 4")
    model = MotionModel(replace(base.params, style_heads=heads), base.needs)
    model.load_state_dict(base.state_dict(), strict=bool(base.params.style_heads))
    return model


def trained_parts(model: MotionModel) -> dict[str, torch.nn.Parameter]:
    """The parameters of the style reference by name; all others are frozen."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("style" in name.split("."))
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def looked_up(model: MotionModel, batch: ReferenceBatch, args: Namespace) -> Callable[[Tensor], Tensor]:
    """What the references of a batch say of its encoded speech `(b, t, e)` -> `(b, t, dim)`."""
    count, pieces = batch.known.shape
    with torch.no_grad():
        noise = args.feature_noise * torch.randn_like(batch.features)
        heard = model.speech_encoder((batch.features + noise).flatten(0, 1)).unflatten(0, (count, pieces)).flatten(1, 2)
        shown = ((batch.lower.flatten(3) - model.lower_mean) @ model.to_channels).flatten(1, 2)
    kept = torch.rand(count, 1, device=heard.device) >= args.style_dropout
    known = (batch.known & kept).repeat_interleave(batch.lower.shape[2], 1)
    return lambda speech: model.style(speech, StyleMemory(heard, shown, known))


def train(base: MotionModel, takes: list[Take], extractor: IdentityExtractor, args: Namespace) -> MotionModel:
    """`base` with a style reference trained on `takes`; returns the average over the last steps, on `args.device`."""
    device = pick_device(args.device)
    seed_everything(args.seed)
    model = with_style(base, args.heads).to(device).eval()
    sampler, parts = StyleSampler(takes, args.tokens), trained_parts(model)
    loss_of = MotionLoss(model, extractor.eval().to(device), args)
    groups = [
        {"params": [p for name, p in parts.items() if (name.split(".")[-1] in SCALES) == scale], "scale": rate}
        for scale, rate in ((False, 1.0), (True, SCALES_RATE))
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=args.weight_decay)
    run, ema, averaged = Run.of(args), Ema(model, 0.99), copy.deepcopy(model)
    for step in run.steps(run.resume(model, optimizer, ema), args.steps):
        set_learning_rate(optimizer, args.rate * run.rate(step, args.steps, 50))
        batch, reference = (part.to(device) for part in sampler.draw(step_rng(own_seed(args.seed), step)))
        losses = loss_of(batch, looked_up(model, reference, args))
        descend(losses["loss"], optimizer, parts.values())
        ema.update(model)
        if is_first() and (step + 1) % args.save_every == 0:
            run.log(step, **losses)
            run.save(step + 1)
            ema.copy_to(averaged)
            export(averaged, args)
    ema.copy_to(averaged)
    return averaged


@trainer(lambda args: Path(args.start).stem)
def main(args: Namespace) -> str:
    """Train from `--start`, and save the whole motion model; says what was written."""
    device = pick_device(args.device)
    speech, extractor = load_speech_encoder(args.speech_encoder, device), load_identity(args.identity, device)
    base = with_style(load_motion(args.start), args.heads)
    check_needs(base, speech, extractor)
    know_files(args, base.needs)
    cache, clips = Path(args.cache) / speech.sha256[:12], read_clips(args.data, "train")
    offsets = read_offsets(args.offsets, clips)
    takes = load_takes(own_share(clips), speech, cache, VERSIONS[: args.versions], offsets)
    model = train(base, takes, extractor, args)
    if is_first():
        export(model, args)
    return saved(args)
