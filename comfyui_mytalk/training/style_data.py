"""What the style trainer draws from: stretches of clips, and other moments of the same person as their reference.

t motion frames   p frames of a piece   k pieces   b batch   d feature width
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..landmarks.sets import landmark_set, mirror_canonical
from ..motion.params import FPS
from .motion_data import Batch, Take

PIECE = 30  # motion frames
PIECES = 6  # at most, for each stretch
APART = FPS  # motion frames between a stretch and its reference
EVERY = 5  # motion frames between places where a piece may begin
LENGTHS, SHARES = (25, 72, 144, 250), (0.25, 0.3, 0.25, 0.2)  # of stretches; short ones leave room for references


class ReferenceBatch(NamedTuple):
    """Pieces seen and heard: features `(b, k, 2 p, d)`, lower faces about their rest `(b, k, p, 180, 2)`, which there
    are `(b, k)`."""

    features: Tensor
    lower: Tensor
    known: Tensor

    def to(self, device: torch.device) -> ReferenceBatch:
        return ReferenceBatch(*(x.to(device) for x in self))


class StyleSampler:
    """Draws stretches of one length, and for each of them one to six pieces of its person's other moments.

    Raises InputError when no take has any: all steps would be without a reference, and nothing be trained.
    """

    def __init__(self, takes: list[Take], tokens: int) -> None:
        self.tokens, self.people = tokens, defaultdict(list)
        for take in takes:
            self.people[take.identity].append(take)
        long = LENGTHS[0] + APART + PIECE
        if not any(len(take) >= long or self._others(take) for take in takes):
            raise InputError(
                f"no clip has another moment of its person to be shown: each is shorter than {long / FPS:g} s, and the "
                "person's only one; prepare longer clips, or several of a person"
            )
        self.groups = [[take for take in takes if len(take) >= length] for length in LENGTHS]
        self.weights = [np.array([len(take) for take in group], dtype=float) for group in self.groups]
        share = np.array(SHARES) * [len(group) > 0 for group in self.groups]
        self.share = share / share.sum()

    def draw(self, rng: np.random.Generator) -> tuple[Batch, ReferenceBatch]:
        """A batch of `tokens` motion frames, half of the stretches mirrored with their references."""
        index = rng.choice(len(LENGTHS), p=self.share)
        length, group, weight = LENGTHS[index], self.groups[index], self.weights[index]
        picks = rng.choice(len(group), size=max(1, self.tokens // length), p=weight / weight.sum())
        rows = [self._row(group[pick], length, rng) for pick in picks]
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        return Batch(*columns[:4]), ReferenceBatch(*columns[4:])

    def _row(self, take: Take, length: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        start = int(rng.integers(len(take) - length + 1))
        flip = mirror_canonical if rng.random() < 0.5 else (lambda x: x)
        landmarks = flip(take.landmarks[start : start + length])
        rest = flip(take.landmarks[take.rest[rng.integers(len(take.rest), size=8)]])
        mean = flip(take.landmarks.mean(0))[landmark_set("prefix")]
        features = take.features[2 * start : 2 * (start + length)].float()
        heard = torch.zeros(PIECES, 2 * PIECE, features.shape[1])
        lower = torch.zeros(PIECES, PIECE, len(landmark_set("generated")), 2)
        known = torch.zeros(PIECES, dtype=torch.bool)
        for i, (other, at) in enumerate(self._pieces(take, (start, start + length), rng)):
            heard[i] = other.features[2 * at : 2 * (at + PIECE)].float()
            shown, rests = other.landmarks[at : at + PIECE], other.landmarks[other.rest]
            shown, rests = (flip(x)[:, landmark_set("generated")] for x in (shown, rests))
            lower[i], known[i] = shown - rests.mean(0), True
        return landmarks, mean, features, rest, heard, lower, known

    def _pieces(self, take: Take, used: tuple[int, int], rng: np.random.Generator) -> list[tuple[Take, int]]:
        """Takes and first frames of pieces: of the same clip as far as it goes, then of the person's other clips."""
        wanted = int(rng.integers(1, PIECES + 1))
        found = [(take, at) for at in _places(take, used)]
        others = self._others(take)
        if len(found) < wanted and others:
            chosen = [others[i] for i in rng.integers(len(others), size=wanted)]
            found += [(other, int(rng.integers(len(other) - PIECE + 1))) for other in chosen]
        order = rng.permutation(len(found))[:wanted]
        return [found[i] for i in order]

    def _others(self, take: Take) -> list[Take]:
        """Takes of other clips of the same person that are as long as a piece."""
        return [other for other in self.people[take.identity] if other.name != take.name and len(other) >= PIECE]


def _places(take: Take, used: tuple[int, int]) -> list[int]:
    """First frames of the pieces of a take that lie apart from the frames `used`."""
    places = range(0, len(take) - PIECE + 1, EVERY)
    return [at for at in places if at + PIECE <= used[0] - APART or at >= used[1] + APART]
