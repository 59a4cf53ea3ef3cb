"""From figures per clip to what may be said of them: medians, spread, and confidence intervals by bootstrap.

d draws   c clips
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

DRAWS = 1000
CONFIDENCE = 0.95
DIGITS = 6  # more would differ from machine to machine


class Bootstrap:
    """Resamples the people of a set of clips: clips of one person are no independent evidence.

    People are drawn with replacement within each corpus, always the same way, so that two runs and two methods share
    their draws.
    """

    def __init__(self, corpora: Sequence[str], people: Sequence[str], seed: int = 0) -> None:
        draw, self.who = np.random.default_rng(seed), list(zip(corpora, people, strict=True))
        self.corpora = sorted(set(corpora))
        self.index = [
            resample([i for i, c in enumerate(corpora) if c == corpus], people, draw) for corpus in self.corpora
        ]

    def intervals(self, values: np.ndarray) -> dict[str, list[float]]:
        """95 % intervals of the pooled median and of the mean of the corpora's medians; `values (c,)` may be nan.

        Empty where the known ones are of one person in each corpus: all draws are alike, which is not certainty.
        """
        known = {who for who, value in zip(self.who, values, strict=True) if not np.isnan(value)}
        if len(known) == len({corpus for corpus, _ in known}):
            return {"median": [], "mean_of_corpora": []}
        padded = np.append(values, np.nan)  # row -1
        drawn = [padded[index] for index in self.index]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a draw without any known figure is left out
            pooled = np.nanmedian(np.concatenate(drawn, 1), 1)
            mean = np.nanmean([np.nanmedian(part, 1) for part in drawn], 0)
        return {"median": interval(pooled), "mean_of_corpora": interval(mean)}


def resample(clips: list[int], people: Sequence[str], draw: np.random.Generator) -> np.ndarray:
    """Clip numbers of each draw of the people of `clips`, padded with -1: `(d, at most c)`."""
    names = sorted({people[i] for i in clips})
    groups = [[i for i in clips if people[i] == name] for name in names]
    rows = [[i for k in draw.integers(0, len(groups), len(groups)) for i in groups[k]] for _ in range(DRAWS)]
    longest = max(map(len, rows))
    return np.array([row + [-1] * (longest - len(row)) for row in rows])


def interval(draws: np.ndarray) -> list[float]:
    tail = 50 * (1 - CONFIDENCE)
    return [rounded(bound) for bound in np.nanpercentile(draws, [tail, 100 - tail])]


def summarise(per_clip: dict[str, float], clips: Sequence[str], corpora: Sequence[str], bootstrap: Bootstrap) -> Any:
    """One metric of one method: `{median, iqr, mean, mean_of_corpora, ci, per_corpus, per_clip}`.

    `per_clip` may lack clips of which the figure cannot be had.
    """
    values = np.array([per_clip.get(clip, np.nan) for clip in clips])
    per_corpus = {}
    for corpus in sorted(set(corpora)):
        inside = values[np.array([c == corpus for c in corpora])]
        if not np.isnan(inside).all():
            per_corpus[corpus] = rounded(np.nanmedian(inside))
    return {
        "median": rounded(np.nanmedian(values)),
        "iqr": [rounded(v) for v in np.nanpercentile(values, [25, 75])],
        "mean": rounded(np.nanmean(values)),
        "mean_of_corpora": rounded(np.mean(list(per_corpus.values()))),
        "ci": bootstrap.intervals(values),
        "per_corpus": per_corpus,
        "per_clip": {clip: rounded(value) for clip, value in per_clip.items()},
    }


def pooled(value: float) -> dict[str, Any]:
    """A figure of all clips together, which has neither spread nor interval, in the same form."""
    same = dict.fromkeys(("median", "mean", "mean_of_corpora"), rounded(value))
    return same | {"iqr": [], "ci": {"median": [], "mean_of_corpora": []}, "per_corpus": {}, "per_clip": {}}


def rounded(value: float) -> float:
    return round(float(value), DIGITS)
