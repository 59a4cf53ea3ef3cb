"""Samples for the occlusion trainer: faces of prepared clips, most of them with something drawn in front.

b batch   s side of the network's pictures
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ..appearance.mask import soft_hull
from ..appearance.occlusion import landmark_marks
from ..landmarks.align import CROP_SIZE
from ..landmarks.sets import AROUND, contour, landmark_sets, mirror_index
from .clips import PreparedClip
from .loop import step_rng
from .occluders import blend, draw_occluder
from .surfaces import Scene

JUDGED_GROW = 30.0  # pixels of a 256 crop around the face in which the loss counts in full: jaws are painted there
BEYOND = 0.35  # of it counts farther out, where real hands may lie
CLEAR = 0.35  # of the samples have no occluder
ASTRAY = 4.0  # pixels of a 256 crop by which landmarks of a covered face are off


@dataclass
class OcclusionSample:
    """What the network sees, what it should say, and where that counts; for a batch."""

    crops: Tensor  # (b, 3, s, s) 0..1
    marks: Tensor  # (b, 2, s, s)
    cover: Tensor  # (b, 1, s, s) 0..1
    judged: Tensor  # (b, 1, s, s) 0..1


class OcclusionBatches(IterableDataset):
    """Batches of steps `start..stop - 1`; each depends on its step and the seed alone."""

    def __init__(self, clips: list[PreparedClip], size: int, batch: int, seed: int, start: int, stop: int) -> None:
        self.size, self.batch, self.seed, self.start, self.stop = size, batch, seed, start, stop
        names = sorted({clip.identity for clip in clips})
        self.people = [[clip for clip in clips if clip.identity == name] for name in names]

    def __iter__(self) -> Iterator[OcclusionSample]:
        info = get_worker_info()
        first, every = (0, 1) if info is None else (info.id, info.num_workers)
        for step in range(self.start + first, self.stop, every):
            rng = step_rng(self.seed, step)
            columns = zip(*(self._sample(rng) for _ in range(self.batch)), strict=True)
            yield OcclusionSample(*(torch.stack(column) for column in columns))

    def _clip(self, rng: np.random.Generator) -> PreparedClip:
        own = self.people[rng.integers(len(self.people))]
        return own[rng.integers(len(own))]

    def _frame(self, clip: PreparedClip, rng: np.random.Generator) -> int:
        return int(rng.choice(clip.found.nonzero()[:, 0].numpy()))

    def _sample(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        clip, other = self._clip(rng), self._clip(rng)
        frame = self._frame(clip, rng)
        face = _shrunk(clip.crop(frame), self.size)
        seen = points = clip.crop_points([frame])[0] / CROP_SIZE
        covered = rng.random() > CLEAR
        if covered and rng.random() < 0.5:  # the landmarks of a covered mouth may be any mouth's
            seen = clip.crop_points([self._frame(clip, rng)])[0] / CROP_SIZE
        if rng.random() < 0.5:
            seen = seen + torch.from_numpy(rng.normal(0, ASTRAY / CROP_SIZE, 2)).float()
        if rng.random() < 0.5:
            face = np.ascontiguousarray(face[:, ::-1])
            points, seen = (_flipped(at) for at in (points, seen))
        cover = np.zeros(face.shape[:2], np.float32)
        if rng.random() < 0.35:
            face = _shadow(face, rng)
        if rng.random() < 0.35:
            face = _spots(face, points, rng)
        if covered:
            for _ in range(1 if rng.random() < 0.8 else 2):
                scene = _scene(face, points, _shrunk(other.crop(self._frame(other, rng)), self.size), rng)
                face, more = blend(face, draw_occluder(scene, rng), rng)
                cover = np.maximum(cover, more)
        crop = torch.from_numpy(_filmed(face, rng)).permute(2, 0, 1).float()
        marks = landmark_marks(seen[None] * self.size, self.size)[0]
        oval = points[None, contour("face_oval_ring")] * self.size
        judged = BEYOND + (1 - BEYOND) * soft_hull(oval, self.size, 4.0, grow=JUDGED_GROW)[0]
        return crop, marks, torch.from_numpy(cover)[None].float(), judged


def _shrunk(crop: Tensor, size: int) -> np.ndarray:
    picture = Image.fromarray(crop.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.BOX)
    return np.asarray(picture, np.float32) / 255


def _flipped(points: Tensor) -> Tensor:
    return torch.stack([1 - points[mirror_index(), 0], points[mirror_index(), 1]], -1)


def _scene(face: np.ndarray, points: Tensor, texture: np.ndarray, rng: np.random.Generator) -> Scene:
    """A point of lips, chin or cheeks to be covered, and the colour of the cheeks."""
    lower = landmark_sets(*AROUND)
    target = points[lower[rng.integers(len(lower))]].numpy()
    if rng.random() < 0.3:  # beside the jaw, before neck and collar
        target = target + (target - points[4].numpy()) * rng.uniform(0, 0.5)
    target = target + rng.normal(0, 0.04, 2)
    at = (points[[50, 280]].numpy() * len(face)).astype(int).clip(2, len(face) - 3)
    skin = np.mean([face[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)) for x, y in at], 0)
    return Scene(face, target, skin, texture)


def _shadow(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the face in another light: an edge of shadow is no edge of a thing."""
    size, turn = len(face), rng.uniform(0, 2 * np.pi)
    at = (np.arange(size) / size - rng.uniform(0.2, 0.8)) * size
    distance = at * np.cos(turn) + at[:, None] * np.sin(turn) + gaussian_filter(rng.normal(0, 60, (size, size)), 12)
    share = 1 / (1 + np.exp(-distance / rng.uniform(1.0, 12)))
    return face * (1 - share[..., None] * rng.uniform(0.2, 0.8) * np.exp(rng.normal(0, 0.1, 3))).clip(0, 1)


def _spots(face: np.ndarray, points: Tensor, rng: np.random.Generator) -> np.ndarray:
    """Skin that shines, or is darker, in places without edges: a nose in the sun was taken for a ball."""
    size = len(face)
    at = np.stack(np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2), -1)
    for _ in range(rng.integers(1, 5)):
        middle = points[rng.integers(len(points))].numpy() + rng.normal(0, 0.02, 2)
        reach = np.exp(rng.normal(-3.4, 0.5, 2))
        turn = rng.uniform(0, np.pi)
        frame = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        spot = np.exp(-((((at - middle) @ frame) / reach) ** 2).sum(-1) / 2)[..., None]
        face = face + spot * rng.choice([rng.uniform(0.1, 0.9), -rng.uniform(0.1, 0.5)], p=[0.75, 0.25])
    return face.clip(0, 1)


def _filmed(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What cameras, codecs and painters do to a picture `(s, s, 3)`, occluder and all."""
    face = face.clip(0, 1) ** np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.15, 3)) * np.exp(rng.normal(0, 0.15))
    if rng.random() < 0.12:
        face = np.repeat(face.mean(-1, keepdims=True), 3, -1)
    if rng.random() < 0.1:  # painted: other hues, fewer shades
        face = face @ (np.eye(3) + rng.normal(0, 0.2, (3, 3)))
        face = gaussian_filter(face, (1, 1, 0))
        face = np.round(face * (levels := rng.integers(5, 24))) / levels
    if rng.random() < 0.3:
        face = gaussian_filter(face, (s := rng.uniform(0.3, 1.5), s, 0))
    if rng.random() < 0.4:
        face = face + rng.normal(0, rng.uniform(0.005, 0.05), face.shape)
    face = np.clip(face, 0, 1)
    return _squeezed(face, rng) if rng.random() < 0.3 else face


def _squeezed(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small face in a film of few bits: fewer pixels, and blocks of a codec."""
    size = len(face)
    side = int(size * rng.uniform(0.3, 1.0))
    small = Image.fromarray((face * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)
    file = BytesIO()
    small.save(file, "JPEG", quality=int(rng.integers(12, 70)))
    return np.asarray(Image.open(file).resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255
