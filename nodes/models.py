"""Model files: where they are, which there are, and the networks made of them, which the host moves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..comfyui_mytalk.checkpoints import find_weights, list_weights, register_weights_folder
from ..comfyui_mytalk.errors import InputError
from .checks import named
from .host import ModelPatcher, comfy, folder_paths

FOLDER = "mytalk"  # models/mytalk, and its name in extra_model_paths.yaml
AUDIO_ENCODERS = "audio_encoders"  # the host's own folder of wav2vec 2.0 files
SUFFIX = ".safetensors"  # the only files that are read: others can run code


def register_folders() -> None:
    """Add models/mytalk to the host's folders, and all of the host's folders of that name to the library's."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    folder_paths.folder_names_and_paths[FOLDER][1].add(SUFFIX)
    for folder in reversed(folder_paths.get_folder_paths(FOLDER)):
        register_weights_folder(folder)


def model_names(kind: str) -> list[str]:
    """Choices of a model widget: the shipped weights first, even when their file is missing."""
    shipped = f"{kind}_small"
    return [shipped, *(name for name in list_weights(kind) if name != shipped)]


def speech_encoder_names() -> list[str]:
    """Our encoders, Hugging Face folders in models/mytalk, and safetensors files in models/audio_encoders."""
    roots = [Path(root) for root in folder_paths.get_folder_paths(FOLDER)]
    folders = sorted({path.parent.name for root in roots for path in root.glob("*/config.json")})
    known = AUDIO_ENCODERS in folder_paths.folder_names_and_paths
    files = folder_paths.get_filename_list(AUDIO_ENCODERS) if known else []
    readable = [name for name in files if name.endswith(SUFFIX)]  # the host lists .pt and others there as well
    return list(dict.fromkeys([*model_names("speech"), *folders, *readable]))


def model_path(kind: str, name: str) -> Path:
    """File or folder of a model widget's choice; raises InputError that says where it should be."""
    if kind == "speech":
        for root in folder_paths.get_folder_paths(FOLDER):
            if (Path(root) / name / "config.json").is_file():
                return Path(root) / name
        if AUDIO_ENCODERS in folder_paths.folder_names_and_paths and name.endswith(SUFFIX):
            path = folder_paths.get_full_path(AUDIO_ENCODERS, name)
            if path is not None:
                return Path(path)
    return find_weights(name, kind)


def missing_models(*always: tuple[str, str], **chosen: tuple[str, str | None]) -> bool | str:
    """For `validate_inputs`: True, or which file is missing, of those `always` needed and of those `chosen` in inputs.

    Both are kinds and names. A name that comes through a link is not known yet: None. The host repeats the text for
    every input that `validate_inputs` names.
    """
    try:
        for kind, name in always:
            model_path(kind, name)
        for role, (kind, name) in chosen.items():
            with named(role):
                if name is not None:
                    model_path(kind, name)
    except InputError as error:
        return str(error)
    return True


_networks: dict[str, tuple[tuple[Any, ...], ModelPatcher]] = {}


def network(
    kind: str,
    name: str,
    load: Callable[[str], nn.Module],
    dtype: torch.dtype | None = None,
    memory: int = 0,
    variant: str = "",
) -> nn.Module:
    """The network `name` on the host's device; `memory` is what a run needs beside the weights, in bytes."""
    return on_device(held(kind, name, load, dtype, variant), memory)


def held(
    kind: str, name: str, load: Callable[[str], nn.Module], dtype: torch.dtype | None = None, variant: str = ""
) -> ModelPatcher:
    """The network `name` wherever the host has it, read by `load(path)` at first use.

    One network of each kind is kept, and the host may move it out of the way between uses. `variant` tells networks
    apart that `load` makes of one file.
    """
    path = model_path(kind, name)
    stat = path.stat()
    key = (str(path), stat.st_mtime_ns, stat.st_size, dtype, variant)
    if _networks.get(kind, (None,))[0] != key:
        _networks.pop(kind, None)
        _networks[kind] = (key, patcher(load(str(path)).eval().to(dtype or torch.float32)))
    return _networks[kind][1]


def patcher(model: nn.Module) -> ModelPatcher:
    """A plain network as the host moves and counts it."""
    management = comfy.model_management
    return ModelPatcher(model, management.get_torch_device(), management.unet_offload_device())


def on_device(model: ModelPatcher, memory: int = 0) -> nn.Module:
    """The network of a patcher, loaded. Whole, because plain layers cannot be moved one by one."""
    comfy.model_management.load_models_gpu([model], memory_required=memory, force_full_load=True)
    return model.model
