"""Samples for the appearance trainer: a target frame, its mask and landmarks, and references of the same clip.

b batch   k references   f frames   s crop side in pixels
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ..appearance.mask import lip_mask, lip_outline, lip_region, mask_extent
from ..appearance.params import AppearanceParams
from ..appearance.references import BANK, canonical_opening, reference_bank, reference_features
from ..appearance.regression import PictureRegression
from ..appearance.render import Inputs, References, model_inputs, window_mask
from ..landmarks.align import apply_transform, invert
from ..landmarks.canonical import mouth_opening, to_canonical
from ..landmarks.drawing import render_landmarks
from ..landmarks.sets import landmark_set
from .clips import PreparedClip

GAP = 0.24  # seconds between a target and any of its references: neighbours would give the answer away
MOUTH_MARGIN = 14  # pixels around the lips that count as the mouth box
NOISE = 0.4  # pixels: detectors tremble
FEW = (1, 16)  # pictures, when a regression is given few
DRIFT = 0.03  # of the way to another mouth, as a motion model errs; three times that taught the network to blur


@dataclass
class Sample:
    """A batch: what the network sees, what it should give, and where that counts (all cut to the window)."""

    inputs: Inputs
    target: Tensor  # (b, 3, h, w)
    mask: Tensor  # (b, 1, h, w)
    mouth: Tensor  # (b, 1, h, w) 1 in the mouth box

    def tensors(self) -> list[Tensor]:
        return [*self.inputs, self.target, self.mask, self.mouth]

    def to(self, device: torch.device) -> Sample:
        inputs = Inputs(*(tensor.to(device) for tensor in self.inputs))
        return Sample(inputs, *(getattr(self, f.name).to(device) for f in fields(self)[1:]))


@dataclass
class RawSample:
    """One target and its references before augmentation; crops 0..1, landmarks in crop pixels. Or a batch of them."""

    crop: Tensor  # (3, s, s)
    points: Tensor  # (478, 2)
    mask: Tensor  # (1, s, s)
    images: Tensor  # (k, 3, s, s)
    reference_points: Tensor  # (k, 478, 2)
    reference_masks: Tensor  # (k, 1, s, s)
    openings: Tensor  # (2,) the least and the widest of all frames that references may come from, pixels

    @classmethod
    def stack(cls, raws: list[RawSample]) -> RawSample:
        """A batch: every field gets a first axis."""
        return cls(*(torch.stack([getattr(raw, f.name) for raw in raws]) for f in fields(cls)))


class ClipView:
    """A prepared clip with what references are chosen by, computed once."""

    def __init__(self, clip: PreparedClip) -> None:
        self.clip, self.gap = clip, gap_frames(clip.fps)
        landmarks = clip.points
        canonical = to_canonical(landmarks, clip.pose)  # not the clip's own, which it would keep
        self.opening = canonical_opening(canonical)
        self.size = int(clip.metadata["crop_size"])
        self.extent = mask_extent(canonical, clip.found)
        self.points = apply_transform(invert(clip.transform), landmarks[..., :2])
        self.frames = clip.found.nonzero()[:, 0].numpy()
        self.bank, self.regression = self.frames[:0], None  # `know`, when it is first needed

    def mask(self, frame: int) -> Tensor:
        """What the network paints of one frame `(1, s, s)`."""
        at = slice(frame, frame + 1)
        return lip_mask(self.clip.pose[at], self.clip.transform[at], self.extent.hole, self.size)[0]

    def outlines(self) -> Tensor:
        """The outlines of these masks, of all frames `(f, n, 2)`."""
        return lip_outline(self.clip.pose, self.clip.transform, self.extent.hole)

    def know(self, frames: np.ndarray) -> None:
        """Take the pictures of the regression from `frames`."""
        features, even = reference_features(self.points[frames], self.size), torch.ones(len(frames))
        bank = reference_bank(features, self.opening[frames], even, even > 0, BANK)
        self.bank = frames[bank.numpy()]
        self.regression = self._regression()

    def _regression(self) -> PictureRegression:
        return PictureRegression.of(self.clip.crops(self.bank.tolist()), self.points[self.bank])

    def raw(self, frame: int, references: list[int], allowed: np.ndarray | None = None) -> RawSample:
        """Read target and references from disk; with `allowed`, the first reference is the regression on those."""
        crops = self.clip.crops([frame, *references]).float() / 255
        images, points = crops[1:], self.points[references]
        openings = self.openings(references if allowed is None else allowed)
        if allowed is not None:
            expected, base = self._expected(frame, allowed)
            images, points = torch.cat([expected, images]), torch.cat([base, points])
        lips = lip_region(points, self.size)
        return RawSample(crops[0], self.points[frame], self.mask(frame), images, points, lips, openings)

    def openings(self, frames: list[int] | np.ndarray) -> Tensor:
        """The least and the widest mouth `(2,)` of some frames, pixels."""
        return torch.stack(mouth_opening(self.points[frames]).aminmax())

    def shares(self, frame: int, allowed: np.ndarray) -> Tensor:
        """Share `(1, m)` that each picture of the bank has in what the regression on those `allowed` expects."""
        if self.regression is None:
            self.know(self.frames)
        usable = torch.from_numpy(np.isin(self.bank, allowed))
        return self.regression.weights(self.points[[frame]], usable[None])

    def _expected(self, frame: int, allowed: np.ndarray) -> tuple[Tensor, Tensor]:
        """The regression's picture `(1, 3, s, s)` of a frame and its landmarks `(1, 478, 2)`."""
        weights = self.shares(frame, allowed)
        return self.regression.picture(weights), self.regression.base[None]


def gap_frames(fps: float) -> int:
    """`GAP` in frames, at least one; as many between those of a thinned clip, which lie farther apart."""
    return max(1, round(GAP * fps))


def draw_references(view: ClipView, frame: int, allowed: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Three fixed kinds (closed, middle, widest; Section 3.4.1), any mouths, or mouths like the target's, by opening.

    Clips differ in what they have to offer: with near mouths alone in training, others ring and show double edges.
    """
    opening, kind = view.opening[allowed].numpy(), rng.random()
    if count == 1:
        picks = [int(rng.choice(allowed))]
    elif kind < 0.15:
        picks = rng.choice(allowed, count, replace=len(allowed) < count).tolist()
    elif kind < 0.5:
        wanted = np.quantile(opening, np.linspace(0.05, 0.95, count))
        near = [np.argsort(np.abs(opening - value), kind="stable")[: max(1, len(allowed) // 12)] for value in wanted]
        picks = [int(allowed[rng.choice(n)]) for n in near]
    else:
        near = nearest(view, frame, allowed)[: max(count, len(allowed) // 6)]
        picks = rng.choice(near, count, replace=len(near) < count).tolist()
    return sorted(picks, key=lambda i: float(view.opening[i]))


def nearest(view: ClipView, frame: int, allowed: np.ndarray) -> np.ndarray:
    """The frames `allowed`, those with mouths like that of `frame` first."""
    features = reference_features(view.points[[frame, *allowed]], view.size)
    return allowed[(features[1:] - features[0]).norm(dim=1).argsort(stable=True).numpy()]


def draw_raw(view: ClipView, frame: int, p: AppearanceParams, rng: np.random.Generator) -> RawSample:
    """A target with references as the network of `p` gets them at run time, of frames that do not tell the answer."""
    return view.raw(frame, *choose(view, frame, p, rng))


def choose(
    view: ClipView, frame: int, p: AppearanceParams, rng: np.random.Generator
) -> tuple[list[int], np.ndarray | None]:
    """References for `frame`, and what a regression is given: all frames that may be, those on one side of the target,
    or a few, since clips differ in what they show. None without a regression."""
    allowed = allowed_references(view, frame)
    if not p.regression:
        return draw_references(view, frame, allowed, p.references, rng), None
    if view.regression is None:  # a few are chosen from its bank: what is drawn must not depend on earlier draws
        view.know(view.frames)
    kind, side = rng.random(), allowed[allowed < frame] if rng.random() < 0.5 else allowed[allowed > frame]
    if kind < 0.4 and np.isin(view.bank, side).any():
        allowed = side
    elif kind < 0.65:
        among = np.intersect1d(allowed, view.bank)
        among = among if len(among) else allowed
        allowed = np.sort(rng.choice(among, min(int(rng.integers(*FEW)), len(among)), replace=False))
    count = p.references - 1
    near = nearest(view, frame, allowed)[: max(3, count + 1, len(allowed) // 10)]
    picks = np.sort(rng.choice(len(near), count, replace=len(near) < count))
    return near[picks].tolist(), allowed


def allowed_references(view: ClipView, frame: int) -> np.ndarray:
    """Frames of the clip that may be references for `frame`."""
    return view.frames[np.abs(view.frames - frame) >= view.gap]


def make_sample(p: AppearanceParams, raws: list[RawSample], rng: np.random.Generator | None = None) -> Sample:
    """Stack raw samples, add landmark noise (when `rng` is given), and build the network's inputs."""
    return sample_of(p, RawSample.stack(raws), rng)


def sample_of(p: AppearanceParams, raw: RawSample, rng: np.random.Generator | None = None) -> Sample:
    """The same from a batch that is stacked already, on its device."""
    crops, points, mask = raw.crop, raw.points, window_mask(p, raw.mask)
    mouth = mouth_boxes(points, crops.shape[-1])
    if rng is not None:
        points = landmark_noise(points, raw.reference_points, rng)
    references = References(raw.images, raw.reference_points, raw.reference_masks, raw.openings)
    inputs = model_inputs(p, crops, render_landmarks(points, crops.shape[-1]), points, mask, references)
    top, bottom, left, right = p.window or (0, crops.shape[-2], 0, crops.shape[-1])
    return Sample(inputs, *(x[..., top:bottom, left:right] for x in (crops, mask, mouth)))


def landmark_noise(points: Tensor, others: Tensor, rng: np.random.Generator) -> Tensor:
    """Landmarks `(b, n, 2)` that tremble and stray a little along the way to or from one of `others (b, k, n, 2)`."""
    other = others[:, int(rng.integers(others.shape[1]))]
    stray = rng.normal(0, DRIFT, (len(points), 1, 1))
    tremble = NOISE * rng.random((len(points), 1, 1)) * rng.normal(0, 1, points.shape)
    stray, tremble = (torch.from_numpy(x).float().to(points.device) for x in (stray, tremble))
    return points + stray * (other - points) + tremble


def cut_sample(sample: Sample, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """A part `(h, w)` of every picture, placed at random but around its mouth: cheaper steps, more of them."""
    boxes = []
    for mouth in sample.mouth[:, 0]:
        starts = []
        for side, (length, line) in enumerate(zip(size, (mouth.amax(1), mouth.amax(0)), strict=True)):
            inside, whole = line.nonzero()[:, 0], mouth.shape[side]
            low, high = sorted((int(inside[-1]) + 1 - length, int(inside[0]))) if len(inside) else (0, whole)
            starts.append(int(rng.integers(max(0, min(low, whole - length)), max(0, min(high, whole - length)) + 1)))
        boxes.append((Ellipsis, *(slice(start, start + length) for start, length in zip(starts, size, strict=True))))

    def cut(pictures: Tensor) -> Tensor:
        return torch.stack([picture[box] for picture, box in zip(pictures, boxes, strict=True)])

    return Sample(Inputs(*map(cut, sample.inputs)), cut(sample.target), cut(sample.mask), cut(sample.mouth))


def mouth_boxes(points: Tensor, size: int) -> Tensor:
    """1 inside the box around the lips plus `MOUTH_MARGIN` pixels, `(b, 1, size, size)`."""
    lips = points[:, torch.cat([landmark_set("lips_outer"), landmark_set("lips_inner")])]
    low, high = lips.amin(1) - MOUTH_MARGIN, lips.amax(1) + MOUTH_MARGIN
    at = torch.arange(size, device=points.device) + 0.5
    column = (at > low[:, :1]) & (at < high[:, :1])
    row = (at > low[:, 1:]) & (at < high[:, 1:])
    return (row[:, :, None] & column[:, None, :]).float()[:, None]
