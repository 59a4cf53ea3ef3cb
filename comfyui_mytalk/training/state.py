"""Everything a training needs to go on, in one safetensors file: tensors by path, and a JSON skeleton of all else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError
from ..output import write_aside


def save_state(path: Path, tree: dict[str, Any]) -> None:
    """Write a tree of dicts, lists, tensors and plain values; whole, or not at all."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_flatten(tree, "", tensors))
    with write_aside(path) as part:
        save_file(tensors, part, {"tree": text})


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote; raises InputError when the file is damaged or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            return _unflatten(json.loads((file.metadata() or {})["tree"]), file.get_tensor)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"cannot go on from {path} ({error}); remove it, or name another run folder") from error


def _flatten(tree: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The JSON skeleton of `tree`; its tensors go to `tensors` by path. Integer keys are written `#1`."""
    if isinstance(tree, Tensor):
        tensors[path] = tree.detach().cpu().clone().contiguous()
        return {"tensor": path}
    if isinstance(tree, dict):
        named = {f"#{key}" if isinstance(key, int) else key: value for key, value in tree.items()}
        return {"dict": {key: _flatten(value, f"{path}/{key}", tensors) for key, value in named.items()}}
    if isinstance(tree, (list, tuple)):
        return [_flatten(value, f"{path}/{index}", tensors) for index, value in enumerate(tree)]
    return tree


def _unflatten(tree: Any, tensor: Any) -> Any:
    if isinstance(tree, list):
        return [_unflatten(value, tensor) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        return tensor(tree["tensor"])
    items = ((int(key[1:]) if key.startswith("#") else key, value) for key, value in tree["dict"].items())
    return {key: _unflatten(value, tensor) for key, value in items}
