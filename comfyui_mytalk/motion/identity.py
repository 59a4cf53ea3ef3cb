"""Who is it, from landmarks alone: the identity extractor (MyTalk, section 3.3.2) and its ArcFace head.

r reference frames   b batch   d embedding width
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints import build_network, find_weights, load_checkpoint
from ..errors import InputError
from ..landmarks.canonical import mouth_opening, to_canonical
from .params import IdentityParams

if TYPE_CHECKING:
    from ..landmarks.track import FaceTrack

TOKENS = 8


class IdentityExtractor(nn.Module):
    """Pose-free landmarks `(..., 478, 2 or 3)`, centimetres -> unit vectors `(..., d)`."""

    mean: Tensor
    std: Tensor

    def __init__(self, params: IdentityParams) -> None:
        super().__init__()
        self.params, self.sha256 = params, ""
        widths = [params.points * params.coordinates] + [params.width] * params.layers
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(before, after), nn.SiLU(), nn.Dropout(params.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(params.width, params.dim))
        self.register_buffer("mean", torch.zeros(params.points, params.coordinates))
        self.register_buffer("std", torch.ones(()))

    @property
    def dim(self) -> int:
        return self.params.dim

    def forward(self, landmarks: Tensor) -> Tensor:
        landmarks = (landmarks[..., : self.params.coordinates] - self.mean) / self.std
        return F.normalize(self.layers(landmarks.flatten(-2)), dim=-1)


class KeyLandmarks(nn.Module):
    """In place of an embedding: the landmarks of the key frames themselves, `(..., 478, 2)` -> `(..., 956)`.

    For the other condition types of Table 5, in training; scaled as the extractor scales what it reads.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, extractor: IdentityExtractor) -> None:
        super().__init__()
        self.register_buffer("mean", extractor.mean.clone())
        self.register_buffer("std", extractor.std.clone())

    @property
    def dim(self) -> int:
        return self.mean.numel()

    def forward(self, landmarks: Tensor) -> Tensor:
        return ((landmarks[..., : self.mean.shape[1]] - self.mean) / self.std).flatten(-2)


class ArcFace(nn.Module):
    """Additive angular margin loss (Deng et al. 2019, arXiv 1801.07698) over the training identities."""

    def __init__(self, dim: int, identities: int, scale: float = 64.0, margin: float = 0.5) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(torch.randn(identities, dim) * 0.01)

    def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
        """`embedding (b, d)` of unit length, `label (b,)` -> scalar loss."""
        cosine = embedding @ F.normalize(self.weight, dim=-1).T
        angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
        # Beyond pi the cosine rises again, and all faces opposite to all classes would be a perfect score.
        straight = cosine - self.margin * math.sin(self.margin)
        harder = torch.where(angle < math.pi - self.margin, (angle + self.margin).cos(), straight)
        target = F.one_hot(label, len(self.weight)).bool()
        return F.cross_entropy(self.scale * torch.where(target, harder, cosine), label)


def resting_frames(canonical: Tensor, usable: Tensor, count: int = TOKENS) -> Tensor:
    """Indices `(r,)`, in time order, of the usable frames whose mouth is the most closed and the most still.

    The clip is cut into `2 * count` stretches, each offers its best frame, and the best `count` of those are taken:
    eight frames of one closed second would say less about the person. Raises InputError without a usable frame.
    """
    frames = usable.nonzero()[:, 0]
    if len(frames) == 0:
        raise InputError("found no usable face in any frame; try another --face, or a closer view")
    opening = mouth_opening(canonical)
    unrest = (opening + torch.gradient(opening)[0].abs() if len(opening) > 1 else opening)[frames]
    stretches = torch.arange(len(frames)).tensor_split(min(2 * count, len(frames)))
    best = torch.stack([stretch[unrest[stretch].argmin()] for stretch in stretches])
    best = best[unrest[best].argsort(stable=True)[:count]]
    return frames[best.sort().values]


def identity_tokens(extractor: IdentityExtractor, track: FaceTrack, count: int = TOKENS) -> Tensor:
    """Embeddings `(r, d)` of up to `count` resting frames of a track; raises InputError without a usable frame."""
    canonical = to_canonical(track.points, track.pose)
    rest = canonical[resting_frames(canonical, track.usable, count)]
    with torch.inference_mode():
        return extractor(rest.to(extractor.mean))


def identity_config(extractor: IdentityExtractor) -> dict:
    """What `load_identity` needs to rebuild the extractor."""
    return {"params": asdict(extractor.params)}


def load_identity(name: str = "identity_small", device: str | torch.device = "cpu") -> IdentityExtractor:
    """A trained extractor, by name or path; raises InputError when the file is missing or does not fit."""
    checkpoint = load_checkpoint(find_weights(name, "identity"), "identity")
    extractor = build_network(checkpoint, lambda config: IdentityExtractor(IdentityParams(**config["params"])))
    extractor.sha256 = checkpoint.sha256
    return extractor.eval().to(device)
