"""Train the network that sees what lies in front of a face, on prepared clips and drawn occluders.

    b batch   s side of the network's pictures

Validation draws on the other identities, with other random numbers; `benchmarks/occlusion_figures.py` looks at films.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from fnmatch import fnmatch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..appearance.occlusion import OCCLUSION_PRESETS, OcclusionNet, load_occlusion, occlusion_config
from ..checkpoints import save_checkpoint
from ..commands.arguments import positive, whole_number
from ..devices import pick_device
from ..errors import InputError
from .clips import PreparedClip, read_clips
from .loop import Ema, add_run_arguments, descend, halved, saved, seed_everything, start_worker, trainer
from .occlusion_data import OcclusionBatches, OcclusionSample
from .processes import is_first, own_seed
from .run import Run
from .schedule import set_learning_rate

logger = logging.getLogger(__name__)
VALIDATION = 48  # batches


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `train occlusion`."""
    add_run_arguments(parser, "runs/occlusion", 5000)
    parser.add_argument("--data", required=True, help="folder of prepared clips")
    add = parser.add_argument
    add(
        "--preset", choices=sorted(OCCLUSION_PRESETS), default="small", help="size of the network (default %(default)s)"
    )
    add("--start", help="weights to start from, name or path (default: none, from the beginning)")
    add(
        "--skip",
        nargs="*",
        default=[],
        metavar="NAME",
        help="patterns of names of clips to leave out, such as those with real hands (default: none)",
    )
    add("--batch", type=whole_number(1), default=16, help="pictures in a batch (default %(default)s)")
    add("--rate", type=positive, default=2e-3, help="peak learning rate (default %(default)s)")
    add(
        "--workers",
        type=whole_number(0),
        default=0,
        help="processes that draw samples, 0 for none (default %(default)s)",
    )
    add(
        "--validate-every",
        type=whole_number(1),
        default=1000,
        help="steps from one validation to the next (default %(default)s)",
    )


def occlusion_loss(logits: Tensor, sample: OcclusionSample) -> Tensor:
    """Cross-entropy and overlap (Dice), where it counts. A face taken for a thing costs more than the reverse."""
    weight = sample.judged * (1 + (1 - sample.cover))
    entropy = F.binary_cross_entropy_with_logits(logits, sample.cover, reduction="none")
    chance = logits.sigmoid() * sample.judged
    both = (chance * sample.cover).sum((1, 2, 3))
    overlap = (2 * both + 50) / (chance.sum((1, 2, 3)) + (sample.cover * sample.judged).sum((1, 2, 3)) + 50)
    return (entropy * weight).sum() / weight.sum() + 0.3 * (1 - overlap).mean()


@torch.inference_mode()
def validate(net: OcclusionNet, batches: list[OcclusionSample]) -> dict[str, float]:
    """Share of covered pixels that are found, of clear pixels taken for covered, and overlap (IoU), at one half."""
    net.eval()
    both = found = there = wrong = clear = 0.0
    for sample in batches:
        say = (net(sample.crops, sample.marks) > 0) & (sample.judged > 0.5)
        truth = (sample.cover > 0.5) & (sample.judged > 0.5)
        both += (say & truth).sum().item()
        found += say.sum().item()
        there += truth.sum().item()
        nothing = sample.cover.amax((1, 2, 3)) == 0
        wrong += say[nothing].sum().item()
        clear += (sample.judged[nothing] > 0.5).sum().item()
    return {"recall": both / there, "iou": both / (found + there - both), "false": wrong / clear}


@trainer(lambda args: f"occlusion_{args.preset}")
def main(args: Namespace) -> str:
    """Train, validate, save; says what was written."""
    device = pick_device(args.device)
    seed_everything(args.seed)
    params = OCCLUSION_PRESETS[args.preset]
    train, val = (_without(read_clips(args.data, split), args.skip) for split in ("train", "val"))
    net, averaged = OcclusionNet(params).to(device), OcclusionNet(params)
    if args.start:
        start_from(net, args.start)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    run, ema = Run.of(args), Ema(net, 0.998)
    start = run.resume(net, optimizer, ema)
    drawn = OcclusionBatches(val, params.size, args.batch, args.seed + 1, 0, VALIDATION)
    checks = list(tqdm(drawn, "validation", VALIDATION, mininterval=5)) if is_first() else []
    batches = OcclusionBatches(train, params.size, args.batch, own_seed(args.seed), start, args.steps)
    loader = iter(DataLoader(batches, batch_size=None, num_workers=args.workers, worker_init_fn=start_worker))
    for step in run.steps(start, args.steps):
        sample = OcclusionSample(*(tensor.to(device) for tensor in vars(next(loader)).values()))
        set_learning_rate(optimizer, args.rate * run.rate(step, args.steps, 200, 0.01))
        loss = occlusion_loss(net.train()(sample.crops, sample.marks), sample)
        descend(loss, optimizer)
        ema.update(net)
        if is_first() and (step + 1) % args.validate_every == 0:
            run.save(step + 1)
            ema.copy_to(averaged)
            run.log(step, loss=loss, **export(averaged, checks, args))
    ema.copy_to(averaged)
    return saved(args, export(averaged, checks, args) if is_first() else None)


def export(averaged: OcclusionNet, checks: list[OcclusionSample], args: Namespace) -> dict[str, float]:
    """Write the weights with their figures on validation batches, and return these."""
    results = {name: round(value, 4) for name, value in validate(averaged, checks).items()}
    info = {name: f"{value:.4f}" for name, value in results.items()}
    save_checkpoint(args.save, halved(averaged), "occlusion", occlusion_config(averaged), info)
    return results


def start_from(net: OcclusionNet, name: str) -> None:
    """Load weights by name or path; raises InputError when they are missing or of another size."""
    trained = load_occlusion(name)
    if trained.params != net.params:
        raise InputError(f"the weights {name} are of another network than this preset; choose the preset they are of")
    net.load_state_dict(trained.state_dict())


def _without(clips: list[PreparedClip], skip: list[str]) -> list[PreparedClip]:
    kept = [clip for clip in clips if not any(fnmatch(clip.path.stem, pattern) for pattern in skip)]
    if not kept:
        raise InputError(f"--skip {' '.join(skip)} leaves no clips")
    return kept
