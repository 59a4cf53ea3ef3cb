"""How much of the mouth is in speech features: a ridge regression to the mouth opening, fitted on the train split.

    python benchmarks/probe_speech.py PREPARED [--encoder speech_small] [--plot out.png]

Prints, for each corpus of the val split and as the mean of corpora, the mean correlation per clip (no lag) of the
probe's opening with the true one: for the encoder, for log-mel with the same probe, for loudness alone, and for the
encoder given another clip's speech.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchaudio
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from comfyui_mytalk.speech.features import HOP, load_speech_encoder, normalise_loudness
from comfyui_mytalk.training.clips import PreparedClip, read_clips
from comfyui_mytalk.training.speech import mouth_opening

CONTEXT = (-8, -4, -2, 0, 2, 4, 8)  # features, 20 ms each
Extractor = Callable[[Tensor], Tensor]


def log_mel(speech: Tensor) -> Tensor:
    transform = torchaudio.transforms.MelSpectrogram(16000, n_fft=512, win_length=400, hop_length=HOP, n_mels=64)
    return (transform(normalise_loudness(speech)) + 1e-4).log()[:, :-1].T


def loudness(speech: Tensor) -> Tensor:
    frames = speech[: len(speech) // HOP * HOP].view(-1, HOP)
    return (frames.square().mean(1, keepdim=True) + 1e-6).log()


def at_frames(features: Tensor, clip: PreparedClip) -> np.ndarray:
    """Features with context, interpolated to the frames with a face `(f, d * len(CONTEXT))`, less their mean."""
    centre = clip.times[clip.found].numpy() * 50 - 0.5
    rows = []
    for offset in CONTEXT:
        position = (centre + offset).clip(0, len(features) - 1)
        low = np.floor(position).astype(int).clip(0, max(len(features) - 2, 0))
        share = torch.from_numpy(position - low)[:, None].float()
        rows.append(features[low] * (1 - share) + features[(low + 1).clip(max=len(features) - 1)] * share)
    stacked = torch.cat(rows, 1).numpy()
    return stacked - stacked.mean(0)


def target(clip: PreparedClip) -> np.ndarray:
    opening = mouth_opening(clip)[clip.found.numpy()]
    return opening - opening.mean()


def fit(clips: list[PreparedClip], extract: Extractor, penalty: float = 1e-2) -> np.ndarray:
    """Ridge regression of the opening; every clip's deviation is scaled to one, so that no corpus shouts."""
    gram = moment = 0.0
    for clip in tqdm(clips, desc="fit"):
        x, y = at_frames(extract(clip.speech), clip), target(clip)
        gram, moment = gram + x.T @ x, moment + x.T @ (y / max(y.std(), 0.05))
    return np.linalg.solve(gram + penalty * np.trace(gram) / len(gram) * np.eye(len(gram)), moment)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.nan_to_num(np.corrcoef(a, b)[0, 1]))


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
        true = target(clip)
        axis.plot(clip.times[clip.found], true / true.std(), "k", label="true")
        axis.plot(clip.times[clip.found], track / track.std(), "r", label="probe")
        axis.set_title(f"{clip.path.stem}  r = {correlation(track, true):.2f}", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips")
    parser.add_argument("--encoder", default="speech_small")
    parser.add_argument("--plot")
    args = parser.parse_args()
    encoder = load_speech_encoder(args.encoder)
    train, val = read_clips(args.clips, "train"), read_clips(args.clips, "val")
    table = {}
    for name, extract in (("encoder", encoder), ("log-mel", log_mel)):
        weights = fit(train, extract)
        predicted = [at_frames(extract(clip.speech), clip) @ weights for clip in val]
        table[name] = per_corpus(val, [correlation(p, target(c)) for p, c in zip(predicted, val, strict=True)])
        if name == "encoder":
            other = [at_frames(extract(val[i - 7].speech), clip) @ weights for i, clip in enumerate(val)]
            table["other speech"] = per_corpus(
                val, [correlation(p, target(c)) for p, c in zip(other, val, strict=True)]
            )
            if args.plot:
                chosen = list(range(0, len(val), max(len(val) // 10, 1)))
                plot(args.plot, [val[i] for i in chosen], [predicted[i] for i in chosen])
    energy = [correlation(at_frames(loudness(clip.speech), clip)[:, len(CONTEXT) // 2], target(clip)) for clip in val]
    table["loudness"] = per_corpus(val, energy)
    for corpus in table["encoder"]:
        print(f"{corpus:20s}" + "".join(f"{name} {row[corpus]:6.3f}   " for name, row in table.items()))


if __name__ == "__main__":
    main()
