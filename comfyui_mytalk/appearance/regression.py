"""What a mouth with given landmarks looks like, told by all pictures of a clip at once. Not in the paper.

    f frames   b batch   m pictures   c features   s crop side in pixels

Gaussian process regression of the picture on the landmarks, as ordinary kriging: every picture is moved onto one base
face, where a pixel means the same in all of them, and the wanted face is a weighted sum of them that is moved on to
its own landmarks. The weights depend on landmarks alone, add up to 1 and change smoothly, so the result does not
flicker as a single retrieved picture does; it is as near to the truth as a network was that saw three pictures, but
a little soft. The network gets it as its first reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ..landmarks.align import CROP_HALF
from ..landmarks.canonical import canonical_face, canonical_triangles, mouth_opening
from ..landmarks.sets import landmark_set
from .references import reference_features
from .warp import align_references, cross

REACH = 1.0  # cm (root mean square of the lips) over which pictures resemble each other: Matern 3/2 kernel
NOISE = 0.1  # of the variance: what landmarks do not tell
STRETCH = 0.1  # how much noisier a picture is whose mouth has to be stretched open, per (wanted opening / its own)^2
LEAST_OPENING = 0.05  # cm
JAW = ("chin", "jaw", "perioral")
JAW_SHARE = 0.5
BASE_OPENING = 0.85  # quantile of the clip's openings: its mouth has an inside to keep teeth in
UNUSUAL = 0.04  # of the crop's side: a base face this far from the clip's median is as bad as another mouth altogether
HIDDEN = (0.05, 0.15)  # share of the lower face that a base face may hide, and that is as bad as another mouth
LARGE, SMALLER = 0.8, 1 / 3  # quantile of a triangle's areas in a clip; smaller than this share of it, it is hidden
NOSE_TIP = 1
EXCLUDED = 1e6  # noise of a picture that may not be used
BATCH = 64  # frames whose equations are solved at once, and pictures moved at once


@dataclass(frozen=True)
class PictureRegression:
    """Pictures of one person, moved onto one base face, and the landmarks they were made with."""

    pictures: Tensor  # (m, 3, s, s) 0..255, uint8 or float
    base: Tensor  # (478, 2) crop pixels
    features: Tensor  # (m, c) cm, float64
    opening: Tensor  # (m,) cm, float64

    @classmethod
    def of(cls, crops: Tensor, points: Tensor) -> PictureRegression:
        """From crops `(m, 3, s, s)` uint8 and their landmarks `(m, 478, 2)` in crop pixels; one is enough."""
        size = crops.shape[-1]
        base = points[_base(points, size)]
        moved = []
        for picture, own in zip(crops.split(BATCH // 8), points.split(BATCH // 8), strict=True):
            aligned = align_references(picture[:, None].float().div_(255), own[:, None], base.expand(len(own), -1, -1))
            moved.append((aligned[:, 0] * 255).round().byte())
        return cls(torch.cat(moved), base, *_describe(points, size))

    @classmethod
    def blind(cls, points: Tensor, size: int) -> PictureRegression:
        """Without the pictures, for those who keep them elsewhere: only `base` and `weights` are of use."""
        return cls(points.new_empty(0, 3, size, size), points[_base(points, size)], *_describe(points, size))

    def weights(self, points: Tensor, usable: Tensor | None = None) -> Tensor:
        """Share of each picture `(f, m)` in faces with landmarks `points (f, 478, 2)`, adding up to 1.

        `usable (f, m)` bool leaves pictures out. Shares may be negative: shapes between others are extrapolated.
        """
        features, opening = _describe(points, self.pictures.shape[-1])
        among, found = kernel(self.features, self.features), []
        for start in range(0, len(points), BATCH):
            part = slice(start, start + BATCH)
            noise = noise_of(opening[part, None], self.opening)
            if usable is not None:
                noise = torch.where(usable[part], noise, EXCLUDED)
            found.append(kriging(among, noise, kernel(self.features, features[part]).T))
        return torch.cat(found).float()

    def picture(self, weights: Tensor) -> Tensor:
        """The weighted sums `(b, 3, s, s)` float 0..1 of the pictures, on the base face; `weights (b, m)`."""
        mixed = weights @ self.pictures.flatten(1).to(weights.dtype)
        return mixed.div_(255).clamp_(0, 1).unflatten(1, self.pictures.shape[1:])


def _base(points: Tensor, size: int) -> int:
    """Which of the faces `(m, 478, 2)` all pictures are moved onto: with an open mouth, in a pose like most others.

    A head that is turned away hides a cheek, which no picture would then have: moved on to a face in front, what is
    behind the head came out as stripes.
    """
    opening = mouth_opening(points)
    low, wanted, high = opening.quantile(opening.new_tensor([0.05, BASE_OPENING, 0.95]))
    mouth = (opening - wanted).abs() / (high - low).clamp_min(1.0)
    unusual = (points - points.median(0).values).norm(dim=-1).mean(1) / (UNUSUAL * size)
    hidden = (hidden_share(points) - HIDDEN[0]).clamp_min(0) / (HIDDEN[1] - HIDDEN[0])
    return int((mouth + unusual + hidden).argmin())


def hidden_share(points: Tensor) -> Tensor:
    """Share of the lower face that each of the faces `(m, 478, 2)` shows much smaller than others do, `(m,)`."""
    corners = points[:, _lower_triangles().to(points.device), :2]
    edges = corners[:, :, 1:] - corners[:, :, :1]
    area = cross(edges[:, :, 1], edges[:, :, 0]).clamp_min(0)  # 0: turned away
    large = area.quantile(LARGE, 0)
    return ((area < SMALLER * large) * large).sum(1) / large.sum().clamp_min(1e-6)


@cache
def _lower_triangles() -> Tensor:
    """The mesh's triangles below the tip of the nose `(n, 3)`."""
    triangles, height = canonical_triangles(), canonical_face()[:, 1]
    return triangles[height[triangles].mean(1) < height[NOSE_TIP]]


def _describe(points: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What pictures are compared by `(f, c)`: lips, and with less weight the jaw, in cm; and openings `(f,)` in cm."""
    unit = 2 * CROP_HALF / size
    jaw = points[:, torch.cat([landmark_set(name) for name in JAW]), :2]
    lips, jaw = reference_features(points, size), jaw.flatten(1) * (JAW_SHARE * unit / jaw.shape[1] ** 0.5)
    return torch.cat([lips, jaw], 1).double(), mouth_opening(points).double() * unit


def kriging(among: Tensor, noise: Tensor, wanted: Tensor) -> Tensor:
    """Shares `(..., m)`, adding up to 1, of pictures with covariances `among (..., m, m)` and `noise (..., m)` in one
    whose covariances with them are `wanted (..., m)`."""
    both = torch.stack([wanted, torch.ones_like(wanted)], -1)
    share, unit = torch.linalg.solve(among + torch.diag_embed(noise), both).unbind(-1)
    return share + unit * ((1 - share.sum(-1)) / unit.sum(-1))[..., None]


def noise_of(wanted: Tensor, own: Tensor) -> Tensor:
    """The noise of pictures whose mouths open `own` cm where `wanted` cm are; shapes broadcast."""
    return NOISE * (1 + STRETCH * (wanted / (own + LEAST_OPENING)).square())


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """Matern 3/2 covariance `(m, n)` of features `(m, c)` and `(n, c)`."""
    distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") * (3**0.5 / REACH)
    return (1 + distance) * (-distance).exp()
