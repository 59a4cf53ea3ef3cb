"""Train a speech encoder of our own: phones of synthetic speech and the mouths of real clips, from one set of features.

    b crops   n samples at 16 kHz   s features at 50 Hz   k mouth targets (principal components, then the opening)

The network is a small wav2vec 2.0 (arXiv 2006.11477) trained with labels instead of contrastively: frame-wise
cross-entropy over classes of phones that look alike, which a synthesiser labels exactly in many languages, and
regression of pose-free mouth landmarks of filmed speech, which says what labels leave out (loudness, effort,
coarticulation).
"""

from __future__ import annotations

import copy
import json
import math
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints import save_checkpoint
from ..devices import pick_device
from ..errors import InputError
from ..evaluation.metrics import correlation
from ..speech.features import OWN_WINDOW, SpeechFeatures
from ..speech.mel import MelEncoder
from .clips import check_offsets, read_clips, read_offsets
from .loop import Ema, add_run_arguments, descend, saved, seed_everything, step_rng, trainer
from .processes import is_first, own_seed
from .run import Run
from .schedule import anneal, set_learning_rate
from .speech_data import (
    COMPONENTS,
    IGNORED,
    MouthClip,
    SpeechBatches,
    SpeechTraining,
    known_offsets,
    mouth_clips,
    mouth_space,
)
from .synthetic_speech import CLASS_NAMES, SyntheticSpeech, read_shards

IMPORTANCE = torch.tensor([0.25, 0.15, 0.1, 0.07, 0.05, 0.04, 0.02, 0.02, 0.3])  # components, then the opening


class SpeechTrainee(nn.Module):
    """The encoder with the linear heads that only training needs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MelEncoder()
        width = self.encoder.config.hidden_size
        self.phones = nn.Linear(width, len(CLASS_NAMES))
        self.mouth = nn.Linear(width, COMPONENTS + 1)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel `(b, 2 s - 1, bands)` -> phones `(b, s, c)` and mouth `(b, s, k)`."""
        hidden = self.encoder.encode_mel(mel)
        return self.phones(hidden), self.mouth(hidden)


def mouth_loss(predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Huber plus one minus correlation, on each crop's motion about its own mean; `(b, s, k)`, `(b, s)`."""
    weight = known[..., None].float()
    total = weight.sum(1, keepdim=True).clamp(min=1.0)
    predicted = (predicted - (predicted * weight).sum(1, keepdim=True) / total) * weight
    target = (target - (target * weight).sum(1, keepdim=True) / total) * weight
    huber = (F.smooth_l1_loss(predicted, target, reduction="none", beta=0.5).sum(1) / total[:, 0])[known.any(1)]
    deviation = (target.square().sum(1) / total[:, 0]).sqrt()
    cosine = F.cosine_similarity(predicted, target, dim=1, eps=1e-4)
    share = (IMPORTANCE.to(target) * deviation.clamp(max=1.0))[known.any(1)]
    return (huber * IMPORTANCE.to(target)).sum(1).mean() + ((1 - cosine[known.any(1)]) * share).sum(1).mean()


def training_loss(model: SpeechTrainee, batch: tuple[Tensor, ...], options: SpeechTraining) -> dict[str, Tensor]:
    mel, phones, mouth, known = batch
    with torch.autocast(mel.device.type, torch.bfloat16):
        predicted, motion = model(mel)
    losses = {"phones": F.cross_entropy(predicted.float().flatten(0, 1), phones.flatten(), ignore_index=IGNORED)}
    losses["mouth"] = mouth_loss(motion.float(), mouth, known) if known.any() else losses["phones"].new_zeros(())
    losses["loss"] = losses["phones"] + options.mouth_weight * losses["mouth"]
    return losses


@torch.inference_mode()
def phone_accuracy(model: SpeechTrainee, shards: list[SyntheticSpeech], count: int = 40) -> float:
    """Share of 20 ms cells whose class is right, over `count` utterances evenly spaced."""
    utterances = [(shard, index) for shard in shards for index in range(len(shard))]
    right = total = 0
    features = SpeechFeatures(model.encoder, "trainee", "", **OWN_WINDOW)
    for shard, index in utterances[:: max(len(utterances) // count, 1)]:
        audio, labels = shard.utterance(index)
        heard = features(torch.from_numpy(audio)).to(model.phones.weight)
        predicted = model.phones(heard)[: len(labels)].argmax(1).cpu().numpy()
        right, total = right + int((predicted == labels).sum()), total + len(labels)
    return right / max(total, 1)


@torch.inference_mode()
def opening_correlation(model: SpeechTrainee, clips: list[MouthClip]) -> dict[str, float]:
    """Mean over each corpus' clips of the correlation of predicted and true opening, no lag; and `mean` of corpora.

    0 for a mouth that stands still.
    """
    features, result = SpeechFeatures(model.encoder, "trainee", "", **OWN_WINDOW), defaultdict(list)
    for clip in clips:
        predicted = model.mouth(features(clip.clip.speech).to(model.mouth.weight))[:, -1].cpu().numpy()
        track = np.interp(clip.times, (np.arange(len(predicted)) + 0.5) / 50, predicted)
        result[clip.clip.corpus].append(correlation(torch.from_numpy(track), torch.from_numpy(clip.opening)))
    figures = {corpus: float(np.mean(values)) for corpus, values in sorted(result.items())}
    return figures | {"mean": float(np.mean(list(figures.values())))}


def averaged_copy(model: SpeechTrainee, ema: Ema) -> SpeechTrainee:
    averaged = copy.deepcopy(model)
    ema.copy_to(averaged)
    return averaged.eval()


def validate(model: SpeechTrainee, ema: Ema, real: list[MouthClip], shards: dict[str, list[SyntheticSpeech]]) -> dict:
    averaged = averaged_copy(model, ema)
    figures = {f"accuracy_{name}": phone_accuracy(averaged, shard) for name, shard in shards.items()}
    return figures | {f"opening_{name}": value for name, value in opening_correlation(averaged, real).items()}


def score_of(figures: dict[str, Any]) -> float:
    """What decides between the weights of two checks: figures of `validate`, numbers or as a log holds them."""
    return float(figures["accuracy_voices"]) + float(figures["opening_mean"])


def best_score(rows: list[dict[str, Any]]) -> float:
    """The best score among the rows of a run's log, most of which hold no check; minus infinity without one."""
    scores = (score_of(row) for row in rows if row.get("accuracy_voices"))
    return max((score for score in scores if not math.isnan(score)), default=-math.inf)


def export(path: str | Path, encoder: MelEncoder, info: dict[str, str], dtype: torch.dtype = torch.float16) -> None:
    """Write the encoder, without training's heads, as a checkpoint for `load_speech_encoder`."""
    config = {
        "name": Path(path).stem,
        "dim": encoder.config.hidden_size,
        "encoder": encoder.describe(),
    } | OWN_WINDOW
    save_checkpoint(
        path, {name: tensor.to(dtype) for name, tensor in encoder.state_dict().items()}, "speech", config, info
    )


def train_speech(
    clips: str | Path,
    synthetic: str | Path,
    run: Run,
    steps: int,
    seed: int = 0,
    options: SpeechTraining | None = None,
    output: str | Path | None = None,
    command: str = "",
    offsets: dict[str, float] | None = None,
    phones: dict[str, list[int]] | None = None,
    device: str | torch.device = "cpu",
) -> None:
    """Train (or go on with) a run; the best averaged weights on validation are written to `output`.

    A resumed run goes by what its log says of earlier checks: worse weights do not take the place of better ones.
    `offsets` (seconds by clip name, added to the face's times) mend clips out of sync; default what the metadata says.
    `phones`: classes at 50 Hz of real clips by name, where a recogniser has labelled them.

    Raises InputError when there is no data, before any step.
    """
    options = options or SpeechTraining()
    seed_everything(seed)
    train, val = read_clips(clips, "train"), read_clips(clips, "val")
    space = mouth_space(train)
    check_offsets(offsets, train)
    offsets = known_offsets([*train, *val]) | (offsets or {})
    batches = SpeechBatches(mouth_clips(train, space, offsets, phones), read_shards(synthetic, "train"), options)
    real = mouth_clips(val, space, offsets)
    if not real:
        raise InputError(f"no val clip in {clips} has sound: there is nothing to choose the best weights by")
    shards = {name: read_shards(synthetic, name) for name in ("voices", "languages")}
    model = SpeechTrainee().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    ema = Ema(model, 0.998)
    start = done = run.resume(model, optimizer, ema)
    best = best_score(run.rows) if output is not None and Path(output).is_file() else -math.inf

    def check(done: int) -> None:
        nonlocal best
        if not is_first():
            return
        figures = validate(model, ema, real, shards)
        run.log(done - 1, **figures)
        if output is not None and score_of(figures) > best:
            best = score_of(figures)
            info = {name: f"{value:.3f}" for name, value in figures.items()} | {"steps": str(done), "command": command}
            export(output, averaged_copy(model, ema).encoder, info)
        run.save(done)  # last: what a stop before it left undone is done again

    for step in run.steps(start, steps):
        rate = min((step + 1) / options.warmup, 1.0) * anneal(run.progress(step, steps), 0.02)
        set_learning_rate(optimizer, options.rate * rate)
        batch = tuple(tensor.to(device) for tensor in batches.draw(step_rng(own_seed(seed), step)))
        losses = training_loss(model.train(), batch, options)
        descend(losses["loss"], optimizer, model.parameters())
        ema.update(model)
        done = step + 1
        if done % 20 == 0:
            run.log(step, **{name: loss.detach() for name, loss in losses.items()})
        if done % options.validate_every == 0:
            check(done)
    if done > start and done % options.validate_every:
        check(done)


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `train speech`."""
    add_run_arguments(parser, "runs/speech", 3000)
    parser.add_argument("--data", required=True, help="folder of prepared clips")
    parser.add_argument("--synthetic", required=True, help="folder of shards from scripts/synthesise_speech.py")
    add = parser.add_argument
    add("--offsets", help="JSON of seconds by clip name: how much the speech comes late (default: what clips say)")
    add("--phones", help="JSON of phone classes by clip name, from scripts/label_phones.py (default: none known)")


def read_phones(path: str) -> dict[str, list[int]]:
    """Classes at 50 Hz by clip name; raises InputError when the file holds no such thing."""
    try:
        phones = json.loads(Path(path).read_text(encoding="utf-8"))
        return {name: [int(label) for label in labels] for name, labels in phones.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read the phones {path} ({error!r}): expected what `python -m scripts.label_phones` writes"
        ) from error


@trainer(lambda _: "speech_own")
def main(args: Namespace) -> str:
    offsets = read_offsets(args.offsets)
    phones = read_phones(args.phones) if args.phones else None
    device, command = pick_device(args.device), f"train speech --steps {args.steps} --seed {args.seed}"
    train_speech(
        args.data,
        args.synthetic,
        Run.of(args),
        args.steps,
        args.seed,
        output=args.save,
        command=command,
        offsets=offsets,
        phones=phones,
        device=device,
    )
    return saved(args)
