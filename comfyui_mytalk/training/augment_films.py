"""Other films of the same faces: softer or sharper, grainy, with other colours.

    b batch   k references   s crop side in pixels

A target and its references come from one film, so all are changed alike; grain alone differs from picture to picture.
Without this the network learnt how soft a blend of pictures may be, and painted softer than any film it was shown.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..appearance.layers import blur

if TYPE_CHECKING:
    from .appearance_data import RawSample

HUE, SATURATION = 0.12, 0.25  # deviations: radians, logarithm
CHANGED = 0.3  # share of the samples that are softened, that are sharpened, and that get grain
SHARPER = 0.8  # of what is finer than `SIGMA` at most, laid on once more; or all of it taken away
SIGMA = 1.0  # pixels
GRAIN = 0.012  # deviation at most, of pictures 0..1
AVERAGED = 0.25  # share of it that is left in a regression's picture, a mean of many
LUMA = (0.299, 0.587, 0.114)


def another_film(raw: RawSample, rng: np.random.Generator, regression: bool) -> RawSample:
    """Every sample of a batch as another film shows it; black, which is what lies beyond a frame, stays black.

    `regression`: the first reference is a mean of many pictures, in which grain is weaker.
    """
    b, k = raw.images.shape[:2]
    colours = colour_matrices(HUE * rng.normal(0, 1, b), np.exp(SATURATION * rng.normal(0, 1, b)))
    kind, strength = rng.random((2, b))
    fine = np.where(kind < CHANGED, -strength, np.where(kind > 1 - CHANGED, SHARPER * strength, 0.0))
    grain = np.where(rng.random(b) < CHANGED, GRAIN * rng.random(b), 0.0)
    own = torch.Generator(raw.crop.device).manual_seed(int(rng.integers(2**31)))
    pictures = torch.cat([raw.crop[:, None], raw.images], 1)  # (b, 1 + k, 3, s, s)
    filtered = torch.from_numpy(np.flatnonzero(fine)).to(pictures.device)  # the others need not be blurred for it
    colours, fine, grain = (torch.from_numpy(x).to(pictures) for x in (colours, fine, grain))
    share = pictures.new_ones(1 + k)
    share[1 : 1 + regression] = AVERAGED
    changed = torch.einsum("bij,bkjyx->bkiyx", colours, pictures)
    plain = changed[filtered]
    coarse = blur(plain.flatten(0, 1), SIGMA).view_as(plain)
    changed[filtered] = plain + fine[filtered].view(-1, 1, 1, 1, 1) * (plain - coarse)
    noise = torch.randn(changed.shape, generator=own, device=changed.device)
    changed = changed + noise * (grain[:, None] * share).view(b, 1 + k, 1, 1, 1)
    changed = changed.clamp(0, 1) * (pictures.amax(2, keepdim=True) > 0)
    return replace(raw, crop=changed[:, 0], images=changed[:, 1:])


def colour_matrices(turn: np.ndarray, saturation: np.ndarray) -> np.ndarray:
    """Matrices `(b, 3, 3)` that turn hues by radians `(b,)` about the axis of greys and strengthen colours by a factor.

    Greys stay as they are.
    """
    axis = 1 / math.sqrt(3)
    cross = axis * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    sine, versine = (x[:, None, None] for x in (np.sin(turn), 1 - np.cos(turn)))
    turned = np.eye(3) + sine * cross + versine * cross @ cross
    factor = saturation[:, None, None]
    return (factor * np.eye(3) + (1 - factor) * np.array(LUMA)) @ turned
