"""Reading a drawn mouth back: landmarks from a landmark picture that somebody edited or drew.

    f frames   n lower-face points (180)   m points along lines   k movements   c candidates   q dots of ink

The appearance network is shown the mouth twice: as a picture, and as references warped to the landmarks. Where an
edited picture contradicts the landmarks, the warped references win. So the landmarks are fitted to the lines first:
coherent point drift (Myronenko and Song 2010) of lips to red and jaw to green ink, annealed from coarse to fine, over
the clip's own mouth shapes and smooth local movements of either lip.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .align import apply_transform, invert
from .canonical import Pose, from_canonical, to_canonical
from .drawing import JAW, LINE_WIDTH, LIPS, draw_lines, lines
from .mouth_shapes import MouthShapes
from .sets import landmark_set

GRID = 2  # crop pixels per cell in which ink is gathered
INK = 0.2  # of a channel's strongest ink: fainter is noise
EDITED = 0.03  # of the red ink's energy: pictures that differ by more show another mouth
NO_INK = 0.1  # brightness below which a channel is empty
SIGMAS = torch.logspace(0.6, 0.0, 30)  # crop pixels: how far lines look for their ink, round after round
STRAY = 0.05  # ink that belongs to no line
PRIOR = 3.0  # of a movement of one standard deviation, against one point of a line that is sigma off
JAW_SHARE = 0.3  # of the jaw in the choice of where to start
MOST_INK = 3000  # cells: more red is a photograph, not lines
LOST = 12.0  # pixels between lines and ink after the fit: nothing like a mouth
NO_MOUTH = (
    "got a landmark picture whose red lines are no mouth on this face; edit the pictures of Render Landmark Image"
)


class Ink(NamedTuple):
    """Dots `(q, 2)` in crop pixels, and how strong each is `(q,)`."""

    at: Tensor
    strength: Tensor


class DrawingReader:
    """Reads landmark pictures of one person, whose pose-free landmarks `shapes (f, 478, 3)` the clip shows."""

    def __init__(self, shapes: Tensor) -> None:
        self.shapes = shapes

    @cached_property
    def mouths(self) -> MouthShapes:
        return MouthShapes.of(self.shapes)

    def read(self, drawings: Tensor, points: Tensor, pose: Pose, transform: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks `(f, 478, 3)` like `points`, with the mouths of `drawings (f, 3, s, s)`; which differ `(f,)` bool.

        Pictures that show `points` as they are change nothing, nor do those without red ink. `transform (f, 2, 3)`
        places the crops that the pictures are of, `s` is `align.CROP_SIZE`. Frames do not depend on each other.
        Raises InputError for red that is not a mouth.
        """
        crop = apply_transform(invert(transform), points[..., :2])
        edited = torch.tensor([differs(d, c) for d, c in zip(drawings, crop, strict=True)], dtype=torch.bool)
        index = landmark_set("generated")
        points = points.clone() if edited.any() else points
        for i in edited.nonzero()[:, 0].tolist():
            here = slice(i, i + 1)
            lower = to_canonical(points[here], pose[here])[0, index]
            found = self.fit(lower, [ink_of(drawings[i, c]) for c in (LIPS, JAW)], pose[here], transform[here])
            points[i, index] = from_canonical(found[None], pose[here])[0]
        return points, edited

    def fit(self, lower: Tensor, inks: list[Ink], pose: Pose, transform: Tensor) -> Tensor:
        """The lower face `(n, 3)`, centimetres, whose lips and jaw lie on `inks`; `lower` is one of the candidates.

        Raises InputError when they are no lips.
        """
        if len(inks[0].at) > MOST_INK:
            raise InputError(NO_MOUTH)
        weights, channel = along_lines()

        def place(shapes: Tensor) -> Tensor:  # (c, n, 3) -> (c, m, 2), affine
            pixels = from_canonical(shapes.flatten(0, 1)[None], pose)[..., :2]
            return weights @ apply_transform(invert(transform), pixels)[0].view(len(shapes), -1, 2)

        candidates = torch.cat([lower[None], self.mouths.starts])
        start = candidates[distance(place(candidates), channel, inks).argmin()]
        origin = place(start[None])[0]
        moves = place(start + self.mouths.moves) - origin
        shares = drift(origin, moves, channel, inks)
        found = origin + torch.einsum("k,kmd->md", shares, moves)
        if distance(found[None], channel, inks[:1])[0] > LOST:
            raise InputError(NO_MOUTH)
        return start + torch.einsum("k,knd->nd", shares, self.mouths.moves)


def drift(origin: Tensor, moves: Tensor, channel: Tensor, inks: list[Ink]) -> Tensor:
    """How far to go `(k,)` along each of `moves (k, m, 2)` from `origin (m, 2)` for lines to lie on their ink."""
    shares = origin.new_zeros(len(moves))
    for sigma in SIGMAS.tolist():
        now = origin + torch.einsum("k,kmd->md", shares, moves)
        normal, right = PRIOR * torch.eye(len(moves)), torch.zeros(len(moves))
        for c, ink in enumerate(inks):
            mine = channel == c
            if not len(ink.at):
                continue
            near = torch.exp(torch.cdist(now[mine], ink.at).square() / (-2 * sigma**2))
            owned = near / (near.sum(0) + STRAY) * (ink.strength * (mine.sum() / ink.strength.sum()))
            mass, jacobian = owned.sum(1)[:, None], moves[:, mine] / sigma
            normal += (jacobian * mass).flatten(1) @ jacobian.flatten(1).T
            right += jacobian.flatten(1) @ ((owned @ ink.at - mass * origin[mine]) / sigma).flatten()
        shares = torch.linalg.solve(normal, right)
    return shares


def distance(drawn: Tensor, channel: Tensor, inks: list[Ink]) -> Tensor:
    """Mean distance `(c,)` of the lines `drawn (c, m, 2)` from the ink and of the ink from the lines, pixels."""
    total = drawn.new_zeros(len(drawn))
    for c, ink in enumerate(inks):
        if len(ink.at):
            apart = torch.cdist(drawn[:, channel == c], ink.at.expand(len(drawn), -1, -1))
            from_ink = (apart.amin(1) * ink.strength).sum(1) / ink.strength.sum()
            total += (from_ink + apart.amin(2).mean(1)) * (1.0 if c == LIPS else JAW_SHARE)
    return total


def differs(drawing: Tensor, points: Tensor) -> bool:
    """Whether the red lines of `drawing (3, s, s)` are others than those of landmarks `points (478, 2)`.

    Line width, brightness, blur and scaling do not count, nor do movements below about three pixels.
    """
    red, own = drawing[LIPS], draw_lines(points[None], drawing.shape[1:], LINE_WIDTH, only=LIPS)[0, LIPS]
    if red.amax() < NO_INK or torch.equal(red, own):
        return False
    red, own = blurred(red), blurred(own)
    gain = (own * red).sum() / red.square().sum()
    return bool((own - gain * red).square().sum() > EDITED * own.square().sum())


def blurred(channel: Tensor) -> Tensor:
    """`channel (s, s)` at half its size, averaged over three pixels each way, twice."""
    half = F.avg_pool2d(channel[None], 2)
    return F.avg_pool2d(F.avg_pool2d(half, 3, 1, 1), 3, 1, 1)


def ink_of(channel: Tensor) -> Ink:
    """Where `channel (s, s)` is inked."""
    cells = F.avg_pool2d(channel[None], GRID)[0]
    rows, columns = (cells > max(INK * cells.amax().item(), NO_INK / 2)).nonzero().unbind(1)
    return Ink((torch.stack([columns, rows], -1) + 0.5) * GRID, cells[rows, columns])


@cache
@torch.inference_mode(False)
def along_lines() -> tuple[Tensor, Tensor]:
    """Two points on every line of lips and jaw: weights `(m, n)` of the lower face's points, and channels `(m,)`."""
    index, (ends, channel) = landmark_set("generated"), lines()
    kept = torch.isin(channel, torch.tensor([LIPS, JAW])) & torch.isin(ends, index).all(1)
    first, second = (F.one_hot(ends[kept, side], 478).float()[:, index] for side in (0, 1))
    return torch.cat([first, (first + second) / 2]), channel[kept].repeat(2)
