"""How well motion follows speech: paired generation on clips with their own speech, measured on the landmarks.

t motion frames   p generated points (180)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ..evaluation.metrics import (
    articulation_ratio,
    closure_scores,
    correlation,
    jerk_ratio,
    lip_distance,
    silent_movement,
)
from ..landmarks.canonical import mouth_opening
from ..landmarks.sets import contour, landmark_set
from ..motion.generate import MotionOptions, generate_motion
from ..motion.identity import IdentityExtractor
from ..motion.model import MotionModel
from .held_out import spread
from .motion_data import Take

MOST_TAKES = 200  # of a validation: hundreds of hours hold thousands, and each is generated


def full_face(take: Take, lower: Tensor) -> Tensor:
    """The take's landmarks `(t, 478, 2)` with another lower face `(t, p, 2)`."""
    landmarks = take.landmarks.clone()
    landmarks[:, landmark_set("generated")] = lower
    return landmarks


def generate_take(
    model: MotionModel,
    person: nn.Module,
    take: Take,
    options: MotionOptions,
    features: Tensor | None = None,
    upper: Tensor | None = None,
) -> Tensor:
    """The take's face `(t, 478, 2)` speaking its own speech or other `features`, under its own `upper` or another."""
    rest = take.landmarks[take.rest]
    features = take.features.float() if features is None else features
    upper = take.landmarks[:, landmark_set("prefix")] if upper is None else upper
    with torch.inference_mode():
        tokens = person(rest.to(person.mean))
    lower = generate_motion(model, features, upper, tokens, rest[:, landmark_set("generated")], options)
    return full_face(take, lower)


def fit_features(features: Tensor, frames: int) -> Tensor:
    """Another take's features `(s, d)`, repeated or cut to `2 * frames`."""
    repeats = -(-2 * frames // len(features))
    return features.float().repeat(repeats, 1)[: 2 * frames]


def measure(landmarks: Tensor, take: Take, silent: Tensor | None = None) -> dict[str, float]:
    """Figures of one generated face `(t, 478, 2)` against the take; see `evaluation/metrics.py`.

    corr: of mouth opening at lag 0. articulation: ratio of the openings' deviations. jerk: of the lips, ratio. lmd:
    mean distance of the lip points, cm. closure: F1 of the lips' closures, and its recall. silence: movement where
    the speech is `silent (t,)`, over movement elsewhere.
    """
    opening, truth = mouth_opening(landmarks), mouth_opening(take.landmarks)
    closures = closure_scores(opening, truth)
    figures = {
        "corr": correlation(opening, truth),
        "articulation": articulation_ratio(opening, truth),
        "jerk": jerk_ratio(landmarks, take.landmarks),
        "lmd": lip_distance(landmarks, take.landmarks),
        "closure": closures["f1"],
        "closure_recall": closures["recall"],
    }
    return figures if silent is None else figures | {"silence": silent_movement(opening, silent)}


def per_corpus(rows: list[tuple[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Median of each figure over the clips of each corpus, and `mean`: the mean of the corpora."""
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for corpus, figures in rows:
        groups[corpus].append(figures)
    names = rows[0][1]
    table = {c: {n: known(np.median, [r[n] for r in group]) for n in names} for c, group in sorted(groups.items())}
    table["mean"] = {n: known(np.mean, [table[corpus][n] for corpus in groups]) for n in names}
    return table


def known(summary: Callable[[list[float]], float], values: list[float]) -> float:
    """`summary` of the values that are numbers; nan when none is."""
    numbers = [value for value in values if not math.isnan(value)]
    return float(summary(numbers)) if numbers else math.nan


def validate(
    model: MotionModel, person: nn.Module, takes: list[Take], extractor: IdentityExtractor, steps: int = 10
) -> dict[str, float]:
    """Mean-of-corpora figures of one paired sample for each take, under the upper face of other moments (played
    backwards): the true one gives much of the mouth away, and in use belongs to other words. Of `MOST_TAKES` at most.

    `person` gives the denoiser's tokens, `extractor` the embeddings whose cosine is `same_person`.
    """
    options, rows = MotionOptions(steps=steps), []
    for take in spread(takes, MOST_TAKES):
        foreign = take.landmarks[:, landmark_set("prefix")].flip(0)
        made = generate_take(model, person, take, options, upper=foreign)
        rows.append((take.corpus, measure(made, take) | {"same_person": same_person(extractor, made, take)}))
    return per_corpus(rows)["mean"]


@torch.no_grad()
def same_person(extractor: IdentityExtractor, made: Tensor, take: Take) -> float:
    """Mean cosine between the embeddings of the generated frames `(t, 478, 2)` and of the resting ones."""
    rest = take.landmarks[take.rest].to(extractor.mean)
    reference = torch.nn.functional.normalize(extractor(rest).mean(0), dim=-1)
    return (extractor(made.to(rest)) @ reference).mean().item()


def save_sheet(path: Path, model: MotionModel, person: nn.Module, takes: list[Take], steps: int = 10) -> None:
    """A picture: for each take, mouth opening over time (truth black, generated red) and the lips at eight moments."""
    rows = []
    for take in takes:
        made = generate_take(model, person, take, MotionOptions(steps=steps))
        rows.append(np.concatenate([curves(take, made), lips(take, made)], 0))
    Image.fromarray(np.concatenate(rows, 0)).save(path)


def curves(take: Take, made: Tensor, width: int = 1000, height: int = 120, frames: int = 150) -> np.ndarray:
    """Mouth opening of truth and generation over the first `frames` frames; 2.5 cm is the full height."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for landmarks, colour in ((take.landmarks, "black"), (made, "red")):
        opening = mouth_opening(landmarks)[:frames].tolist()
        points = [(i * width / frames, height - 4 - value / 2.5 * height) for i, value in enumerate(opening)]
        draw.line(points, fill=colour, width=2)
    draw.text((4, 2), f"{take.name} ({take.corpus})", fill="blue")
    return np.asarray(image)


def lips(take: Take, made: Tensor, width: int = 1000, count: int = 8) -> np.ndarray:
    """Lips, jaw and chin of truth (black) and generation (red) at `count` moments of the first 150 frames."""
    side = width // count
    image = Image.new("RGB", (width, side), "white")
    draw = ImageDraw.Draw(image)
    rings = [contour("lips_outer_ring"), contour("lips_inner_ring")]
    moments = torch.linspace(5, min(len(take), 150) - 1, count).long().tolist()
    for column, frame in enumerate(moments):
        for landmarks, colour in ((take.landmarks, "black"), (made, "red")):
            xy = landmarks[frame] * landmarks.new_tensor([1, -1]) * side / 10
            xy = xy + xy.new_tensor([side * (column + 0.5), -0.1 * side])
            for ring in rings:
                draw.line([tuple(p) for p in xy[torch.cat([ring, ring[:1]])].tolist()], fill=colour)
            for x, y in xy[landmark_set("jaw")].tolist():
                draw.point((x, y), fill=colour)
    return np.asarray(image)
