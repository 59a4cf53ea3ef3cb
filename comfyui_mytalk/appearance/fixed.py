"""The few pictures of a clip that tell most about all the others: the fixed references.

    m pictures   n trials   k chosen

The paper draws its three references at random (section 3.4.1), closed, half open and widest is what most would take.
Better ones are those from which the regression, knowing nothing else, errs least on all the rest: half a decibel
with the network on people it never saw (docs/experiments.md). Landmarks alone cannot tell them: how far a picture will
do for another depends on what is seen in it. Errors are large where mouths are wide open, so one is asked to show a
closed mouth: lips that meet, made of an open mouth, have a bright seam.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks.align import CROP_SIZE
from ..landmarks.sets import contour
from .regression import PictureRegression, kernel, kriging, noise_of

MARGIN = 14  # pixels of a 256 crop around the lips that are compared
CLOSED = 0.1  # of the range of openings: at least one picture shows a mouth as closed as that
ROUNDS = 2  # how often each of the chosen may be exchanged: a third round changes next to nothing


def telling_pictures(regression: PictureRegression, count: int) -> Tensor:
    """The `count` pictures `(k,)`, all where there are fewer, from which the regression comes nearest to all `(m,)`.

    By opening, and the first shows a closed mouth. Taken one after the other, each the best beside those before; then
    each is exchanged for a better one, as long as there is any, in `ROUNDS` rounds.
    """
    alike, features, opening = _likeness(regression), regression.features, regression.opening
    among, every = kernel(features, features), torch.arange(len(features))
    low, high = opening.aminmax()
    closed = opening <= low + CLOSED * (high - low)

    def best_beside(rest: list[int]) -> int:
        taken = torch.tensor(rest, dtype=torch.long)
        wanted = torch.ones_like(closed) if closed[taken].any() else closed
        left = every[wanted & ~torch.isin(every, taken)]
        trials = torch.cat([taken.expand(len(left), -1), left[:, None]], 1)
        return int(left[_errors(trials, alike, among, opening).argmin()])

    chosen: list[int] = []
    while len(chosen) < min(count, len(features)):
        chosen.append(best_beside(chosen))
    for _ in range(ROUNDS):
        for place in range(len(chosen)):
            chosen[place] = best_beside(chosen[:place] + chosen[place + 1 :])
    return torch.tensor(sorted(chosen, key=lambda i: float(opening[i])))


def _errors(trials: Tensor, alike: Tensor, among: Tensor, opening: Tensor) -> Tensor:
    """Mean squared error `(n,)` over all pictures of what the regression on each of `trials (n, k)` expects.

    `alike (m, m)` are the pictures' inner products, `among (m, m)` the covariances that their landmarks let expect.
    """
    wide = noise_of(opening[:, None], opening[trials][:, None])  # (n, m, k)
    pairs = among[trials[:, :, None], trials[:, None]]
    share = kriging(pairs[:, None], wide, among[:, trials].movedim(0, 1))
    crossed = (share * alike[:, trials].movedim(0, 1)).sum(2)
    own = torch.einsum("nmi,nij,nmj->nm", share, alike[trials[:, :, None], trials[:, None]], share)
    return (alike.diag() - 2 * crossed + own).mean(1)


def _likeness(regression: PictureRegression) -> Tensor:
    """Inner products `(m, m)` of the mouths on the base face, at half their size, less their mean."""
    size = regression.pictures.shape[-1]
    lips, margin = regression.base[contour("lips_outer_ring"), :2], MARGIN * size / CROP_SIZE
    left, top = (lips.amin(0) - margin).clamp_min(0).int().tolist()
    right, bottom = (lips.amax(0) + margin).int().tolist()
    mouths = F.avg_pool2d(regression.pictures[..., top:bottom, left:right].float(), 2).flatten(1).double()
    mouths = mouths - mouths.mean(0)
    return mouths @ mouths.T
