"""Things in front of a face, drawn at random: hands, microphones, cups, strands of hair, writing. For training alone.

    s side of the picture

Nothing here is meant to be admired: a network that has to tell all of these from faces learns what a face is.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from .drawn_hand import draw_hand
from .surfaces import CM, Occluder, Scene, capsules, grid, lit, noise

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789,.!?'-"


def draw_occluder(scene: Scene, rng: np.random.Generator) -> Occluder:
    """One occluder of a random kind over or near the scene's target."""
    kinds, odds = (draw_hand, _microphone, _object, _cloth, _strands, _writing), (0.42, 0.16, 0.2, 0.07, 0.05, 0.1)
    return kinds[rng.choice(len(kinds), p=odds)](scene, rng)


def blend(face: np.ndarray, occluder: Occluder, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The occluder in front of the face `(s, s, 3)`, with the shadow it throws, and its cover as the camera sees it."""
    size, cover = len(face), occluder.cover
    picture = occluder.picture
    if rng.random() < 0.6:
        away = rng.normal(0, 0.025 * size, 2).astype(int)
        shadow = gaussian_filter(np.roll(cover, away, (0, 1)), size * rng.uniform(0.008, 0.05))
        face = face * (1 - rng.uniform(0.1, 0.6) * shadow[..., None])
    softness = rng.uniform(0.2, 1.3) if rng.random() < 0.85 else rng.uniform(1.5, 4.0)
    sigma = (softness, softness)
    if rng.random() < 0.2:  # it moves
        sigma = (
            (softness, softness + rng.uniform(1, 4)) if rng.random() < 0.5 else (softness + rng.uniform(1, 4), softness)
        )
    cover = gaussian_filter(cover, sigma)
    picture = gaussian_filter(picture, (*(0.6 * s for s in sigma), 0))
    return face * (1 - cover[..., None]) + picture * cover[..., None], cover


def _microphone(scene: Scene, rng: np.random.Generator) -> Occluder:
    """A ball or a capsule of foam or wire on a stick, dark mostly."""
    size, unit = len(scene.face), CM
    heading = rng.uniform(0, np.pi) if rng.random() < 0.8 else rng.uniform(0, 2 * np.pi)  # from below, mostly
    away = np.array([np.cos(heading), np.sin(heading)])
    radius, length = unit * rng.uniform(1.2, 4.5), unit * rng.choice([0.0, rng.uniform(1, 6)])
    start = scene.target - away * rng.uniform(0, 1) * radius
    ends = np.array([[start, start + away * (length + 1e-4)], [start, start + away]])
    stick = unit * rng.uniform(0.3, 1.6)
    distance, _ = capsules(grid(size), ends, np.array([[radius, radius * rng.uniform(0.6, 1)], [stick, stick]]))
    if rng.random() < 0.3:  # fur
        distance[0] += 0.01 * noise(size, 1.0, rng)
    cover = np.clip(0.5 - distance.min(0) * size, 0, 1)
    height = np.sqrt(np.clip(radius**2 - (distance[0] + radius).clip(0) ** 2, 0, None))
    colour = np.full(3, rng.uniform(0.02, 0.35)) if rng.random() < 0.7 else rng.random(3)
    picture = (
        np.broadcast_to(colour, (size, size, 3))
        * (1 + rng.uniform(0, 0.3) * noise(size, rng.uniform(0.5, 1.2), rng))[..., None]
    )
    picture = picture * lit(height, rng, rng.uniform(0.1, 1.0))[..., None]
    if rng.random() < 0.2:
        rim = (np.abs(distance[0] + rng.uniform(0.2, 0.8) * radius) < 0.004) | (distance[0] > 0)
        picture = np.where(rim[..., None], rng.random(3), picture)
    return Occluder(np.clip(picture, 0, 1).astype(np.float32), cover)


def _painted(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A surface `(s, s, 3)`: one colour under uneven light, or cut from another picture."""
    size = len(scene.face)
    if rng.random() < 0.45:
        side = rng.integers(size // 4, size)
        y, x = rng.integers(0, size - side + 1, 2)
        piece = Image.fromarray((scene.texture[y : y + side, x : x + side] * 255).astype(np.uint8))
        return np.asarray(piece.resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255
    colour = rng.random(3) if rng.random() < 0.6 else np.full(3, rng.random())
    slope = (grid(size) - 0.5) @ rng.normal(0, 0.5, 2)
    picture = (
        colour * (1 + slope)[..., None] * (1 + rng.uniform(0, 0.1) * noise(size, rng.uniform(1, 20), rng))[..., None]
    )
    if rng.random() < 0.3:  # stripes
        wave = np.sin((grid(size) @ rng.normal(0, 1, 2)) * rng.uniform(20, 120))
        picture = np.where((wave > rng.uniform(-0.5, 0.9))[..., None], rng.random(3), picture)
    return picture


def _object(scene: Scene, rng: np.random.Generator) -> Occluder:
    """A cup, telephone, bottle or sheet: a rectangle with round corners, or an ellipse, held from anywhere."""
    size, turn = len(scene.face), rng.normal(0, 0.5) if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
    half = CM * np.exp(rng.normal(1.2, 0.5, 2))
    frame = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = scene.target + frame @ (half * rng.uniform(-1, 1, 2))
    local = (grid(size) - centre) @ frame
    if rng.random() < 0.25:
        distance = (np.linalg.norm(local / half, axis=-1) - 1) * half.min()
    else:
        corner = half.min() * rng.uniform(0, 0.9)
        beyond = np.abs(local) - half + corner
        distance = np.linalg.norm(beyond.clip(0), axis=-1) + np.minimum(beyond.max(-1), 0) - corner
    picture = _painted(scene, rng)
    if rng.random() < 0.5:  # round, as a cup is
        picture = picture * (1 - rng.uniform(0, 0.7) * np.clip(np.abs(local[..., 0]) / half[0], 0, 1) ** 2)[..., None]
    return Occluder(np.clip(picture, 0, 1).astype(np.float32), np.clip(0.5 - distance * size, 0, 1))


def _cloth(scene: Scene, rng: np.random.Generator) -> Occluder:
    """Everything beyond a wavy line: a scarf, a collar, somebody's shoulder; or a blob."""
    size, turn = len(scene.face), rng.normal(np.pi / 2, 0.7)
    at, bend = grid(size), CM * rng.uniform(0.2, 1.5) * noise(size, rng.uniform(0.05, 0.2) * size, rng)
    if rng.random() < 0.7:
        distance = (scene.target - at) @ np.array([np.cos(turn), np.sin(turn)]) + bend
    else:
        distance = (
            np.linalg.norm((at - scene.target) / np.exp(rng.normal(0, 0.4, 2)), axis=-1)
            - CM * rng.uniform(1.5, 5)
            + bend
        )
    return Occluder(np.clip(_painted(scene, rng), 0, 1).astype(np.float32), np.clip(0.5 - distance * size, 0, 1))


def _strands(scene: Scene, rng: np.random.Generator) -> Occluder:
    """Bundles of hair, or a cable: long bent lines through the target."""
    size, big = len(scene.face), 4 * len(scene.face)
    canvas = Image.new("L", (big, big))
    draw = ImageDraw.Draw(canvas)
    turn, bend = rng.normal(np.pi / 2, 0.5), rng.normal(0, 1.0)
    for _ in range(rng.integers(1, 30)):
        share = np.linspace(-0.8, 0.8, 24)
        own = turn + bend * share + rng.normal(0, 0.04)
        steps = np.stack([np.cos(own), np.sin(own)], -1) * (share[1] - share[0])
        line = np.cumsum(steps, 0) - steps[:12].sum(0) + scene.target + rng.normal(0, 0.012, 2)
        draw.line([tuple(p) for p in line * big], fill=255, width=int(rng.integers(2, 12)))
    cover = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255
    colour = np.array([0.25, 0.17, 0.1]) * np.exp(rng.normal(0, 0.8)) * np.exp(rng.normal(0, 0.15, 3))
    picture = np.clip(colour, 0, 1) * (1 + 0.2 * noise(size, 1.0, rng))[..., None]
    return Occluder(np.clip(picture, 0, 1).astype(np.float32), cover)


def _writing(scene: Scene, rng: np.random.Generator) -> Occluder:
    """Subtitles: one or two lines, plain, with an outline, or on a bar."""
    size, big = len(scene.face), 4 * len(scene.face)
    cover, ink = Image.new("L", (big, big)), Image.new("L", (big, big))
    height = int(big * rng.uniform(0.05, 0.16))
    font = ImageFont.load_default(height)
    words = ["".join(rng.choice(list(LETTERS), rng.integers(1, 9))) for _ in range(12)]
    x, y = int((scene.target[0] - rng.uniform(0, 1.6)) * big), int(scene.target[1] * big - height / 2)
    outline = int(height * rng.choice([0, rng.uniform(0.03, 0.12)]))
    bar = rng.random() < 0.25
    for line in range(rng.integers(1, 3)):
        text, at = " ".join(words[6 * line : 6 * line + 6]), (x, y + int(1.2 * height * line))
        if bar:
            ImageDraw.Draw(cover).rectangle((min(x, big), at[1], big, at[1] + 1.2 * height), fill=255)
        ImageDraw.Draw(cover).text(at, text, fill=255, font=font, stroke_width=outline, stroke_fill=255)
        ImageDraw.Draw(ink).text(at, text, fill=255, font=font)
    small = [np.asarray(x.resize((size, size), Image.Resampling.BOX), np.float32) / 255 for x in (cover, ink)]
    light = np.array([1.0, 1.0, rng.choice([1.0, 0.3])]) if rng.random() < 0.8 else rng.random(3)
    ground = np.zeros(3) if rng.random() < 0.8 else rng.random(3)
    picture = ground + (light - ground) * np.clip(small[1] / np.maximum(small[0], 1e-3), 0, 1)[..., None]
    return Occluder(picture.astype(np.float32), small[0])
