"""Which frames of the source show the network what this mouth looks like.

    f frames   k references   m bank entries   c features of a mouth's shape

A bank of pictures that spread over all the mouth does, and for every output frame those whose mouth is nearest to the
wanted one, along a path that switches rarely; the paper's few fixed ones come of such a bank (`fixed.py`).
All choices are deterministic and made on a whole clip, so that they do not depend on how the clip is later cut into
batches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..landmarks.align import CROP_HALF, CROP_SIZE
from ..landmarks.sets import landmark_set

BANK = 64  # pictures of the person that are kept to paint from
FIXED = 3  # the same for all frames, as in the paper
KEEP = 0.8  # share of the frames that are sharp enough for it
MOUTH_BOX = (0.36, 0.78, 0.26, 0.74)  # top, bottom, left, right of the crop: the mouth in all its shapes
EXCLUDED = 1e6  # cm^2: more than anything else can cost
NEAR = 0.07  # cm: references whose lips lie closer than this show the same mouth
RINGS = ("lips_outer", "lips_outer_mid", "lips_inner_mid", "lips_inner", "lips_inner")  # the opening counts twice


def canonical_opening(canonical: Tensor) -> Tensor:
    """Distance of the inner lips `(f,)`, depth included, in centimetres, from pose-free landmarks `(f, 478, 3)`."""
    return (canonical[:, 13] - canonical[:, 14]).norm(dim=-1)


def reference_features(points: Tensor, size: int = CROP_SIZE) -> Tensor:
    """What retrieval compares: where the lips lie in the crop. Distances are the lips' root mean square, centimetres.

    `points (f, 478, 2)` are landmarks in pixels of a crop of side `size`; gives `(f, c)`. Head turns are in it, since
    they move the lips in the crop. Opening, width and protrusion alone find worse pictures (docs/experiments.md).
    """
    lips = points[:, torch.cat([landmark_set(name) for name in RINGS]).to(points.device), :2]
    return lips.flatten(1) * (2 * CROP_HALF / size / lips.shape[1] ** 0.5)


def sharpness(crops: Tensor) -> Tensor:
    """Laplacian energy over contrast of the mouth region `(f,)` of crops `(f, 3, s, s)`, uint8 or float.

    Free of the picture's brightness and contrast; falls with blur, from motion or from a small face.
    """
    size = crops.shape[-1]
    top, bottom, left, right = (round(edge * size) for edge in MOUTH_BOX)
    grey = crops[:, :, top:bottom, left:right].float().mean(1, keepdim=True)
    kernel = grey.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    contrast = grey.var(dim=(1, 2, 3))
    return F.conv2d(grey, kernel).square().mean((1, 2, 3)) / contrast.clamp_min(1e-12)


def reference_bank(features: Tensor, opening: Tensor, sharpness: Tensor, usable: Tensor, size: int = BANK) -> Tensor:
    """Frames `(m <= size,)`, ascending, that spread over `reference_features (f, c)` of the sharpest share `KEEP`.

    Each next frame is the one farthest from all chosen, from the most closed mouth (`opening (f,)`) on. Raises
    InputError when no frame is usable.
    """
    frames = _usable_frames(usable)
    frames = frames[_blur_rank(sharpness[frames]) <= KEEP]
    features = features[frames]
    chosen = [int(opening[frames].argmin())]
    distance = (features - features[chosen[0]]).norm(dim=-1)
    while len(chosen) < size and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (features - features[chosen[-1]]).norm(dim=-1))
    return frames[chosen].sort().values


def retrieve_references(
    bank: Tensor, wanted: Tensor, count: int = 3, smooth: float = 0.03, usable: Tensor | None = None
) -> Tensor:
    """For every frame the `count` bank entries `(f, count)` nearest in mouth shape, switching rarely.

    `bank (m, c)` and `wanted (f, c)` are `reference_features` (or any features in centimetres). The first
    slot is the path of least squared distance plus `smooth` (cm^2) per switch; each further slot the same among
    entries that show another mouth than the slots before it, as long as there are any. `usable (f, m)` bool leaves
    entries out. Give it the whole clip at once.
    """
    apart = torch.cdist(bank.double(), bank.double())
    similar = (1 - apart / NEAR).clamp_min(0)
    similar.fill_diagonal_(100.0)
    cost = torch.cdist(wanted.double(), bank.double()).square()
    if usable is not None:
        cost = cost.masked_fill(~usable, EXCLUDED)
    slots = []
    for _ in range(count):
        slots.append(_smooth_path(cost, smooth))
        cost = cost + similar[slots[-1]]
    return torch.stack(slots, 1)


def _smooth_path(cost: Tensor, switch: float) -> Tensor:
    """The states `(f,)` of least total `cost (f, m)` plus `switch` for each change of state (Viterbi)."""
    cost = cost.cpu()
    best, came_from = cost[0], []
    stay = torch.arange(cost.shape[1])
    for row in cost[1:]:
        lowest, state = best.min(0)
        jump = lowest + switch < best
        came_from.append(torch.where(jump, state, stay))
        best = row + torch.where(jump, lowest + switch, best)
    path = [int(best.argmin())]
    for previous in reversed(came_from):
        path.append(int(previous[path[-1]]))
    return torch.tensor(path[::-1])


def _blur_rank(sharpness: Tensor) -> Tensor:
    """0 for the sharpest frame to 1 for the most blurred `(f,)`; frames that are equally sharp rank alike."""
    sharper = len(sharpness) - torch.searchsorted(sharpness.sort().values, sharpness.contiguous(), right=True)
    return sharper / max(len(sharpness) - 1, 1)


def _usable_frames(usable: Tensor) -> Tensor:
    if not usable.any():
        raise InputError("no frame with a usable face to take references from; give a video that shows the face")
    return usable.nonzero()[:, 0]
