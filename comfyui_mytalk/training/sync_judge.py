"""Train the sync judge (`evaluation/sync_judge.py`) on the train split: which sound belongs to which mouth.

    b sequences   w windows of a sequence   d embedding width

Contrastive, as SyncNet's later form (Chung, Chung and Kang 2019, "Perfect match"), with the sound at other moments of
the same clip as hard negatives and other clips as easy ones. What it learns is for judging alone: no generator may
train on it.
"""

from __future__ import annotations

import copy
import logging
import math
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints import save_checkpoint
from ..commands.arguments import positive, whole_number
from ..devices import pick_device
from ..errors import InputError
from ..evaluation.sync_judge import PRESETS, SyncJudge, judge_config
from ..evaluation.sync_score import WINDOW, SyncScore, score_embeddings, whole_windows
from .clips import read_clips, read_offsets
from .loop import Ema, add_run_arguments, descend, halved, saved, seed_everything, step_rng, trainer
from .processes import is_first, own_seed, own_share
from .run import Run
from .schedule import anneal, set_learning_rate
from .sync_judge_data import Stretches, StretchSampler, SyncClip, load_clips

logger = logging.getLogger(__name__)
LENGTH = 29  # frames of a sequence: the many clips of 1.2 seconds are no longer
STRIDE = 2  # frames between two picture windows in training: neighbours say nearly the same
SHORT = 50  # frames: the windows of 2 seconds that validation also scores
PER_CLIP = 8  # of those windows at most


class Contrast(nn.Module):
    """The losses and their learned temperatures."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor([2.3, 2.3, 3.0]))

    def forward(self, seen: Tensor, heard: Tensor) -> dict[str, Tensor]:
        """Unit vectors of every `STRIDE`-th picture window `(b, p, d)` and every sound `(b, w, d)` -> losses.

        clip: each window among those of its own clip. everything: among all windows of the batch. offset: the
        similarity of whole sequences over all offsets, which is what scoring compares.
        """
        count, sounds = len(seen), heard.shape[1]
        scale = self.log_scale.clamp(max=4.6).exp()
        place = torch.arange(0, sounds, STRIDE, device=seen.device)
        beside = (place[:, None] - torch.arange(sounds, device=seen.device)).abs() == 1  # hardly wrong: neither
        own = seen @ heard.mT
        clip = both_ways((scale[0] * own).masked_fill(beside, -1e4), place)
        flat = scale[1] * seen.flatten(0, 1) @ heard.flatten(0, 1).T
        everywhere = (torch.arange(count, device=seen.device)[:, None] * sounds + place).flatten()
        everything = both_ways(flat.masked_fill(torch.block_diag(*[beside] * count), -1e4)[None], everywhere)
        half = sounds // 2
        means = []
        for offset in range(-half, half + 1):
            meets = (place - offset >= 0) & (place - offset < sounds)
            means.append(own[:, meets.nonzero()[:, 0], (place - offset)[meets]].mean(1))
        right = torch.full((count,), half, device=seen.device)
        offset = F.cross_entropy(scale[2] * torch.stack(means, 1), right)
        return {"clip": clip, "everything": everything, "offset": offset, "loss": clip + 0.5 * everything + offset}


def both_ways(logits: Tensor, place: Tensor) -> Tensor:
    """Cross-entropy of `(b, p, w)` whose row `i` belongs to column `place[i]`: over the columns and over the rows."""
    among_sounds = F.cross_entropy(logits.flatten(0, 1), place.repeat(len(logits)))
    columns = logits[:, :, place].mT
    rows = torch.arange(len(place), device=place.device).repeat(len(logits))
    return 0.5 * (among_sounds + F.cross_entropy(columns.flatten(0, 1), rows))


def training_losses(judge: SyncJudge, contrast: Contrast, batch: Stretches, device: torch.device) -> dict[str, Tensor]:
    """Losses of one batch, convolutions in bfloat16."""
    mel = judge.compress(batch.power.to(device))
    with torch.autocast(device.type, torch.bfloat16):
        seen, heard = judge.see(batch.pictures.to(device), STRIDE), judge.hear(mel)
    return contrast(seen, heard)


def window_scores(seen: Tensor, heard: Tensor, usable: Tensor, frames: int) -> list[SyncScore]:
    """Scores of stretches of `frames`, spread evenly over a clip of which `embed` gave `(w, d)`, at most eight."""
    wide = frames - WINDOW + 1
    if len(seen) < wide:
        return []
    starts = torch.linspace(0, len(seen) - wide, PER_CLIP).long().unique().tolist()
    parts = [slice(start, start + wide) for start in starts]
    scores = [score_embeddings(seen[part], heard[part], usable[part]) for part in parts]
    return [score for score in scores if not math.isnan(score.distance)]


@torch.inference_mode()
def validate(judge: SyncJudge, clips: list[SyncClip]) -> dict[str, float]:
    """Share of clips, and of 2 s stretches, whose offset is found within a frame: per corpus, and the mean of corpora.

    Chance is 3 in 31, and clips that are really out of sync count against the judge. confidence: mean over the clips.
    """
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in ("clip", "2s", "confidence")}
    for clip in clips:
        seen, heard = judge.embed(clip.mouths, clip.sound)
        if not len(seen):
            continue
        usable = whole_windows(clip.usable)
        whole = score_embeddings(seen, heard, usable)
        if not math.isnan(whole.distance):
            found["clip"][clip.corpus].append(float(whole.in_sync))
            found["confidence"][clip.corpus].append(whole.confidence)
        found["2s"][clip.corpus] += [float(score.in_sync) for score in window_scores(seen, heard, usable, SHORT)]
    figures = {}
    for name, corpora in found.items():
        means = {corpus: sum(values) / len(values) for corpus, values in sorted(corpora.items()) if values}
        figures |= {f"{name} {corpus}": mean for corpus, mean in means.items()}
        if means:
            figures[f"{name} mean"] = sum(means.values()) / len(means)
    return figures


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `train sync-judge`."""
    add_run_arguments(parser, "runs/sync_judge", 4000)
    parser.add_argument("--data", required=True, help="folder of prepared clips")
    add = parser.add_argument
    add("--preset", choices=sorted(PRESETS), default="small", help="size of the network (default %(default)s)")
    add("--batch", type=whole_number(2), default=32, help=f"sequences of {LENGTH} frames (default %(default)s)")
    add("--rate", type=positive, default=2e-3, help="peak learning rate (default %(default)s)")
    add(
        "--offsets",
        help="JSON {clip: seconds by which its speech is late}: moved before training (default: late clips left out)",
    )
    add("--cache", type=Path, help="folder where mouth pictures are kept for the next run (default: not kept)")
    add(
        "--validate-every",
        type=whole_number(1),
        default=250,
        help="steps from one validation to the next (default %(default)s)",
    )


@trainer(lambda args: f"sync_judge_{args.preset}")
def main(args: Namespace) -> str:
    """Train, validate, save; says what was written."""
    device, train, val = pick_device(args.device), read_clips(args.data, "train"), read_clips(args.data, "val")
    offsets = read_offsets(args.offsets, train)
    seed_everything(args.seed)
    held_out = load_clips(val, cache=args.cache) if is_first() else []
    sampler = StretchSampler(load_clips(own_share(train), offsets, args.cache), LENGTH)
    if not sampler.clips:
        raise InputError(f"no train clip in {args.data} shows a face and has sound for {LENGTH} frames in a row")
    judge, contrast = SyncJudge(PRESETS[args.preset]).to(device), Contrast().to(device)
    judge = judge.to(memory_format=torch.channels_last)
    groups = [{"params": judge.parameters()}, {"params": contrast.parameters(), "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, args.rate, betas=(0.9, 0.98), weight_decay=0.05)
    run, ema = Run.of(args), Ema(judge, 0.998)
    start = run.resume(judge, optimizer, ema, contrast=contrast)
    for step in run.steps(start, args.steps):
        rate = min((step + 1) / 100, 1.0) * anneal(run.progress(step, args.steps), 0.01)
        set_learning_rate(optimizer, args.rate * rate)
        batch = sampler.draw(args.batch, step_rng(own_seed(args.seed), step))
        losses = training_losses(judge.train(), contrast, batch, device)
        descend(losses["loss"], optimizer, judge.parameters())
        ema.update(judge)
        if is_first() and (step + 1) % args.validate_every == 0:
            run.save(step + 1)
            run.log(step, **losses, **export(averaged(judge, ema), held_out, args, step + 1))
        start = step + 1
    return saved(args, export(averaged(judge, ema), held_out, args, start) if is_first() else None)


def export(judge: SyncJudge, held_out: list[SyncClip], args: Namespace, steps: int) -> dict[str, float]:
    """Write the weights with their figures on validation clips, and return these."""
    results = {name: round(value, 3) for name, value in validate(judge, held_out).items()}
    info = {name: f"{value:.3f}" for name, value in results.items()} | {"steps": str(steps)}
    save_checkpoint(args.save, halved(judge), "sync_judge", judge_config(judge.params), info)
    return results


def averaged(judge: SyncJudge, ema: Ema) -> SyncJudge:
    """A copy of the judge with the averaged weights."""
    copied = copy.deepcopy(judge)
    ema.copy_to(copied)
    return copied.eval()
