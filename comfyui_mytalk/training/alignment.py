"""By how much is the speech of a filmed clip late? A mouth predicted from the speech is moved until it fits the film.

    f frames with a face   s speech features at 50 Hz   d width   c features of context

Films are a frame or two out of sync, some corpora four: a model trained on them learns a blur. The predictor is a ridge
regression, which cannot learn one clip's delay by heart, and which has never seen the clip's person.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..evaluation.metrics import correlation
from ..landmarks.canonical import mouth_opening
from .clips import PreparedClip

RATE = 50  # features per second
CONTEXT = (-8, -4, -2, 0, 2, 4, 8)  # features around a frame that the predictor hears
LAGS = np.arange(-10, 11)  # searched, features: a fifth of a second to either side
FOLDS = 4
ROUNDS = 3  # clips are moved and the predictor fitted again
PENALTY = 1.0  # of the regression, in mean squares of an input
HABIT = 0.012  # correlation that each feature of lag away from the corpus' own must gain
STEADY = 100  # frames from which on this is enough: many a lag fits the few movements of a shorter clip by chance
SURE = 0.4  # correlation below which a clip is taken to be as late as its corpus
LEAST_CLIPS = 5  # of a corpus that show a common lag
LEAST_DEVIATION = 0.05  # of the opening, centimetres: stiller mouths are not scaled up

Weights = np.ndarray  # (d * c,)


def at_positions(features: Tensor, positions: np.ndarray, context: tuple[int, ...] = CONTEXT) -> np.ndarray:
    """Features `(s, d)` around `positions (f,)`, in features and fractions of one, less their mean: `(f, d * c)`."""
    rows, last = [], len(features) - 1
    for offset in context:
        position = (positions + offset).clip(0, last)
        low = np.floor(position).astype(int).clip(0, max(last - 1, 0))
        share = torch.from_numpy(position - low)[:, None].float()
        rows.append(features[low] * (1 - share) + features[(low + 1).clip(max=last)] * share)
    stacked = torch.cat(rows, 1).numpy()
    return stacked - stacked.mean(0)


def positions_of(clip: PreparedClip) -> np.ndarray:
    """Where the frames with a face lie among the features `(f,)`."""
    return clip.times[clip.found].numpy() * RATE - 0.5


def opening_of(clip: PreparedClip) -> np.ndarray:
    """Mouth opening in the frames with a face, less its mean `(f,)`, centimetres."""
    opening = mouth_opening(clip.canonical)[clip.found].numpy()
    return opening - opening.mean()


def moments(x: np.ndarray, opening: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a clip adds to the regression; its opening is scaled to unit deviation, so that no corpus shouts."""
    return x.T @ x, x.T @ (opening / max(opening.std(), LEAST_DEVIATION))


def solve(gram: np.ndarray, moment: np.ndarray, penalty: float = PENALTY) -> Weights:
    """Ridge regression from summed moments."""
    return np.linalg.solve(gram + penalty * np.trace(gram) / len(gram) * np.eye(len(gram)), moment)


def fit_folds(clips: list[PreparedClip], features: list[Tensor], lags: np.ndarray) -> Callable[[str], Weights]:
    """Predictors by identity, each fitted on train clips of other people, moved by `lags` (features)."""
    people = sorted({clip.identity for clip in clips})
    fold = {person: index % FOLDS for index, person in enumerate(people)}
    sums: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for clip, feature, lag in zip(clips, features, lags, strict=True):
        if clip.metadata.get("split") == "train":
            part = moments(at_positions(feature, positions_of(clip) + lag), opening_of(clip))
            before = sums.get(fold[clip.identity], (0.0, 0.0))
            sums[fold[clip.identity]] = before[0] + part[0], before[1] + part[1]
    rest = [[part for other, part in sums.items() if other != index] or list(sums.values()) for index in range(FOLDS)]
    weights = [solve(sum(p[0] for p in parts), sum(p[1] for p in parts)) for parts in rest]
    return lambda person: weights[fold[person]]


def lag_curve(clip: PreparedClip, features: Tensor, weights: Weights) -> np.ndarray:
    """Correlation of the predicted with the filmed opening when the speech is taken to be late by each of `LAGS`."""
    places = np.arange(len(features))
    track, opening, positions = at_positions(features, places) @ weights, opening_of(clip), positions_of(clip)
    moved = [torch.from_numpy(np.interp(positions + lag, places, track)) for lag in LAGS]
    return np.array([correlation(series, torch.from_numpy(opening)) for series in moved])


def choose_lags(corpora: list[str], curves: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The lag of each clip, features, from `curves (clips, lags)`; unsure clips are as late as their corpus.

    `frames (clips,)` with a face, in each.
    """
    groups = defaultdict(list)
    for index, corpus in enumerate(corpora):
        groups[corpus].append(index)
    lags = np.zeros(len(corpora), dtype=int)
    for members in groups.values():
        common = LAGS[curves[members].mean(0).argmax()] if len(members) >= LEAST_CLIPS else 0
        habit = HABIT * np.maximum(1, STEADY / frames[members])[:, None]
        best = (curves[members] - habit * np.abs(LAGS - common)).argmax(1)
        sure = (curves[members].max(1) > SURE) & (best > 0) & (best < len(LAGS) - 1)
        lags[members] = np.where(sure, LAGS[best], common)
    return lags


def align_clips(
    clips: list[PreparedClip], encode: Callable[[Tensor], Tensor]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Seconds by which the speech of each clip is late, and its correlation before and after, by clip name.

    `encode` gives features `(s, d)` of speech `(n,)`. The form that the trainers' `--offsets` reads. Raises InputError
    when no clip is of the train split, which the predictor learns from.
    """
    if not any(clip.metadata.get("split") == "train" for clip in clips):
        raise InputError(
            f"none of {len(clips)} clips with speech and a face is of the train split: without one there is nothing "
            "to compare with; prepare some"
        )
    features, lags = [encode(clip.speech).float() for clip in clips], np.zeros(len(clips), dtype=int)
    corpora = [f"{clip.corpus} {clip.metadata.get('split')}" for clip in clips]
    frames = np.array([int(clip.found.sum()) for clip in clips])
    for _ in range(ROUNDS):
        weights = fit_folds(clips, features, lags)
        curves = np.stack(
            [lag_curve(clip, feature, weights(clip.identity)) for clip, feature in zip(clips, features, strict=True)]
        )
        lags = choose_lags(corpora, curves, frames)
    rows, zero = range(len(clips)), int(np.flatnonzero(LAGS == 0)[0])
    names = [clip.path.stem for clip in clips]
    gains = {names[i]: (float(curves[i, zero]), float(curves[i, zero + lags[i]])) for i in rows}
    return {names[i]: float(lags[i]) / RATE for i in rows}, gains
