"""All that the nodes take from ComfyUI, and the only file that imports it (0.3.64 and newer).

What is made of it is in models.py, progress.py and files.py.
"""

from __future__ import annotations

import inspect
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.v0_0_2 import ComfyExtension, io
from torch import Tensor

__all__ = ["ComfyExtension", "ModelPatcher", "comfy", "folder_paths", "io"]

# Schemas: what an older host does not know is left out, here and nowhere else.


def schema(**fields: Any) -> io.Schema:
    """An `io.Schema` of the fields that the running host knows."""
    return io.Schema(**{name: value for name, value in fields.items() if name in io.Schema.__dataclass_fields__})


def field(kind: type, name: str, **options: Any) -> io.Input:
    """An input of type `kind` with the options that the running host knows."""
    known = inspect.signature(kind.Input).parameters
    return kind.Input(name, **{option: value for option, value in options.items() if option in known})


# Devices: the host decides.


def device() -> torch.device:
    """Where networks run."""
    return comfy.model_management.get_torch_device()


def picture_dtype() -> torch.dtype:
    """Precision for picture networks, on the host's advice."""
    return torch.bfloat16 if comfy.model_management.should_use_bf16(device()) else torch.float32


def to_host(tensor: Tensor) -> Tensor:
    """A result where the host wants results to be."""
    return tensor.to(comfy.model_management.intermediate_device())


def throw_if_cancelled() -> None:
    """Raise the host's own exception once the user has pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()
