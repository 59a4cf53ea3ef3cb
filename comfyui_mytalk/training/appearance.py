"""Train the appearance generator (MyTalk, Section 3.4.2) on prepared clips.

    b batch   k references   s crop side in pixels

One step, and its losses: `appearance_gan.py`.
"""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch.utils.data import DataLoader

from ..appearance.model import model_config
from ..appearance.params import PRESETS, AppearanceParams
from ..appearance.references import FIXED
from ..checkpoints import save_checkpoint
from ..commands.arguments import positive, weight, whole_number
from ..errors import InputError
from .appearance_data import Sample, cut_sample
from .appearance_device import ChoiceStream, device_samples, prefetched
from .appearance_gan import Trainer
from .appearance_pool import EchoPool
from .appearance_start import start_from
from .appearance_stream import SampleStream
from .appearance_validation import check_validation, save_sheet, validate
from .clips import PreparedClip, read_clips
from .held_out import spread
from .loop import Ema, add_run_arguments, halved, saved, seed_everything, start_worker, step_rng, trainer
from .processes import is_first, own_seed, own_share
from .run import Run

REFERENCE_DESIGNS = ("regression", "aligned", "masked", "single-masked", "single-full")  # the last three: Table 7


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `train appearance`."""
    add_run_arguments(parser, "runs/appearance", 20_000)
    parser.add_argument("--data", required=True, help="folder of prepared clips")
    add = parser.add_argument
    add("--preset", choices=sorted(PRESETS), default="small", help="size of the network (default %(default)s)")
    add("--start", help="weights to start from, name or path (default: none, from the beginning)")
    add("--batch", type=whole_number(1), default=8, help="pictures in a batch (default %(default)s)")
    add("--rate", type=positive, default=5e-4, help="peak learning rate (default %(default)s)")
    add(
        "--references",
        choices=REFERENCE_DESIGNS,
        default="regression",
        help="what is shown of the person, the paper's Table 7 and ours (default %(default)s)",
    )
    add(
        "--gan-from",
        type=weight,
        default=0.45,
        help="share of the steps after which the GAN starts; 1: never (default %(default)s)",
    )
    add("--gan-weight", type=weight, default=1.0, help="of its loss; the paper has 0.5 (default %(default)s)")
    add("--matching-weight", type=weight, default=4.0, help="of discriminator feature matching (default %(default)s)")
    add(
        "--texture-weight",
        type=weight,
        default=1.0,
        help="of the strength of detail in 8 px patches (default %(default)s)",
    )
    add(
        "--fidelity-weight",
        type=weight,
        default=0.02,
        help="of the mouth's PSNR but for fine detail (default %(default)s)",
    )
    add("--structure-weight", type=weight, default=0.1, help="of 1 - SSIM (default %(default)s)")
    add("--kl-weight", type=weight, default=1e-6, help="of the KL term of both posteriors (default %(default)s)")
    add(
        "--precision",
        choices=("bfloat16", "float32"),
        default="bfloat16",
        help="of the networks in training; float32 where the hardware has no bfloat16 (default %(default)s)",
    )
    add(
        "--recompute",
        action=BooleanOptionalAction,
        help="compute blocks twice rather than keep them: less memory, more time (default: with the preset paper)",
    )
    add("--freeze-encoders", action="store_true", help="train all but the three encoders (default: all)")
    add(
        "--cut",
        type=whole_number(1),
        nargs=2,
        metavar=("H", "W"),
        help="train on parts this large (default: the whole window)",
    )
    add("--echo", type=whole_number(1), default=1, help="steps per batch read (default %(default)s)")
    add(
        "--pool",
        type=whole_number(1),
        default=1,
        help="batches kept, of whose samples each step draws a few (default %(default)s)",
    )
    add(
        "--on-device",
        action="store_true",
        help="keep all pictures on the device, CUDA or CPU, and make the batches there (default: beside it)",
    )
    add(
        "--workers",
        type=whole_number(0),
        help="processes that make samples, each holding 10 GB at most, or choose them (default: 1, on the device 4)",
    )
    add(
        "--validate-clips",
        type=whole_number(0),
        default=200,
        help="at most so many, spread over corpora and people; 0: none (default %(default)s)",
    )
    add(
        "--validate-every",
        type=whole_number(1),
        default=2000,
        help="steps from one validation to the next (default %(default)s)",
    )


def design(params: AppearanceParams, references: str) -> AppearanceParams:
    """The preset with one of the paper's reference designs (Table 7) or ours."""
    count = {"single": 1, "regression": params.references}.get(references.split("-")[0], FIXED)
    return replace(
        params,
        references=count,
        regression=references == "regression",
        detail=params.detail * (references == "regression"),
        detail_choice=params.detail_choice and references == "regression",
        sharpen=params.sharpen * (references == "regression"),
        hold=params.hold * (references == "regression"),
        teeth=params.teeth * (references == "regression"),
        aligned=references in ("regression", "aligned"),
        masked_references=references != "single-full",
    )


def check_cut(cut: tuple[int, int] | None, params: AppearanceParams) -> None:
    """Raise InputError when parts of a height and width are not parts of the window that the network can take."""
    top, bottom, left, right = params.window or (0, params.size, 0, params.size)
    whole = (bottom - top, right - left)
    if cut and any(part % params.factor or part > most for part, most in zip(cut, whole, strict=True)):
        raise InputError(
            f"got --cut {cut[0]} {cut[1]}, expected multiples of {params.factor} up to {whole[0]} {whole[1]}"
        )


def batches(
    args: Namespace, clips: list[PreparedClip], params: AppearanceParams, device: torch.device, start: int
) -> Callable[[int], Sample]:
    """What gives the batch of a step, asked in order from `start` on: made on the device, or read and kept a while."""
    clips, seed = own_share(clips), own_seed(args.seed)
    workers = args.workers if args.workers is not None else 4 if args.on_device else 1
    if args.on_device:
        choices = ChoiceStream(clips, params, args.batch, seed, start)
        made = device_samples(choices, device, workers)
        made = prefetched(made, device) if device.type == "cuda" else made
        return lambda _: next(made)

    def stream(first: int) -> Iterator[Sample]:
        samples = SampleStream(clips, params, args.batch, seed, first)
        if workers == 0:
            return iter(samples)
        own = torch.Generator()  # else starting the worker would draw from the generator that was just restored
        how = {"num_workers": workers, "prefetch_factor": 4, "worker_init_fn": start_worker}
        return iter(DataLoader(samples, None, generator=own, **how))

    return EchoPool(stream, args.batch, seed, start, args.echo, args.pool).draw


@trainer(lambda args: f"appearance_{args.preset}")
def main(args: Namespace) -> str:
    """Train, resume or fine-tune; writes the averaged weights at every validation and at the end, and says where."""
    if args.on_device and max(args.echo, args.pool) > 1:
        raise InputError("got --echo or --pool with --on-device, which makes each batch anew: leave out one of them")
    seed_everything(args.seed)
    clips = read_clips(args.data, "train")
    validation = spread(read_clips(args.data, "val"), args.validate_clips) if args.validate_clips else []
    params = design(PRESETS[args.preset], args.references)
    check_validation(validation, params)
    check_cut(args.cut, params)
    gan = Trainer(params, args)
    if args.start:
        start_from(gan.model, args.start)
        gan.ema = Ema(gan.model, 0.999)
    run = Run.of(args)
    start = done = run.resume(gan.model, gan.optimizer, gan.ema, **gan.parts())

    draw, scores = batches(args, clips, params, gan.device, start), {}
    for step in run.steps(start, args.steps):
        sample = draw(step)
        sample = cut_sample(sample, args.cut, step_rng(own_seed(args.seed) + 1, step)) if args.cut else sample
        logs = gan.step(step, sample.to(gan.device), run.progress(step, args.steps))
        if step % 50 == 0:
            run.log(step, **logs)
        done = step + 1
        if done % args.validate_every == 0:
            scores = _checkpoint(run, gan, params, validation, done)
    if done == start or done % args.validate_every:
        scores = _checkpoint(run, gan, params, validation, done)
    return saved(args, {name: round(value, 3) for name, value in scores.items()})


def _checkpoint(
    run: Run, gan: Trainer, params: AppearanceParams, validation: list[PreparedClip], done: int
) -> dict[str, float]:
    """Save the state after `done` steps, and the averaged weights with their scores, which are returned."""
    if not is_first():
        return {}
    run.save(done)
    model = gan.averaged()
    scores = validate(model, validation) if validation else {}
    if validation:
        run.log(max(done - 1, 0), **scores)
        save_sheet(model, validation, run.folder / f"step_{done:06d}.png")
    save_checkpoint(
        gan.args.save,
        halved(model),
        "appearance",
        model_config(params),
        {"step": str(done), "references": gan.args.references, **{k: f"{v:.4f}" for k, v in scores.items()}},
    )
    return scores
