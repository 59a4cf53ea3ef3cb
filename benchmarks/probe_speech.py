"""How much of the mouth is in speech features: a ridge regression to the mouth opening, fitted on the train split.

    python benchmarks/probe_speech.py PREPARED [--encoder speech_small] [--plot out.png]

Prints, for each corpus of the val split and as the mean of corpora, the mean correlation per clip (no lag) of the
probe's opening with the true one: for loudness alone and for the encoder and log-mel, each as one feature per frame and
with context, from clean speech, with white noise 10 dB below it (the probe is fitted on clean speech), and from another
clip's speech.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torchaudio
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from comfyui_mytalk.evaluation.metrics import correlation
from comfyui_mytalk.speech.features import HOP, load_speech_encoder, normalise_loudness
from comfyui_mytalk.training.alignment import (
    CONTEXT,
    at_positions,
    moments,
    opening_of,
    positions_of,
    solve,
)
from comfyui_mytalk.training.clips import PreparedClip, read_clips

CONTEXTS = {"frame": (0,), "context": CONTEXT}  # features, 20 ms each
PER_CORPUS = 25  # clips to fit on


def log_mel(speech: Tensor) -> Tensor:
    transform = torchaudio.transforms.MelSpectrogram(16000, n_fft=512, win_length=400, hop_length=HOP, n_mels=64)
    return (transform(normalise_loudness(speech)) + 1e-4).log()[:, :-1].T


def loudness(speech: Tensor) -> Tensor:
    frames = speech[: len(speech) // HOP * HOP].view(-1, HOP)
    return (frames.square().mean(1, keepdim=True) + 1e-6).log()


def at_frames(features: Tensor, clip: PreparedClip, context: tuple[int, ...]) -> np.ndarray:
    """Features with context at the frames with a face `(f, d * len(context))`, less their mean."""
    return at_positions(features, positions_of(clip), context)


def fit(clips: list[PreparedClip], features: list[Tensor], context: tuple[int, ...]) -> np.ndarray:
    """Ridge regression of the opening."""
    parts = [moments(at_frames(f, clip, context), opening_of(clip)) for clip, f in zip(clips, features, strict=True)]
    return solve(sum(gram for gram, _ in parts), sum(moment for _, moment in parts))


def per_corpus(clips: list[PreparedClip], values: list[float]) -> dict[str, float]:
    groups = defaultdict(list)
    for clip, value in zip(clips, values, strict=True):
        groups[clip.corpus].append(value)
    means = {corpus: float(np.mean(items)) for corpus, items in sorted(groups.items())}
    return means | {"mean of corpora": float(np.mean(list(means.values())))}


def plot(path: str, clips: list[PreparedClip], predicted: list[np.ndarray]) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(clips), figsize=(12, 2 * len(clips)), squeeze=False)
    for axis, clip, track in zip(axes[:, 0], clips, predicted, strict=True):
        true = opening_of(clip)
        axis.plot(clip.times[clip.found], true / true.std(), "k", label="true")
        axis.plot(clip.times[clip.found], track / track.std(), "r", label="probe")
        axis.set_title(
            f"{clip.path.stem}  r = {correlation(torch.from_numpy(track), torch.from_numpy(true)):.2f}", fontsize=8
        )
    figure.tight_layout()
    figure.savefig(path, dpi=70)


def some_of_each_corpus(clips: list[PreparedClip]) -> list[PreparedClip]:
    groups = defaultdict(list)
    for clip in clips:
        groups[clip.corpus].append(clip)
    return [clip for items in groups.values() for clip in items[:: -(-len(items) // PER_CORPUS)]]


def noisy(speech: Tensor, decibels: float) -> Tensor:
    noise = torch.randn(len(speech), generator=torch.Generator().manual_seed(0))
    return speech + noise * speech.square().mean().sqrt() * 10 ** (-decibels / 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips")
    parser.add_argument("--encoder", default="speech_small")
    parser.add_argument("--plot")
    args = parser.parse_args()
    train, val = some_of_each_corpus(read_clips(args.clips, "train")), read_clips(args.clips, "val")
    tracks = {"loudness": [at_frames(loudness(clip.speech), clip, (0,))[:, 0] for clip in val]}
    for name, extract in (("encoder", load_speech_encoder(args.encoder)), ("log-mel", log_mel)):
        fitted = [extract(clip.speech) for clip in tqdm(train, desc=name)]
        clean, noise = ([extract(s) for s in (c.speech for c in val)], [extract(noisy(c.speech, 10)) for c in val])
        half = (len(val) + 1) // 2
        for kind, context in CONTEXTS.items():
            weights = fit(train, fitted, context)
            probe = [
                (f"{name} {kind}", clean),
                (f"{name} {kind} 10 dB", noise),
                (f"{name} {kind} other", clean[half:] + clean[:half]),
            ]
            for title, features in probe:
                tracks[title] = [at_frames(f, clip, context) @ weights for f, clip in zip(features, val, strict=True)]
    table = {
        title: per_corpus(
            val,
            [
                correlation(torch.from_numpy(p), torch.from_numpy(opening_of(c)))
                for p, c in zip(track, val, strict=True)
            ],
        )
        for title, track in tracks.items()
    }
    for title, row in table.items():
        print(f"{title:28s}" + "  ".join(f"{corpus} {value:.3f}" for corpus, value in row.items()))
    if args.plot:
        chosen = list(range(0, len(val), max(len(val) // 10, 1)))
        plot(args.plot, [val[i] for i in chosen], [tracks["encoder frame"][i] for i in chosen])


if __name__ == "__main__":
    main()
