"""What lies in front of the lower face: a hand, a microphone, writing. It stays as filmed. Not in the papers.

    f frames   s crop side in pixels   c channels

A network looks at the aligned crop and at where the landmarks say lips and face are, and tells for each pixel whether
something else is in front of it. It was taught with drawn occluders (`training/occluders.py`). What belongs to the
face, a beard, a moustache, open lips, must never be taken for one: the old mouth would show.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from scipy.ndimage import binary_dilation, label
from torch import Tensor, nn

from ..checkpoints import build_network, find_weights, load_checkpoint, params_from
from ..landmarks.sets import AROUND, contour, landmark_sets
from .mask import NECK, dilate, soft_hull

MARK_FEATHER = 4.0  # pixels of a 256 crop at the edges of the drawn lips and face
STEADY = (0.5, 0.75)  # chances that count where two of three neighbouring frames agree: from nothing to all
SURE = (0.8, 0.95)  # and those that count in one frame by itself: hands are fast
LIKELY = (0.1, 0.4)  # and those that count at the edge of what does
EDGE = 4  # pixels of the network's pictures
JOINED = 2  # pixels of the network's pictures: parts twice as far apart are one, as letters of a word
OUTSIDE, INSIDE = 6, 24  # of these pixels beside the face, and over its lower part, from which on something reaches in


@dataclass(frozen=True)
class OcclusionParams:
    """`size` of the pictures the network sees, `widths` of its levels, each of half the size of the one before."""

    size: int = 128
    widths: tuple[int, ...] = (16, 32, 64, 96, 128)


OCCLUSION_PRESETS = {"small": OcclusionParams()}


class OcclusionNet(nn.Module):
    """A U-Net: crops `(f, 3, size, size)` 0..1 and marks `(f, 2, size, size)` -> logits `(f, 1, size, size)`."""

    def __init__(self, params: OcclusionParams) -> None:
        super().__init__()
        self.params, self.sha256 = params, ""
        widths = params.widths
        self.first = nn.Conv2d(5, widths[0], 3, padding=1)
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.down = nn.ModuleList(_stage(before, after, stride=2) for before, after in pairs)
        self.up = nn.ModuleList(_stage(after + before, before) for before, after in reversed(pairs))
        self.last = nn.Conv2d(widths[0], 1, 1)

    def forward(self, crops: Tensor, marks: Tensor) -> Tensor:
        levels = [self.first(torch.cat([crops * 2 - 1, marks], 1))]
        for stage in self.down:
            levels.append(stage(levels[-1]))
        x = levels.pop()
        for stage in self.up:
            above = levels.pop()
            x = stage(torch.cat([F.interpolate(x, size=above.shape[-2:], mode="bilinear"), above], 1))
        return self.last(x)


def _stage(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    first = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    second = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
    norms = (nn.BatchNorm2d(channels_out) for _ in range(2))
    return nn.Sequential(first, next(norms), nn.ReLU(), second, next(norms), nn.ReLU())


@dataclass(frozen=True)
class Occlusion:
    """What stays as filmed in the aligned crops of a clip. Frames with nothing in front of the face take no memory."""

    rows: Tensor  # (f,) which of the maps each frame has, -1 for none
    maps: Tensor  # (n, s, s) uint8

    @classmethod
    def of(cls, found: Iterable[tuple[int, Tensor]], length: int) -> Occlusion:
        """Of a clip of this `length`: numbers of frames, and what stays `(s, s)` 0..1 in them; may be none."""
        rows = torch.full((length,), -1)
        maps: list[Tensor] = []
        for frame, stays in found:
            if stays.any():
                rows[frame] = len(maps)
                maps.append(stays.mul(255).round().byte())
        return cls(rows, torch.stack(maps) if maps else torch.zeros(0, 1, 1, dtype=torch.uint8))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, frames: slice | Tensor) -> Occlusion:
        return Occlusion(self.rows[frames], self.maps)

    def shares(self, size: int) -> Tensor:
        """How much of each pixel stays as filmed `(f, 1, size, size)`, 0..1, in crops of that size."""
        shown = torch.zeros(len(self.rows), 1, size, size)
        there = self.rows >= 0
        if there.any():
            maps = self.maps[self.rows[there], None].float() / 255
            shown[there] = F.interpolate(maps, size=(size, size), mode="bilinear")
        return shown


def settle(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    """What stays of one frame `(s, s)` 0..1, from the network's chances in it and in its neighbours, each `(s, s)`.

    A chance that comes and goes in a single frame would show the old mouth for its length. Around what is certain,
    lower chances count as well: edges are not certain, and a rim of the thing would be left in the face.
    """
    steady = torch.stack([before, here, after]).median(0).values
    certain = torch.maximum(_ramp(steady, *STEADY), _ramp(here, *SURE))
    edge = torch.maximum(steady, here) * dilate(certain[None, None], EDGE)[0, 0]
    return torch.maximum(certain, _ramp(edge, *LIKELY))


def reaching_in(stays: Tensor, points: Tensor) -> Tensor:
    """What of `stays (s, s)` comes from beside the face and reaches what is painted, neck included; the rest is 0.

    A hand comes from somewhere. What lies inside a face is the face: a nose that shines, an open mouth, teeth.
    `points (478, 2)` are landmarks in pixels of that crop.
    """
    size = len(stays)
    if stays.max() < 0.5:
        return torch.zeros_like(stays)
    face, lower = (
        soft_hull(points[None, index], size, 1.0, grow=grow)[0, 0] > 0.5
        for index, grow in ((contour("face_oval_ring"), 0.0), (landmark_sets(*AROUND), NECK))
    )
    solid = stays > 0.5
    near = binary_dilation(solid.numpy(), iterations=JOINED)
    parts, count = label(near)
    kept = torch.zeros(count + 1)
    for part in range(1, count + 1):
        here = torch.from_numpy(parts == part) & solid
        kept[part] = (here & ~face).sum() >= OUTSIDE and (here & lower).sum() >= INSIDE
    return stays * kept[torch.from_numpy(parts).long()]


def _ramp(x: Tensor, low: float, high: float) -> Tensor:
    return ((x - low) / (high - low)).clamp(0, 1)


def landmark_marks(points: Tensor, size: int) -> Tensor:
    """Where lips and face are `(f, 2, size, size)`, from landmarks `(f, 478, 2)` in pixels of crops of that size."""
    rings = (contour(name).to(points.device) for name in ("lips_outer_ring", "face_oval_ring"))
    return torch.cat([soft_hull(points[:, ring], size, MARK_FEATHER) for ring in rings], 1)


def occlusion_config(net: OcclusionNet) -> dict:
    """What `load_occlusion` needs to rebuild the network."""
    return {"params": asdict(net.params)}


def load_occlusion(name: str = "occlusion_small", device: str | torch.device = "cpu") -> OcclusionNet:
    """Trained weights, by name or path; raises InputError when the file is missing or does not fit."""
    checkpoint = load_checkpoint(find_weights(name, "occlusion"), "occlusion")
    net = build_network(checkpoint, lambda config: OcclusionNet(params_from(OcclusionParams, config["params"])))
    net.sha256 = checkpoint.sha256
    return net.eval().to(device, memory_format=torch.channels_last)  # half the time on a CPU
