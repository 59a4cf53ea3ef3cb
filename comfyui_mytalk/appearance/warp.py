"""Motion-aligned references: pictures of the same face moved onto the landmarks of another frame.

    b batch   k references   n triangles   v vertices   s crop side in pixels

The map is linear on every triangle of the canonical face's mesh. Two rings around the face oval continue it
over the whole crop: the inner one follows the oval half way, the outer one stands still. With that the map is
defined at every pixel, continuous, and exactly the identity where nothing moves. Not in the paper, whose
network sees unaligned references.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks.canonical import canonical_triangles
from ..landmarks.sets import contour, landmark_set
from ..sampling import sample_repeating

MESH_POINTS = 468
RINGS = ((1.35, 0.5), (4.0, 0.0))  # size relative to the face oval, share of the oval's movement
GRID = 64  # cells per crop side; between their centres the map is interpolated
JUMP = (1.0, 2.5)  # pixels between neighbours of the map: skin is stretched no farther, and farther apart is an edge
FLAT = 1e-3  # cells^2: triangles thinner than this (closed lips) cover no cell centre worth having

Window = tuple[int, int, int, int]  # top, bottom, left, right: rows and columns of the crop


def align_references(
    images: Tensor, points: Tensor, target: Tensor, window: Window | None = None, times: int = 1
) -> Tensor:
    """Move `images (b, k, 3, s, s)` with landmarks `points (b, k, 478, 2)` onto `target (b, 478, 2)`.

    Landmarks in crop pixels (pixel-edge coordinates). Returns `(b, k, 3, s, s)`, or only the rows and columns of
    `window`; what lies beyond the border of a picture repeats its border. Landmarks and window are those of crops
    `times` smaller than the pictures, at whose resolution the map is drawn.
    """
    b, k, _, full, _ = images.shape
    size = full // times
    top, bottom, left, right = window or (0, size, 0, size)
    flow = _window_flow(points, target, (top, bottom, left, right), max(1, size // GRID)).flatten(0, 1)
    if times > 1:
        flow = F.interpolate(flow.permute(0, 3, 1, 2), scale_factor=times, mode="bilinear").permute(0, 2, 3, 1)
    x, y = (
        torch.arange(first * times, last * times, device=flow.device).add(0.5) / times
        for first, last in ((left, right), (top, bottom))
    )
    grid = (torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) + flow) * (2 / size) - 1
    moved = _sample(images.flatten(0, 1), grid)
    return (_soften(moved, flow) if times == 1 else moved).unflatten(0, (b, k))


def move_pictures(images: Tensor, flow: Tensor) -> Tensor:
    """`images (b, k, c, h, w)` 0..1, each pixel fetched from `flow (b, k, 2, h, w)` pixels (x, y) further on."""
    height, width = images.shape[-2:]
    x, y = (torch.arange(n, device=flow.device) + 0.5 for n in (width, height))
    place = torch.stack(torch.meshgrid(x, y, indexing="xy")) + flow.float()
    grid = place.flatten(0, 1).permute(0, 2, 3, 1) * (2 / place.new_tensor([width, height])) - 1
    return _sample(images.flatten(0, 1), grid).unflatten(0, images.shape[:2])


def _soften(pictures: Tensor, flow: Tensor) -> Tensor:
    """`pictures (n, c, h, w)` with soft edges where their map `flow (n, h, w, 2)`, pixels, jumps.

    It does between lips, and where lips fold over the skin beside them: pixel by pixel, that is an edge of stairs.
    """
    jump = flow.new_zeros(flow.shape[:3])
    for axis in (1, 2):
        length = flow.shape[axis] - 1
        apart = flow.diff(dim=axis).abs().amax(-1)
        for side in (0, 1):
            part = jump.narrow(axis, side, length)
            torch.maximum(part, apart, out=part)
    share = ((jump - JUMP[0]) / (JUMP[1] - JUMP[0])).clamp_(0, 1)[:, None]
    return torch.lerp(pictures, _binomial(pictures), share.to(pictures.dtype))


def _binomial(pictures: Tensor) -> Tensor:
    """Every pixel of `(n, c, h, w)` with a quarter of it from either side, across and down."""
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    return (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 16


def _sample(pictures: Tensor, grid: Tensor) -> Tensor:
    """`pictures (n, c, h, w)` 0..1 at `grid (n, h, w, 2)`, -1..1, bicubic: bilinear would blur and leave kinks.

    In single precision: half could not tell neighbouring pixels apart in the grid.
    """
    return sample_repeating(pictures.float(), grid, "bicubic").clamp(0, 1).to(pictures.dtype)


def reference_flow(points: Tensor, target: Tensor, size: int, grid: int = GRID) -> Tensor:
    """Where each pixel of the target lies in each reference, minus its own place: `(b, k, 2, size, size)` pixels.

    Between the lips the map jumps, so lips and mouth are drawn at every pixel and the rest on `grid x grid` cells.
    """
    return _window_flow(points, target, (0, size, 0, size), max(1, size // grid)).permute(0, 1, 4, 2, 3)


def _window_flow(points: Tensor, target: Tensor, window: Window, step: int) -> Tensor:
    """The flow in `window` of the crop `(b, k, height, width, 2)`; all but the mouth drawn every `step` pixels."""
    b, k = points.shape[:2]
    top, bottom, left, right = window
    height, width = bottom - top, right - left
    rows, columns = -(-height // step) + 2, -(-width // step) + 2  # one more cell on each side to interpolate to
    vertices, movement = _extend(points[:, :, :MESH_POINTS].float(), target[:, :MESH_POINTS].float())
    vertices = vertices - vertices.new_tensor([left, top])
    flow = movement.new_zeros(b, k, rows * columns, 2)
    _draw(flow, vertices / step + 1, movement, _triangles(), (rows, columns))
    flow = flow.view(b * k, rows, columns, 2).permute(0, 3, 1, 2).contiguous()
    flow = F.interpolate(flow, scale_factor=step, mode="bilinear", align_corners=False)
    flow = flow[..., step : step + height, step : step + width].permute(0, 2, 3, 1).reshape(b, k, height * width, 2)
    _draw(flow, vertices, movement, _mouth_triangles(), (height, width))
    return flow.view(b, k, height, width, 2)


def _draw(flow: Tensor, vertices: Tensor, movement: Tensor, triangles: Tensor, shape: tuple[int, int]) -> None:
    """Write the movement of `triangles` into the cells of `flow (b, k, rows * columns, 2)` that they cover."""
    triangles = triangles.to(vertices.device)
    frame, cell, triangle, weight = _rasterise(vertices, triangles, shape)
    corner = movement[frame[:, None], :, triangles[triangle]]  # (covered, 3, k, 2)
    flow[frame, :, cell] = (corner * weight[:, :, None, None]).sum(1)


@cache
def _triangles() -> Tensor:
    """The mesh's triangles followed by those of the rings `(n, 3)`."""
    oval = contour("face_oval_ring")
    rings = [oval] + [torch.arange(len(oval)) + MESH_POINTS + i * len(oval) for i in range(len(RINGS))]
    strips = []
    for inner, outer in zip(rings[:-1], rings[1:], strict=True):
        after_inner, after_outer = inner.roll(-1), outer.roll(-1)
        strips += [torch.stack([inner, outer, after_inner], 1), torch.stack([outer, after_outer, after_inner], 1)]
    return torch.cat([canonical_triangles(), *strips])


@cache
def _mouth_triangles() -> Tensor:
    """The triangles that touch the lips or lie between them `(n, 3)`."""
    lips = torch.cat([landmark_set(name) for name in ("lips_outer", "lips_outer_mid", "lips_inner_mid", "lips_inner")])
    return canonical_triangles()[torch.isin(canonical_triangles(), lips).any(1)]


def _extend(points: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Add the rings: target vertices `(b, v, 2)` and how far each reference's lie from them `(b, k, v, 2)`."""
    oval = contour("face_oval_ring").to(target.device)
    centre = target[:, oval].mean(1, keepdim=True)
    movement = points - target[:, None]
    vertices = [target] + [centre + size * (target[:, oval] - centre) for size, _ in RINGS]
    movements = [movement] + [share * movement[:, :, oval] for _, share in RINGS]
    return torch.cat(vertices, 1), torch.cat(movements, 2)


def _rasterise(vertices: Tensor, triangles: Tensor, shape: tuple[int, int]) -> tuple[Tensor, ...]:
    """Cells whose centre a triangle covers: frame, cell, triangle on top `(c,)`, barycentric weights `(c, 3)`.

    Only cells in a triangle's bounding box are tested. Where the turned-away side of the face folds over, a
    triangle that faces the camera wins over one that does not, and the face wins over the rings.
    """
    corners = vertices[:, triangles]  # (b, n, 3, 2)
    plane, area = _barycentric_planes(corners)
    rank = (2.0 * (area < 0) + (triangles < MESH_POINTS).all(1)).flatten()
    pair, column, row = _candidates(corners, area.abs() > FLAT, shape)
    plane = plane.flatten(0, 1)[pair]
    weight = plane[:, 0] * (column + 0.5)[:, None] + plane[:, 1] * (row + 0.5)[:, None] + plane[:, 2]
    lowest = weight.amin(1)
    inside = (lowest > -1e-3).nonzero()[:, 0]
    pair, weight = pair[inside], weight[inside].clamp_min(0)
    cells = shape[0] * shape[1]
    cell = pair // len(triangles) * cells + (row * shape[1] + column)[inside]
    top = _best(rank[pair] + lowest[inside], cell, len(vertices) * cells)
    pair, cell, weight = pair[top], cell[top], weight[top]
    return cell // cells, cell % cells, pair % len(triangles), weight / weight.sum(1, keepdim=True)


def _barycentric_planes(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Of triangles `(b, n, 3, 2)`: weights as planes over (x, y, 1) `(b, n, 3, 3)`, and signed double areas.

    The area is negative for triangles that face the camera, because y points down.
    """
    after, before = corners.roll(-1, 2), corners.roll(1, 2)
    edge = before - after
    area = cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    planes = torch.stack([-edge[..., 1], edge[..., 0], -cross(edge, after)], 2)
    return planes / area.where(area.abs() > FLAT, torch.ones_like(area))[..., None, None], area


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product of vectors `(..., 2)`: the double area of the triangle they span, negative where it faces us."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _candidates(corners: Tensor, solid: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Every (triangle, cell) whose cell centre lies in the triangle's box: flat triangle index, column, row."""
    limit = corners.new_tensor([shape[1], shape[0]])
    first = (corners.amin(2) - 0.5).ceil().clamp_min(0).minimum(limit)
    after = ((corners.amax(2) - 0.5).floor() + 1).clamp_min(0).minimum(limit)
    first, extent = first.long(), (after - first).clamp_min(0).long()
    count = (extent.prod(-1) * solid).flatten()
    pair = torch.repeat_interleave(count)
    step = torch.arange(len(pair), device=pair.device) - (count.cumsum(0) - count)[pair]
    first, width = first.flatten(0, 1)[pair], extent[..., 0].flatten()[pair]
    return pair, first[:, 0] + step % width, first[:, 1] + step // width


def _best(score: Tensor, cell: Tensor, cells: int) -> Tensor:
    """For every cell that occurs in `cell`, where its highest score stands (the last of equals)."""
    highest = score.new_full((cells,), -1).scatter_reduce(0, cell, score, "amax")
    first = (score == highest[cell]).nonzero()[:, 0]
    place = cell.new_full((cells,), -1).scatter_reduce(0, cell[first], first, "amax")
    return place[place >= 0]
