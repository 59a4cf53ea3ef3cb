"""Runs a network that is stored as a list of operations, as `scripts/convert_face_landmarks.py` writes them.

    b batch   c h w feature map   n points

The list is a configuration, not a program: fourteen operations, each one line of torch. Feature maps are
`(b, c, h, w)`; a reshape reads them in the `(b, h, w, c)` order of the framework they came from.
The three region operations are those of attention mesh (Grishchenko et al., arXiv 2006.10962, sec. 3):
a spatial transformer cuts lips and eyes out of a shared feature map for the refinement heads.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REGION_SIZE = 16  # side of a region's feature crop
REGION_MARGIN = 1.5  # its extent over that of the region's points


class Graph(nn.Module):
    """A stored network; `forward` takes pictures `(b, 3, s, s)` and returns its outputs, each `(b, …)`."""

    def __init__(self, config: dict[str, Any], weights: dict[str, Tensor], regions: list[dict[str, Any]]):
        super().__init__()
        self.input, self.outputs = config["input"], config["outputs"]
        self.operations, self.regions = config["operations"], regions
        for name, value in weights.items():
            self.register_buffer(f"w{name}", value.float())
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU for these thin layers
        self.finished = last_uses(self.operations, self.outputs)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        values: dict[int, Tensor] = {self.input: pictures.contiguous(memory_format=torch.channels_last)}
        for operation, finished in zip(self.operations, self.finished, strict=True):
            inputs = [values[i] if i in values else getattr(self, f"w{i}") for i in operation["inputs"]]
            values[operation["output"]] = self.apply_operation(operation, inputs)
            for index in finished:
                values.pop(index, None)
        return [as_last(values[i]).flatten(1) if values[i].ndim == 4 else values[i] for i in self.outputs]

    def apply_operation(self, operation: dict[str, Any], inputs: list[Tensor]) -> Tensor:
        """One operation; its `kind` names it."""
        x = inputs[0]
        match operation["kind"]:
            case "conv" | "depthwise":
                return activate(convolve(operation, *inputs), operation["activation"])
            case "prelu":
                return F.prelu(x, inputs[1])
            case "relu":
                return F.relu(x)
            case "add":
                return activate(x + inputs[1], operation["activation"])
            case "mul":
                return x * inputs[1]
            case "max_pool":
                size, stride = operation["size"], operation["stride"]
                return F.max_pool2d(pad_by(x, same_padding(x, size, operation), -math.inf), size, stride)
            case "pad":
                return F.pad(x, (0, 0, 0, 0, 0, operation["channels"]))
            case "reshape":
                return reshape(x, operation["shape"])
            case "cat":
                return torch.cat(inputs, operation["axis"])
            case "region_matrix":
                return region_matrix(x, **self.regions[operation["region"]])
            case "region_crop":
                return region_crop(*inputs)
            case "region_project":
                return region_project(*inputs)
        raise ValueError(f"got operation {operation['kind']!r}, which this version does not know")


def last_uses(operations: list[dict[str, Any]], outputs: list[int]) -> list[list[int]]:
    """Per operation, the values nobody reads after it: they are freed there."""
    last = {index: number for number, operation in enumerate(operations) for index in operation["inputs"]}
    finished: list[list[int]] = [[] for _ in operations]
    for index, number in last.items():
        if index not in outputs:
            finished[number].append(index)
    return finished


def activate(x: Tensor, name: str | None) -> Tensor:
    return F.relu(x) if name == "relu" else x


def convolve(operation: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    groups = weight.shape[0] if operation["kind"] == "depthwise" else 1
    down, right = same_padding(x, weight.shape[-2:], operation)
    if down % 2 == right % 2 == 0:  # the convolution pads by itself, without a copy of the whole map
        return F.conv2d(x, weight, bias, operation["stride"], (down // 2, right // 2), groups=groups)
    return F.conv2d(pad_by(x, (down, right), 0.0), weight, bias, operation["stride"], groups=groups)


def same_padding(x: Tensor, size: Any, operation: dict[str, Any]) -> tuple[int, int]:
    """Rows and columns that TensorFlow's "same" padding adds."""
    if not operation["same"]:
        return 0, 0
    rows, columns = (
        max((math.ceil(extent / stride) - 1) * stride + kernel - extent, 0)
        for extent, kernel, stride in zip(x.shape[-2:], size, operation["stride"], strict=True)
    )
    return rows, columns


def pad_by(x: Tensor, extra: tuple[int, int], value: float) -> Tensor:
    """`extra` rows and columns around `x (b, c, h, w)`, the odd one at the bottom and right as TensorFlow has it."""
    if not any(extra):
        return x
    rows, columns = extra
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), value=value)


def as_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def reshape(x: Tensor, shape: list[int]) -> Tensor:
    y = (as_last(x) if x.ndim == 4 else x).reshape(len(x), *shape)
    return y.permute(0, 3, 1, 2) if y.ndim == 4 else y


def region_matrix(landmarks: Tensor, points: list[int], axis: list[int]) -> Tensor:
    """Affine map `(b, 4, 4)` from a region's `REGION_SIZE` crop to its place among `landmarks (b, n, 3)`.

    The crop is turned by the line between the two `axis` points and fits the region's `points` with a margin.
    """
    xy = landmarks[..., :2]
    along = xy[:, axis[1]] - xy[:, axis[0]]
    angle = -torch.atan2(along[:, 1], along[:, 0])
    c, s = angle.cos(), angle.sin()
    rotation = torch.stack([c, -s, s, c], -1).view(-1, 2, 2)
    upright = xy[:, points] @ rotation.mT
    low, high = upright.amin(1), upright.amax(1)
    centre = (((low + high) / 2)[:, None] @ rotation)[:, 0]
    linear = rotation.mT * (REGION_MARGIN * (high - low) / REGION_SIZE)[:, None]
    matrix = torch.eye(4, device=xy.device, dtype=xy.dtype).repeat(len(xy), 1, 1)
    matrix[:, :2, :2] = linear
    matrix[:, :2, 3] = centre - linear.sum(-1) * (REGION_SIZE / 2)
    return matrix


def region_crop(features: Tensor, matrix: Tensor) -> Tensor:
    """Bilinear crop `(b, c, 16, 16)` of `features (b, c, h, w)`; zero wherever the place is outside the map."""
    limit = matrix.new_tensor([features.shape[-1] - 1, features.shape[-2] - 1])
    i = torch.arange(REGION_SIZE, device=features.device, dtype=features.dtype) + 0.5
    y, x = torch.meshgrid(i, i, indexing="ij")
    place = torch.stack([x, y], -1) @ matrix[:, None, :2, :2].mT + matrix[:, None, None, :2, 3] - 0.5
    crop = F.grid_sample(features, 2 * place / limit - 1, mode="bilinear", padding_mode="zeros", align_corners=True)
    return crop * ((place >= 0) & (place <= limit)).all(-1)[:, None]


def region_project(points: Tensor, matrix: Tensor) -> Tensor:
    """Points `(b, n, 2)` of a region crop -> where they are among all landmarks."""
    return points @ matrix[:, :2, :2].mT + matrix[:, None, :2, 3]
