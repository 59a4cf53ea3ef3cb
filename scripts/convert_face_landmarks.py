"""Convert MediaPipe's face detector and attention mesh (Apache-2.0) to `weights/face_landmarks.safetensors`.

    python scripts/convert_face_landmarks.py mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl

Reads the two tflite files out of the wheel (a zip; mediapipe need not be installed), keeps the weights in
their stored float16, and writes each graph as a list of operations into the checkpoint's configuration.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from comfyui_mytalk.checkpoints import save_checkpoint  # noqa: E402

MODELS = {
    "detector": "mediapipe/modules/face_detection/face_detection_short_range.tflite",
    "mesh": "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite",
}
# Index lists of the refined regions, in the order of the model's outputs (MediaPipe, face_landmarks_to refinement).
LIPS = [
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
    76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408,
    62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407,
]  # fmt: skip
EYE_RIGHT = [
    33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173, 130, 25, 110, 24, 23, 22, 26, 112,
    243, 247, 30, 29, 27, 28, 56, 190, 226, 31, 228, 229, 230, 231, 232, 233, 244, 113, 225, 224, 223, 222, 221, 189,
    35, 124, 46, 53, 52, 65, 143, 111, 117, 118, 119, 120, 121, 128, 245, 156, 70, 63, 105, 66, 107, 55, 193,
]  # fmt: skip
EYE_LEFT = [
    263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398, 359, 255, 339, 254, 253, 252, 256,
    341, 463, 467, 260, 259, 257, 258, 286, 414, 446, 261, 448, 449, 450, 451, 452, 453, 464, 342, 445, 444, 443, 442,
    441, 413, 265, 353, 276, 283, 282, 295, 372, 340, 346, 347, 348, 349, 350, 357, 465, 383, 300, 293, 334, 296, 336,
    285, 417,
]  # fmt: skip
REGIONS = [  # points, and the two whose line gives the region's rotation
    {"points": LIPS, "axis": [61, 291]},
    {"points": EYE_RIGHT, "axis": [33, 133]},
    {"points": EYE_LEFT, "axis": [362, 263]},
]
KINDS = {
    0: "add", 2: "cat", 3: "conv", 4: "depthwise", 6: "dequantize", 17: "max_pool", 18: "mul", 19: "relu",
    22: "reshape", 32: "custom", 34: "pad", 45: "slice", 54: "prelu",
}  # fmt: skip
CUSTOM = {
    "Landmarks2TransformMatrix": "region_matrix",
    "TransformTensorBilinear": "region_crop",
    "TransformLandmarks": "region_project",
}
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}
ACTIVATIONS = {0: None, 1: "relu"}
CHANNELS_FIRST = {0: 0, 1: 2, 2: 3, 3: 1}  # axis of an NHWC tensor -> axis of the same tensor as NCHW


class Table:
    """One table of a flatbuffer; fields are read by their slot in the schema."""

    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at
        self.vtable = at - struct.unpack_from("<i", data, at)[0]
        self.vtable_size = struct.unpack_from("<H", data, self.vtable)[0]

    def _field(self, slot: int) -> int:
        entry = 4 + 2 * slot
        offset = struct.unpack_from("<H", self.data, self.vtable + entry)[0] if entry < self.vtable_size else 0
        return self.at + offset if offset else 0

    def scalar(self, slot: int, code: str) -> int:
        at = self._field(slot)
        return struct.unpack_from("<" + code, self.data, at)[0] if at else 0

    def table(self, slot: int) -> Table:
        at = self._field(slot)
        return Table(self.data, at + struct.unpack_from("<I", self.data, at)[0])

    def _vector(self, slot: int) -> tuple[int, int]:
        at = self._field(slot)
        if not at:
            return 0, 0
        start = at + struct.unpack_from("<I", self.data, at)[0]
        return start + 4, struct.unpack_from("<I", self.data, start)[0]

    def tables(self, slot: int) -> list[Table]:
        start, count = self._vector(slot)
        at = range(start, start + 4 * count, 4)
        return [Table(self.data, i + struct.unpack_from("<I", self.data, i)[0]) for i in at]

    def array(self, slot: int, dtype: Any) -> np.ndarray:
        start, count = self._vector(slot)
        return np.frombuffer(self.data, dtype, count, start)

    def text(self, slot: int) -> str:
        return self.array(slot, np.uint8).tobytes().decode()


def attributes(kind: str, entry: Table) -> dict[str, Any]:
    """The options of one operation that we interpret, by their slots in the tflite schema."""
    if kind not in ("conv", "depthwise", "max_pool", "add", "cat"):
        return {}
    options = entry.table(4)
    if kind in ("conv", "depthwise"):
        activation = ACTIVATIONS[options.scalar(3 if kind == "conv" else 4, "b")]
        stride = [options.scalar(2, "i"), options.scalar(1, "i")]
        return {"same": options.scalar(0, "b") == 0, "stride": stride, "activation": activation}
    if kind == "max_pool":
        stride, size = (
            [options.scalar(2, "i"), options.scalar(1, "i")],
            [options.scalar(4, "i"), options.scalar(3, "i")],
        )
        return {"same": options.scalar(0, "b") == 0, "stride": stride, "size": size}
    if kind == "add":
        return {"activation": ACTIVATIONS[options.scalar(0, "b")]}
    return {"axis": options.scalar(0, "i")}


def weight(value: np.ndarray, kind: str, rank: int) -> Tensor:
    """A constant in torch's layout: OHWI -> OIHW, 1HWC -> C1HW, per-channel slopes -> (c,), NHWC -> NCHW."""
    tensor = torch.from_numpy(value.copy())
    if kind == "prelu":
        return tensor.flatten()
    order = {"conv": (0, 3, 1, 2), "depthwise": (3, 0, 1, 2)}.get(kind, (0, 3, 1, 2))
    return tensor.permute(order).contiguous() if rank == 4 else tensor


def read_constants(tensors: list[Table], buffers: list[Table]) -> dict[int, np.ndarray]:
    """Tensors that the file holds values for, by tensor number."""
    constants = {}
    for index, tensor in enumerate(tensors):
        raw = buffers[tensor.scalar(2, "I")].array(0, np.uint8)
        if raw.size:
            constants[index] = raw.view(DTYPES[tensor.scalar(1, "b")]).reshape(tensor.array(0, np.int32))
    return constants


def read_graph(data: bytes, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A tflite file -> (graph configuration, weights named `<name>.<tensor>`)."""
    model = Table(data, struct.unpack_from("<I", data, 0)[0])
    kinds = [operation_kind(code) for code in model.tables(1)]
    graph, buffers = model.tables(2)[0], model.tables(4)
    shapes = [tensor.array(0, np.int32).tolist() for tensor in graph.tables(0)]
    constants = read_constants(graph.tables(0), buffers)
    operations: list[dict[str, Any]] = []
    weights, renamed = {}, {}
    for entry in graph.tables(3):
        kind = kinds[entry.scalar(0, "I")]
        inputs, output = entry.array(1, np.int32).tolist(), entry.array(2, np.int32).tolist()[0]
        if kind == "dequantize":
            constants[output] = constants[inputs[0]]
            continue
        operation = {"kind": kind, "output": output, **attributes(kind, entry)}
        if kind == "slice":  # the only one takes all 1404 of 1404 numbers
            assert shapes[inputs[0]] == shapes[output]
            renamed[output] = inputs[0]
            continue
        if kind == "pad":
            operation["channels"], inputs = padded_channels(constants[inputs[1]]), inputs[:1]
        elif kind == "reshape":
            operation["shape"], inputs = shapes[output][1:], inputs[:1]
        elif kind == "region_matrix":
            operation["region"] = sum(done["kind"] == kind for done in operations)
        if kind == "cat" and len(shapes[output]) == 4:
            operation["axis"] = CHANNELS_FIRST[operation["axis"] % 4]
        for index in inputs:
            if index in constants:
                weights[f"{name}.{index}"] = weight(constants[index], kind, len(shapes[index]))
        operations.append({**operation, "inputs": inputs})
    outputs = [renamed.get(index, index) for index in graph.array(2, np.int32).tolist()]
    return {"input": graph.array(1, np.int32).tolist()[0], "outputs": outputs, "operations": operations}, weights


def padded_channels(padding: np.ndarray) -> int:
    """Zero channels appended by a PAD; these models pad nothing else."""
    assert padding.sum() == padding[3, 1]
    return int(padding[3, 1])


def operation_kind(code: Table) -> str:
    """Our name of an operator code."""
    kind = KINDS[max(code.scalar(0, "b"), code.scalar(3, "i"))]
    return CUSTOM[code.text(1)] if kind == "custom" else kind


def convert(wheel: Path, out: Path) -> None:
    """Write both graphs of `wheel` into one checkpoint of kind `face`."""
    config: dict[str, Any] = {"regions": REGIONS}
    info = {"source": wheel.name, "licence": "Apache-2.0"}
    state: dict[str, Tensor] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, member in MODELS.items():
            data = archive.read(member)
            config[name], weights = read_graph(data, name)
            state |= weights
            info[f"{name}_sha256"] = hashlib.sha256(data).hexdigest()
    save_checkpoint(out, state, "face", config, info)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="a mediapipe 0.10.21 wheel (only read)")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "weights" / "face_landmarks.safetensors")
    arguments = parser.parse_args()
    convert(arguments.wheel, arguments.out)
    digest = hashlib.sha256(arguments.out.read_bytes()).hexdigest()
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
