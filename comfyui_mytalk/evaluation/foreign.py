"""Checkpoints of other programs, read as tensors only. Our own are safetensors (`checkpoints.py`)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import InputError


def read_state(path: str | Path, what: str) -> dict[str, Tensor]:
    """The state dict in a safetensors or torch file; no code in it can run (`weights_only`).

    Raises InputError that names `what` was expected, when there is no such file, or it holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no {what} at {path}; give the path of the file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a foreign file can fail in any way
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no {what} that can be read: {reason}") from error
