"""Short-range face detector (BlazeFace, Bazarevsky et al., arXiv 1907.05047) with weighted suppression.

    f frames   w windows   a anchors (896)   n faces

A region of interest is `(centre x, centre y, side, angle)` in frame pixels, angle in radians: the square that
the mesh looks at. A face comes as a region and a score, `(n, 5)`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .crop import crop_regions
from .graph import Graph

INPUT_SIZE = 128
MIN_SCORE = 0.5
MIN_OVERLAP = 0.3  # above this intersection over union, two boxes are one face
REGION_MARGIN = 1.5  # side of the region over that of the face box
MIN_TILE = 160  # frame pixels: smaller tiles would only magnify blur


class FaceDetector(nn.Module):
    """Finds all faces that fill more than about 15 % of a window's side."""

    anchors: Tensor

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph = graph
        self.register_buffer("anchors", anchor_centres())

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Faces `(n, 5)` of each of `frames (f, h, w, 3)` uint8, strongest first."""
        height, width = frames.shape[1:3]
        whole = torch.tensor([[width / 2, height / 2, max(width, height), 0.0]])
        boxes, eyes, scores = self.candidates(frames, torch.arange(len(frames)), whole.expand(len(frames), 4))
        return [suppress(*frame) for frame in zip(boxes, eyes, scores, strict=True)]

    def search(self, frame: Tensor, windows: Tensor) -> Tensor:
        """Faces `(n, 5)` of one frame `(h, w, 3)`, looked for in square `windows (w, 4)`: finds small ones."""
        boxes, eyes, scores = self.candidates(frame[None], torch.zeros(len(windows), dtype=torch.long), windows)
        return suppress(boxes.flatten(0, 1), eyes.flatten(0, 1), scores.flatten())

    def candidates(self, frames: Tensor, index: Tensor, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Per window, on the CPU: boxes `(w, a, 4)` as two corners, eyes `(w, a, 2, 2)`, scores `(w, a)`; pixels."""
        crops = crop_regions(frames, index, windows, INPUT_SIZE, outside="black")
        offsets, logits = self.graph(crops.to(self.anchors.device) / 127.5 - 1)
        offsets = offsets.view(len(crops), -1, 8, 2) / INPUT_SIZE
        centre, extent = offsets[:, :, 0] + self.anchors, offsets[:, :, 1]
        eyes = offsets[:, :, 2:4] + self.anchors[:, None]
        places = torch.stack([centre - extent / 2, centre + extent / 2, *eyes.unbind(2)], 2).cpu()
        places = (places - 0.5) * windows[:, None, None, 2:3] + windows[:, None, None, :2]
        scores = logits[..., 0].clamp(-100, 100).sigmoid().cpu()
        return places[:, :, :2].flatten(2), places[:, :, 2:], scores


def anchor_centres() -> Tensor:
    """The detector's anchors `(896, 2)`, 0..1: a 16 x 16 grid with two per cell, an 8 x 8 grid with six."""
    grids = []
    for cells, count in ((16, 2), (8, 6)):
        axis = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        grids.append(torch.stack([x, y], -1).view(-1, 1, 2).expand(-1, count, 2).reshape(-1, 2))
    return torch.cat(grids)


def suppress(boxes: Tensor, eyes: Tensor, scores: Tensor) -> Tensor:
    """Weighted non-maximum suppression of candidates `(a, …)` -> faces `(n, 5)`, strongest first."""
    keep = scores >= MIN_SCORE
    order = scores[keep].argsort(descending=True, stable=True)
    boxes, eyes, scores = boxes[keep][order], eyes[keep][order], scores[keep][order]
    faces = []
    while len(scores):
        same = overlap(boxes[:1], boxes)[0] > MIN_OVERLAP
        same[0] = True  # a box without area overlaps nothing
        weight = scores[same] / scores[same].sum()
        region = region_of(weight @ boxes[same], torch.einsum("a,aij->ij", weight, eyes[same]))
        faces.append(torch.cat([region, scores[:1]]))
        boxes, eyes, scores = boxes[~same], eyes[~same], scores[~same]
    return torch.stack(faces) if faces else boxes.new_zeros(0, 5)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union `(n, m)` of boxes `(n, 4)` and `(m, 4)` given as two corners."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b))
    return common / (area_a[:, None] + area_b[None] - common)


def region_of(box: Tensor, eyes: Tensor) -> Tensor:
    """Regions `(…, 4)` around boxes `(…, 4)`, turned so that the two `eyes (…, 2, 2)` lie level."""
    between = eyes[..., 1, :] - eyes[..., 0, :]
    side = (box[..., 2:] - box[..., :2]).amax(-1) * REGION_MARGIN
    centre = (box[..., :2] + box[..., 2:]) / 2
    return torch.stack([*centre.unbind(-1), side, torch.atan2(between[..., 1], between[..., 0])], -1)


def region_boxes(regions: Tensor) -> Tensor:
    """Upright squares `(n, 4)`, two corners, of `regions (n, ≥ 3)`: their turn is ignored."""
    half = regions[:, 2:3] / 2
    return torch.cat([regions[:, :2] - half, regions[:, :2] + half], -1)


def tiles(height: int, width: int) -> Tensor:
    """Overlapping square windows `(w, 4)` over a frame, one half and one quarter of its short side."""
    windows: list[list[float]] = []
    for side in (min(height, width), min(height, width) / 2, min(height, width) / 4):
        if side < MIN_TILE and windows:
            break
        rows, columns = (max(1, round(2 * extent / side) - 1) for extent in (height, width))
        for y in torch.linspace(side / 2, height - side / 2, rows).tolist() if rows > 1 else [height / 2]:
            for x in torch.linspace(side / 2, width - side / 2, columns).tolist() if columns > 1 else [width / 2]:
                windows.append([x, y, side, 0.0])
    return torch.tensor(windows)
