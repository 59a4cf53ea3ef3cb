"""How much of the phones is in speech features: a linear probe on one frame of them, for the encoder and for log-mel.

    python benchmarks/phone_figures.py --synthetic data/speech --clips data/prepared --phones data/phones.json

Synthetic speech (`scripts/synthesise_speech.py`): share of 20 ms frames whose class of phones is right, fitted on the
train shards, for held-out voices and languages. Real clips (`scripts/label_phones.py`, the train split, which the
encoder that ships has never heard): area under the curve of bilabials against open vowels, fitted on half of the people
and measured on the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from probe_speech import log_mel
from torch import Tensor

from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.synthetic_speech import CLASS_NAMES, read_shards

PENALTY = 1e-3  # of the regression, in mean squares of an input
BILABIAL = [CLASS_NAMES.index("bilabial")]
OPEN = [CLASS_NAMES.index("open"), CLASS_NAMES.index("open back")]
Labelled = tuple[Tensor, Tensor]  # features (s, d) and classes (s,)


def fit(pairs: list[tuple[Tensor, Tensor]]) -> Callable[[Tensor], Tensor]:
    """Ridge regression from features `(s, d)` to targets `(s, k)`, each feature of unit deviation."""
    x, y = (torch.cat(column).double() for column in zip(*pairs, strict=True))
    mean, scale, middle = x.mean(0), x.std(0).clamp(min=1e-6), y.mean(0)
    x = (x - mean) / scale
    gram = x.T @ x + PENALTY * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(gram, x.T @ (y - middle))
    return lambda features: ((features.double() - mean) / scale) @ weights + middle


def utterances(folder: Path, split: str, extract: Callable[[Tensor], Tensor], count: int) -> list[Labelled]:
    """Features and classes of about `count` utterances, evenly spaced."""
    found = [(shard, index) for shard in read_shards(folder, split) for index in range(len(shard))]
    pairs = []
    for shard, index in found[:: max(1, len(found) // count)]:
        audio, labels = shard.utterance(index)
        features = extract(torch.from_numpy(audio))
        size = min(len(features), len(labels))
        pairs.append((features[:size], torch.from_numpy(labels)[:size]))
    return pairs


def accuracy(probe: Callable[[Tensor], Tensor], pairs: list[Labelled]) -> float:
    right = [probe(features).argmax(1) == labels for features, labels in pairs]
    return torch.cat(right).double().mean().item()


def area(scores: Tensor, positive: Tensor) -> float:
    """Chance that a positive scores higher than a negative."""
    rank = scores.argsort().argsort().double()
    count = positive.sum()
    return ((rank[positive].sum() - count * (count - 1) / 2) / (count * (~positive).sum())).item()


def real_pairs(folder: str, phones: dict[str, list[int]], extract: Callable[[Tensor], Tensor]) -> dict[bool, list]:
    """Features and +1 (bilabial) or -1 (open) of the frames that are either, by half of the people."""
    clips = [clip for clip in read_clips(folder, "train") if clip.path.stem in phones]
    half = {person: index % 2 == 0 for index, person in enumerate(sorted({clip.identity for clip in clips}))}
    halves: dict[bool, list] = {True: [], False: []}
    for clip in clips:
        features, labels = extract(clip.speech), torch.tensor(phones[clip.path.stem])
        size = min(len(features), len(labels))
        bilabial, wide = (torch.isin(labels[:size], torch.tensor(group)) for group in (BILABIAL, OPEN))
        keep = bilabial | wide
        halves[half[clip.identity]].append((features[:size][keep], bilabial[keep, None].double() * 2 - 1))
    return halves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthetic", type=Path, required=True)
    parser.add_argument("--clips", required=True, help="folder of prepared clips")
    parser.add_argument("--phones", type=Path, required=True)
    parser.add_argument("--speech-encoder", default="speech_small", help="name, folder or file")
    args = parser.parse_args()
    phones = json.loads(args.phones.read_text())
    for name, extract in ((args.speech_encoder, load_speech_encoder(args.speech_encoder)), ("log-mel", log_mel)):
        known = utterances(args.synthetic, "train", extract, 400)
        probe = fit([(x, torch.nn.functional.one_hot(labels, len(CLASS_NAMES))) for x, labels in known])
        shares = [accuracy(probe, utterances(args.synthetic, split, extract, 100)) for split in ("voices", "languages")]
        halves = real_pairs(args.clips, phones, extract)
        areas = []
        for fitted, tested in ((True, False), (False, True)):
            scores, truth = fit(halves[fitted]), halves[tested]
            both = [torch.cat(column) for column in zip(*[(scores(x), y > 0) for x, y in truth], strict=True)]
            areas.append(area(both[0][:, 0], both[1][:, 0]))
        print(
            f"{name}: {shares[0]:.2f} of frames right for held-out voices, {shares[1]:.2f} for held-out languages; "
            f"bilabial against open vowel, area {sum(areas) / 2:.3f}"
        )


if __name__ == "__main__":
    main()
