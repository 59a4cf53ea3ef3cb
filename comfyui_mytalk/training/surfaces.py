"""What drawn occluders are made of: where they are to be, their shapes, light on them.

    s side of the picture   n capsules

Lengths are shares of the picture's side, which is 19 cm on the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

CM = 1 / 19  # of the side


@dataclass
class Occluder:
    """A picture `(s, s, 3)` 0..1, and how much of it is there `(s, s)` 0..1."""

    picture: np.ndarray
    cover: np.ndarray


@dataclass
class Scene:
    """What occluders are placed by and painted with."""

    face: np.ndarray  # (s, s, 3) 0..1
    target: np.ndarray  # (2,) a point of the lower face that should be covered, x and y, shares of the side
    skin: np.ndarray  # (3,) the face's own colour
    texture: np.ndarray  # (s, s, 3) 0..1, of another picture


def grid(size: int) -> np.ndarray:
    """Pixel centres `(s, s, 2)` as shares of the side."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    return np.stack(np.meshgrid(at, at), -1)


def noise(size: int, smooth: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise `(s, s)` of deviation 1."""
    made = gaussian_filter(rng.standard_normal((size, size)).astype(np.float32), smooth, mode="wrap")
    return made / max(made.std(), 1e-6)


def capsules(at: np.ndarray, ends: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of points `at (s, s, 2)` to capsules `(n, s, s)`, negative inside, and radius there, likewise.

    `ends (n, 2, 2)`, `radius (n, 2)` at both ends.
    """
    start, along = ends[:, None, None, 0], (ends[:, 1] - ends[:, 0])[:, None, None]
    offset = at - start
    share = np.clip((offset * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9), 0, 1)
    wide = radius[:, 0, None, None] + share * (radius[:, 1] - radius[:, 0])[:, None, None]
    return np.linalg.norm(offset - share[..., None] * along, axis=-1) - wide, wide


def lit(height: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Light `(s, s)` about 1 on a surface of this height, shares of the side."""
    dy, dx = np.gradient(height * len(height))
    normal = np.stack([-dx, -dy, np.ones_like(dx)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = np.array([rng.normal(0, 0.6), rng.normal(-0.5, 0.5), 1.0])
    return 1 + strength * (normal @ (light / np.linalg.norm(light)) - 0.75)
