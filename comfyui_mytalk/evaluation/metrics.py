"""Figures of a mouth's movement against the original's.

    t motion frames at 25 fps   n points   s speech samples at 16 kHz

Series of one clip give one number; a figure that the clip cannot give (no closure, no silence) is not a number.
"""

from __future__ import annotations

from math import isnan, nan

import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks.sets import landmark_set
from ..motion.params import FPS

LIPS = ("lips_outer", "lips_outer_mid", "lips_inner_mid", "lips_inner")
MAX_LAG = 10  # frames searched to each side
STILL = 1e-3  # deviation, centimetres, below which a mouth does not move and correlates with nothing
CLOSED = 0.25  # cm between the inner lips: a closed mouth, with the detector's scatter
NEAR = 1  # frames by which a closure may be early or late
RATE = 16_000
SILENT = 0.03  # of the loud parts' level (-30 dB): below it nobody speaks
LOUD = 0.95  # quantile of the level that counts as loud
PAUSE = 0.24  # seconds that the level must stay low: stops inside words are shorter
AROUND = 0.12  # seconds at both ends of a pause in which a mouth may still close or already open
LEVEL_WINDOW = 0.04  # seconds
LEAST_SILENCE = 0.2  # seconds of silence below which its movement cannot be measured


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson correlation of two series `(t,)` in centimetres; 0 when either stands still."""
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    if min(x.norm(), y.norm()) < STILL * len(x) ** 0.5:
        return 0.0
    return (x @ y / (x.norm() * y.norm())).item()


def best_lag(series: Tensor, original: Tensor, max_lag: int = MAX_LAG) -> tuple[int, float]:
    """The lag at which `series (t,)` follows `original (t,)` best, and the correlation there.

    In frames; positive means late: `series[i + lag]` goes with `original[i]`. The smaller lag wins a tie.
    """
    length, best = len(series), (0, correlation(series, original))
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        if length - abs(lag) < 2:
            continue
        late, early = series[max(0, lag) : length + min(0, lag)], original[max(0, -lag) : length - max(0, lag)]
        value = correlation(late, early)
        best = (lag, value) if value > best[1] + 1e-9 else best
    return best


def articulation_ratio(series: Tensor, original: Tensor) -> float:
    """Standard deviation of the mouth opening `(t,)` over the original's: 0 frozen, 1 as lively."""
    return (series.std() / original.std().clamp_min(1e-9)).item()


def lip_points() -> Tensor:
    """Indices of the 80 lip points."""
    return torch.cat([landmark_set(name) for name in LIPS])


def lip_distance(landmarks: Tensor, original: Tensor) -> float:
    """Mean distance of the 80 lip points (LMD) between pose-free landmarks `(t, 478, ≥ 2)`, centimetres.

    In the face's plane: the depth of a mesh fitted to one picture is a guess.
    """
    lips = lip_points()
    return (landmarks[:, lips, :2] - original[:, lips, :2]).norm(dim=-1).mean().item()


def jerk(landmarks: Tensor) -> float:
    """Mean size of the third difference of the lip points of `(t, 478, ≥ 2)`, centimetres per frame cubed."""
    return landmarks[:, lip_points(), :2].diff(n=3, dim=0).norm(dim=-1).mean().item() if len(landmarks) > 3 else nan


def jerk_ratio(landmarks: Tensor, original: Tensor) -> float:
    """Jerk of the lips over the original's: below 1 smoother, above 1 more restless."""
    return jerk(landmarks) / max(jerk(original), 1e-9)


def closures(opening: Tensor) -> list[tuple[int, int]]:
    """First and last frame of every run of `opening (t,)` below `CLOSED` that follows an open mouth."""
    closed = (opening < CLOSED).int()
    edges = torch.cat([closed, closed.new_zeros(1)]).diff()
    starts, stops = (edges == 1).nonzero()[:, 0] + 1, (edges == -1).nonzero()[:, 0]
    stops = stops[len(stops) - len(starts) :]  # a mouth that is closed from the first frame did not close
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def closure_scores(opening: Tensor, original: Tensor) -> dict[str, float]:
    """Precision, recall and F1 of the lips' closures (bilabials and pauses), each within one frame of the other's.

    Both `(t,)`, centimetres. Precision is not a number when nothing closes, recall and F1 when the original never does.
    """
    made, true = closures(opening), closures(original)
    recall, precision = met(true, made), met(made, true)
    f1 = 0.0 if isnan(precision) or precision + recall == 0 else 2 * precision * recall / (precision + recall)
    return {"precision": precision, "recall": recall, "f1": nan if not true else f1}


def met(events: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
    """Share of `events` that one of `others` overlaps, or misses by at most `NEAR` frames."""
    if not events:
        return nan
    hits = [any(b <= last + NEAR and e >= first - NEAR for b, e in others) for first, last in events]
    return sum(hits) / len(hits)


def speech_level(speech: Tensor, frames: int) -> Tensor:
    """Root mean square of `speech (s,)` around the middle of each of `frames` motion frames: `(frames,)`."""
    window = int(LEVEL_WINDOW * RATE)
    level = F.avg_pool1d(speech.float().square()[None, None], window, 1, window // 2)[0, 0].sqrt()
    return level[((torch.arange(frames) + 0.5) * RATE / FPS).long().clamp(max=len(level) - 1)]


def silence(level: Tensor) -> Tensor:
    """Which frames lie within a pause of the speech, its ends left out, by its `level (t,)`: `(t,)` bool."""
    quiet = level <= SILENT * level.quantile(LOUD)
    edges = torch.cat([quiet.new_zeros(1), quiet, quiet.new_zeros(1)]).int().diff()
    result = torch.zeros(len(level), dtype=torch.bool)
    around = round(AROUND * FPS)
    for start, stop in zip((edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist(), strict=True):
        if stop - start >= PAUSE * FPS:
            result[start + around * (start > 0) : stop - around * (stop < len(level))] = True
    return result


def silent_movement(opening: Tensor, silent: Tensor) -> float:
    """Speed of the mouth opening `(t,)` where `silent (t,)`, over its speed elsewhere; 0 is a still mouth in pauses.

    Not a number when there is less than `LEAST_SILENCE` of either, or when the mouth never moves.
    """
    speed = opening.diff().abs()
    quiet = silent[1:] & silent[:-1]
    speaking = speed[~quiet].mean() if (~quiet).any() else speed.new_tensor(nan)
    if min(quiet.sum(), (~quiet).sum()) < LEAST_SILENCE * FPS or not speaking > STILL:
        return nan
    return (speed[quiet].mean() / speaking).item()
