"""A hand in front of a face, drawn at random: palm, fingers, wrist and at times a sleeve, in flat perspective.

s side of the picture   n segments: three for each finger, then the palm, then the arm
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from .surfaces import CM, Occluder, Scene, capsules, grid, lit, noise

PALM = (-2.4, -0.8, 0.8, 2.4)  # cm across, of the bones between wrist and knuckles
KNUCKLES = (-3.0, -1.0, 1.0, 3.0)
FINGERS = (6.8, 7.8, 7.3, 5.8)  # cm long
Segment = tuple[np.ndarray, np.ndarray, float, float]  # start, end, radius at both


@dataclass
class Hand:
    """Capsules, shares of the side: `ends (n, 2, 2)`, `radius (n, 2)` at both; the first `fingers` are fingers'."""

    ends: np.ndarray
    radius: np.ndarray
    fingers: int
    forward: np.ndarray  # (2,) from the wrist to the knuckles
    unit: float  # a centimetre


def draw_hand(scene: Scene, rng: np.random.Generator) -> Occluder:
    """A hand of which something lies over the scene's target."""
    return _painted(scene, _posed(scene, rng), rng)


def _posed(scene: Scene, rng: np.random.Generator) -> Hand:
    """Fingers spread, bent, short as if turned away, or folded in; from any side."""
    unit = CM * np.exp(rng.normal(0, 0.15))
    heading, side = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
    forward = np.array([np.cos(heading), np.sin(heading)])
    across = side * np.array([-forward[1], forward[0]])
    spread, bend, short = abs(rng.normal(0.08, 0.12)), rng.normal(0, 0.25), rng.choice([1.0, rng.uniform(0.15, 1)])
    parts: list[Segment] = []
    thin = np.exp(rng.normal(0, 0.1))
    for index, (place, length) in enumerate(zip(KNUCKLES, FINGERS, strict=True)):
        if rng.random() < 0.12:
            continue  # hidden, or folded in
        knuckle = unit * (forward * (4.5 - 0.25 * abs(place)) + across * place)
        turn = heading + side * spread * (index - 1.5) + rng.normal(0, 0.05)
        own = short if rng.random() < 0.75 else short * rng.uniform(0.2, 1)
        parts += _finger(knuckle, turn, unit * length * own, unit * 0.88 * thin, bend + rng.normal(0, 0.08), rng)
    if rng.random() < 0.8:  # the thumb
        turn = heading - side * rng.uniform(0.2, 1.3)
        parts += _finger(unit * (forward * 0.5 - across * 3.2), turn, unit * 6.0, unit * thin, side * 0.2, rng)
    fingers = len(parts)
    for place in PALM:
        wrist, knuckle = across * place * 0.8 - forward * 3.5, forward * 3.6 + across * place
        parts.append((unit * wrist, unit * knuckle, 1.9 * unit, 1.5 * unit))
    parts.append((-forward * unit * 3.5, -forward * unit * 26, unit * 2.7, unit * 3.6))
    ends, radius = np.array([part[:2] for part in parts]), np.array([part[2:] for part in parts])
    anchor = rng.integers(max(fingers, 1)) if rng.random() < 0.8 else rng.integers(len(parts) - 1)
    middle = ends[anchor, 0] + rng.random() * (ends[anchor, 1] - ends[anchor, 0])
    return Hand(ends - middle + scene.target, radius, fingers, forward, unit)


def _finger(
    base: np.ndarray, direction: float, length: float, radius: float, bend: float, rng: np.random.Generator
) -> list[Segment]:
    """Three segments from the knuckle on, each turned by `bend` against the one before."""
    segments: list[Segment] = []
    at = base
    for share, narrow in ((0.45, 0.98), (0.3, 0.92), (0.25, 0.85)):
        end = at + length * share * np.array([np.cos(direction), np.sin(direction)])
        segments.append((at, end, radius, radius * narrow))
        at, radius, direction = end, radius * narrow, direction + bend + rng.normal(0, 0.06)
    return segments


def _painted(scene: Scene, hand: Hand, rng: np.random.Generator) -> Occluder:
    """Round fingers in one light, darker where they meet, with nails and a sleeve at times."""
    size, unit = len(scene.face), hand.unit
    distance, wide = capsules(grid(size), hand.ends, hand.radius)
    raised = rng.uniform(-0.3, 0.3, len(hand.ends))[:, None, None] * unit  # one finger lies in front of another
    height = np.sqrt(np.clip(wide**2 - (distance + wide).clip(0) ** 2, 0, None)) + raised
    height = np.where(distance < 0, height, -1)
    top = height.argmax(0)
    near = np.take_along_axis(distance, top[None], 0)[0]
    crease = np.clip(-near / (0.25 * unit), 0, 1) ** 0.5
    surface = gaussian_filter(np.clip(height.max(0), 0, None), 0.7)
    light = lit(surface, rng, rng.uniform(0.2, 0.9)) * (1 - rng.uniform(0.1, 0.5) * (1 - crease))
    colour = _skin(scene, rng) * (1 + 0.05 * noise(size, 0.05 * size, rng))[..., None]
    colour = colour * (1 + rng.uniform(0, 0.04) * noise(size, 0.8, rng))[..., None]
    if rng.random() < 0.3:
        colour = _with_nails(colour, hand, top, rng)
    if rng.random() < 0.35:  # a sleeve
        start = rng.uniform(1, 8) * unit
        along = (grid(size) - (hand.ends[-1, 0] - hand.forward * start)) @ -hand.forward
        colour = np.where(((along > 0) & (distance[-1] < 0.02))[..., None], scene.texture, colour)
    cover = np.clip(0.5 - distance.min(0) * size, 0, 1)
    return Occluder(np.clip(colour * light[..., None], 0, 1).astype(np.float32), cover)


def _skin(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A hand's colour: the face's own, lighter or darker, redder or paler; at times anybody's, or a glove's."""
    draw = rng.random()
    if draw < 0.75:
        colour = scene.skin * np.exp(rng.normal(0, 0.16)) * np.exp(rng.normal(0, 0.05, 3))
    elif draw < 0.92:
        colour = np.array([0.78, 0.58, 0.48]) ** rng.uniform(0.6, 2.2) * np.exp(rng.normal(0, 0.06, 3))
    else:
        colour = rng.random(3)
    return np.clip(colour, 0.02, 1)


def _with_nails(colour: np.ndarray, hand: Hand, top: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Painted or bare nails on the last segment of each finger, where that is the `top (s, s)` one."""
    size = len(colour)
    for index in range(2, hand.fingers, 3):
        at = hand.ends[index, 0] + 0.75 * (hand.ends[index, 1] - hand.ends[index, 0])
        nail = np.linalg.norm(grid(size) - at, axis=-1) < hand.radius[index, 1] * 0.65
        tint = rng.random(3) if rng.random() < 0.4 else colour[size // 2, size // 2] * np.array([1.12, 1.1, 1.12])
        colour = np.where((nail & (top == index))[..., None], tint, colour)
    return colour
