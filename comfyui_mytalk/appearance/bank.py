"""The pictures of a clip that the network may be shown, and which of them it is shown for each frame.

f frames   b batch   k references   m pictures in the bank   s crop side in pixels
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..landmarks.canonical import mouth_opening
from .fine import Fine
from .mask import lip_region
from .params import AppearanceParams
from .references import reference_features, retrieve_references
from .regression import PictureRegression
from .render import References


@dataclass(frozen=True)
class Schedule:
    """References of each frame: `index (f, k)` into the bank, and, where the first of all references is the regression,
    the `share (f, m)` that each picture of the bank has in it."""

    index: Tensor
    share: Tensor | None = None

    def __getitem__(self, frames: slice | Tensor) -> Schedule:
        return Schedule(self.index[frames], None if self.share is None else self.share[frames])


@dataclass(frozen=True)
class ReferenceBank:
    """Reference crops of a clip `(m, 3, s, s)` uint8 with landmarks in crop pixels and mouth openings."""

    crops: Tensor
    points: Tensor  # (m, 478, 2)
    opening: Tensor  # (m,) cm
    frames: Tensor  # (m,) where they came from
    full: Tensor | None = None  # (m, 3, F, F) uint8: the crops at the film's own resolution, where that is higher
    people: Tensor | None = None  # (m,) int: who is shown, where it is not the same person everywhere
    first: Tensor | None = None  # (478, 2), with `people`: the face of the clip's first frame, by which it is known

    @cached_property
    def regression(self) -> PictureRegression:
        found = PictureRegression.of(self.crops, self.points)
        return replace(found, pictures=found.pictures.float())  # once, not for every few frames

    def schedule(self, points: Tensor, p: AppearanceParams, people: Tensor | None = None) -> Schedule:
        """References for faces with landmarks `points (f, 478, 2)` in crop pixels, as the network of `p` learnt them.

        Give it the whole clip at once: which pictures are near is decided on a path that switches rarely. With
        `people (f,)` none shows somebody else.
        """
        count, same = p.references - p.regression, None if people is None else people[:, None] == self.people
        if same is not None:
            same = same | ~same.any(1, keepdim=True)  # frames without a face, of nobody whom the bank knows
        found = torch.empty(len(points), 0, dtype=torch.long)
        if count:
            found = retrieve_references(reference_features(self.points), reference_features(points), count, usable=same)
        if p.regression:  # nearest first
            return Schedule(found, self.regression.weights(points, same))
        return Schedule(found.gather(1, self.opening[found].argsort(dim=1, stable=True)))

    @property
    def size(self) -> int:
        """Side in pixels of the crops that are painted from this bank."""
        return (self.crops if self.full is None else self.full).shape[-1]

    def fine(self, schedule: Schedule) -> Fine | None:
        """What the film shows of each frame's nearest mouth beyond the network's resolution, if it does.

        Only where the first index is the nearest picture, as it is for networks with a regression.
        """
        if self.full is None or schedule.share is None:
            return None
        nearest = schedule.index[:, 0]
        return Fine(self.full[nearest].float().div_(255), self.points[nearest])

    def gather(self, schedule: Schedule) -> References:
        """The references as the network takes them."""
        index, share = schedule.index, schedule.share
        images, points = self.crops[index].float().div_(255), self.points[index]
        if share is not None:
            images = torch.cat([self.regression.picture(share)[:, None], images], 1)
            points = torch.cat([self.regression.base.expand(len(index), 1, -1, -1), points], 1)
        regions = lip_region(points.flatten(0, 1), self.crops.shape[-1]).unflatten(0, points.shape[:2])
        nearest = index if share is None or index.shape[1] else share.argmax(1, keepdim=True)
        return References(images, points, regions, self._openings(nearest[:, 0]))

    def _openings(self, nearest: Tensor) -> Tensor:
        """The least and the widest opening, pixels, of all pictures of the person whom each of `nearest (b,)` shows."""
        opening, people = mouth_opening(self.points), self.people
        if people is None:
            return torch.stack(opening.aminmax()).expand(len(nearest), -1)
        return torch.stack([torch.stack(opening[people == who].aminmax()) for who in people[nearest].tolist()])


def joined(banks: list[ReferenceBank], people: list[int], first: Tensor) -> ReferenceBank:
    """One bank of several people's, `people` naming each; without any larger crops unless all have them.

    `first (478, 2)`: the landmarks of their clip's first frame, in pixels of its crop.
    """
    whole = [torch.cat([getattr(bank, name) for bank in banks]) for name in ("crops", "points", "opening", "frames")]
    sizes = {None if bank.full is None else bank.full.shape[-1] for bank in banks}
    full = torch.cat([bank.full for bank in banks]) if len(sizes) == 1 and None not in sizes else None
    shown = torch.cat([torch.full((len(bank.frames),), who) for bank, who in zip(banks, people, strict=True)])
    return ReferenceBank(*whole, full, shown, first)
