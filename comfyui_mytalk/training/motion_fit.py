"""The coordinates that a motion model works in, fitted to the landmarks of its training takes.

t motion frames   c coordinates of a frame   u coordinates of an upper face
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..landmarks.sets import landmark_set
from ..motion.model import MotionModel
from .motion_data import Take

LIP_WEIGHT = 4.0  # of a lip point's square error against a jaw or cheek point's
MOST_FITTED = 2_000_000  # frames that the coordinates are fitted to: 22 hours


def point_weights() -> Tensor:
    """Weight `(360,)` of each coordinate of the generated points in the loss, mean 1."""
    lips = torch.cat([landmark_set(f"lips_{ring}") for ring in ("outer", "inner", "outer_mid", "inner_mid")])
    weight = torch.where(torch.isin(landmark_set("generated"), lips), LIP_WEIGHT, 1.0)
    return (weight / weight.mean()).repeat_interleave(2)


def fit_coordinates(model: MotionModel, takes: list[Take]) -> None:
    """Set the model's normalisation from the training takes: weighted principal components, or each coordinate's own.

    Components are orthogonal under the loss's weights, so their square error is the loss in landmark space.
    """
    count, mean, scatter = moments(some(takes), model.params.relative)
    lower = len(model.lower_mean)  # the first so many coordinates; the others are of the upper face
    model.lower_mean.copy_(mean[:lower])
    shapes = scatter[:lower, :lower]
    if model.params.components:
        weight = point_weights().double().sqrt()
        value, vector = torch.linalg.eigh(weight[:, None] * shapes * weight / count)
        value, vector = (x.flip(-1)[..., : model.params.components] for x in (value, vector))
        model.to_channels.copy_(weight[:, None] * vector / value.sqrt())
        model.from_channels.copy_((vector * value.sqrt()).T / weight)
    else:
        deviation = (shapes.diagonal() / (count - 1)).sqrt()
        model.to_channels.copy_(torch.diag(1 / deviation))
        model.from_channels.copy_(torch.diag(deviation))
    model.upper_mean.copy_(mean[lower:])
    erase = torch.eye(len(mean) - lower, dtype=mean.dtype)
    if model.params.erase_mouth:
        erase = eraser(scatter[lower:, :lower] @ model.to_channels.double() / count)
    values, squares = (
        count * len(erase),
        ((scatter[lower:, lower:] @ erase) * erase).sum(),
    )  # of all upper faces, erased
    spread = squares + count * ((means := mean[lower:] @ erase) - means.mean()).square().sum()
    model.upper_map.copy_(erase / (spread / (values - 1)).sqrt())


def some(takes: list[Take]) -> list[Take]:
    """All takes, or of more than `MOST_FITTED` frames some at random, always the same ones."""
    if sum(map(len, takes)) <= MOST_FITTED:
        return takes
    order = np.random.default_rng(0).permutation(len(takes))
    enough = int(np.searchsorted(np.cumsum([len(takes[i]) for i in order]), MOST_FITTED)) + 1
    return [takes[i] for i in order[:enough]]


def moments(takes: list[Take], relative: bool) -> tuple[int, Tensor, Tensor]:
    """Number, mean `(c,)` and scatter about it `(c, c)` of what the model reads of each frame, generated points first.

    Take after take, in double precision: all of them at once would need memory several times over.
    """
    lower, upper = landmark_set("generated"), landmark_set("prefix")

    def read(take: Take) -> Tensor:
        shapes = take.landmarks[:, lower] - relative * take.landmarks[take.rest][:, lower].mean(0)
        faces = take.landmarks[:, upper] - relative * take.landmarks[:, upper].mean(0)
        return torch.cat([shapes, faces], 1).flatten(1).double()

    count = sum(map(len, takes))
    mean = sum(read(take).sum(0) for take in takes) / count
    scatter = torch.zeros(len(mean), len(mean), dtype=mean.dtype)
    for take in takes:
        apart = read(take) - mean
        scatter.addmm_(apart.T, apart)
    return count, mean, scatter


def eraser(covariance: Tensor) -> Tensor:
    """The projection `(u, u)` that takes all that is linearly related to a concept out of what has this `covariance
    (u, c)` with it.

    Orthogonal to the covariance (Shao et al. 2023, arXiv 2203.07893), so that it never amplifies noise.
    """
    basis = torch.linalg.svd(covariance, full_matrices=False)[0]
    return torch.eye(len(basis), dtype=covariance.dtype) - basis @ basis.T
