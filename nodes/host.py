"""All that the nodes take from ComfyUI, and the only file that imports it (0.3.64 and newer)."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.v0_0_2 import ComfyExtension, io
from PIL import Image
from torch import Tensor, nn

from ..comfyui_mytalk.checkpoints import find_weights, list_weights, register_weights_folder
from ..comfyui_mytalk.errors import InputError

__all__ = ["ComfyExtension", "io"]

logger = logging.getLogger(__name__)
FOLDER = "mytalk"  # models/mytalk, and its name in extra_model_paths.yaml
AUDIO_ENCODERS = "audio_encoders"  # the host's own folder of wav2vec 2.0 files
STEPS = 1000  # resolution of a progress bar
PREVIEWS = 20  # pictures per stage: enough to watch, too few to slow it down
PREVIEW_SIDE = 512  # pixels
Show = Callable[[int], Tensor]
Result = TypeVar("Result")

# Schemas: what an older host does not know is left out, here and nowhere else.


def schema(**fields: Any) -> io.Schema:
    """An `io.Schema` of the fields that the running host knows."""
    return io.Schema(**{name: value for name, value in fields.items() if name in io.Schema.__dataclass_fields__})


def field(kind: type, name: str, **options: Any) -> io.Input:
    """An input of type `kind` with the options that the running host knows."""
    known = inspect.signature(kind.Input).parameters
    return kind.Input(name, **{option: value for option, value in options.items() if option in known})


# Folders and model files.


def register_folders() -> None:
    """Add models/mytalk to the host's folders, and all of the host's folders of that name to the library's."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    folder_paths.folder_names_and_paths[FOLDER][1].add(".safetensors")
    for folder in reversed(folder_paths.get_folder_paths(FOLDER)):
        register_weights_folder(folder)


def model_names(kind: str) -> list[str]:
    """Choices of a model widget: the shipped weights first, even when their file is missing."""
    shipped = f"{kind}_small"
    return [shipped, *(name for name in list_weights(kind) if name != shipped)]


def speech_encoder_names() -> list[str]:
    """Our encoders, Hugging Face folders in models/mytalk, and files in models/audio_encoders."""
    roots = [Path(root) for root in folder_paths.get_folder_paths(FOLDER)]
    folders = sorted({path.parent.name for root in roots for path in root.glob("*/config.json")})
    known = AUDIO_ENCODERS in folder_paths.folder_names_and_paths
    files = folder_paths.get_filename_list(AUDIO_ENCODERS) if known else []
    return list(dict.fromkeys([*model_names("speech"), *folders, *files]))


def model_path(kind: str, name: str) -> Path:
    """File or folder of a model widget's choice; raises InputError that says where it should be."""
    if kind == "speech":
        for root in folder_paths.get_folder_paths(FOLDER):
            if (Path(root) / name / "config.json").is_file():
                return Path(root) / name
        if AUDIO_ENCODERS in folder_paths.folder_names_and_paths:
            path = folder_paths.get_full_path(AUDIO_ENCODERS, name)
            if path is not None:
                return Path(path)
    return find_weights(name, kind)


def missing_models(**names: str | None) -> bool | str:
    """For `validate_inputs`: True, or what is missing. A name that comes through a link is not known yet: None."""
    for kind, name in names.items():
        try:
            if name is not None:
                model_path(kind, name)
        except InputError as error:
            return str(error)
    return True


# Networks: the host decides where they are.

_networks: dict[str, tuple[tuple[Any, ...], ModelPatcher]] = {}


def network(
    kind: str,
    name: str,
    load: Callable[[str], nn.Module],
    dtype: torch.dtype | None = None,
    memory: int = 0,
    variant: str = "",
) -> nn.Module:
    """The network `name` on the host's device, read by `load(path)` at first use.

    One network of each kind is kept, and the host may move it out of the way between uses. `memory` is what a run
    needs beside the weights, in bytes. `variant` tells networks apart that `load` makes of one file.
    """
    path = model_path(kind, name)
    stat = path.stat()
    key = (str(path), stat.st_mtime_ns, stat.st_size, dtype, variant)
    if _networks.get(kind, (None,))[0] != key:
        _networks.pop(kind, None)
        _networks[kind] = (key, patcher(load(str(path)).eval().to(dtype or torch.float32)))
    return on_device(_networks[kind][1], memory)


def patcher(model: nn.Module) -> ModelPatcher:
    """A plain network as the host moves and counts it."""
    management = comfy.model_management
    return ModelPatcher(model, management.get_torch_device(), management.unet_offload_device())


def on_device(model: ModelPatcher, memory: int = 0) -> nn.Module:
    """The network of a patcher, loaded. Whole, because plain layers cannot be moved one by one."""
    comfy.model_management.load_models_gpu([model], memory_required=memory, force_full_load=True)
    return model.model


def device() -> torch.device:
    """Where networks run."""
    return comfy.model_management.get_torch_device()


def picture_dtype() -> torch.dtype:
    """Precision for picture networks, on the host's advice."""
    return torch.bfloat16 if comfy.model_management.should_use_bf16(device()) else torch.float32


def halving(run: Callable[[slice], None], total: int, batch: int, progress: Progress | None = None) -> None:
    """Call `run` on slices of `range(total)`; a slice that runs out of memory is run again in halves."""
    start = 0
    while start < total:
        part = slice(start, min(start + batch, total))
        try:
            run(part)
        except comfy.model_management.OOM_EXCEPTION:
            batch = halved(batch)
            continue
        start = part.stop
        if progress is not None:
            progress(start, total)


def retrying(run: Callable[[int], Result], batch: int, least: int = 1) -> Result:
    """`run(batch)`; when it runs out of memory it is run again with half of that, down to `least`."""
    while True:
        try:
            return run(batch)
        except comfy.model_management.OOM_EXCEPTION:
            batch = halved(batch, least)


def halved(batch: int, least: int = 1) -> int:
    """Half of a batch that did not fit; raises the host's error again when that is less than `least`."""
    if batch // 2 < least:
        raise
    logger.warning("out of memory: going on with %d at a time", batch // 2)
    comfy.model_management.soft_empty_cache()
    return batch // 2


def throw_if_cancelled() -> None:
    """Raise the host's own exception once the user has pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


class Progress:
    """The library's `progress(done, total)`: moves a share of the node's bar, and raises when the user cancels.

    `show(frame)` gives a picture `(h, w, 3)` of what was just done, for a preview on the node.
    """

    def __init__(
        self,
        bar: comfy.utils.ProgressBar | None = None,
        start: float = 0.0,
        stop: float = 1.0,
        show: Show | None = None,
    ) -> None:
        self.bar = bar or comfy.utils.ProgressBar(STEPS)
        self.start, self.stop, self.show, self.shown = start, stop, show, 0

    def part(self, start: float, stop: float) -> Progress:
        """A stage that takes the bar from `start` to `stop`, both 0..1 of this one."""
        length = self.stop - self.start
        return Progress(self.bar, self.start + length * start, self.start + length * stop)

    def showing(self, show: Show) -> Progress:
        """The same share of the bar, with previews."""
        return Progress(self.bar, self.start, self.stop, show)

    def __call__(self, done: int, total: int) -> None:
        throw_if_cancelled()
        share = done / max(total, 1)
        value = round(STEPS * (self.start + (self.stop - self.start) * share))
        self.bar.update_absolute(value, STEPS, self.preview(done, share))

    def preview(self, done: int, share: float) -> tuple[str, Image.Image, int] | None:
        """What the host sends to the node: one of at most `PREVIEWS` pictures per stage."""
        if self.show is None or done < 1 or int(share * PREVIEWS) <= self.shown:
            return None
        self.shown = int(share * PREVIEWS)
        picture = self.show(done - 1).detach()[..., :3].cpu()
        step = max(1, max(picture.shape[:2]) // PREVIEW_SIDE)
        picture = picture[::step, ::step]
        if picture.is_floating_point():
            picture = (picture.float().clamp(0, 1) * 255).round().byte()
        return "JPEG", Image.fromarray(picture.numpy()), PREVIEW_SIDE


# Results and files.


def to_host(tensor: Tensor) -> Tensor:
    """A result where the host wants results to be."""
    return tensor.to(comfy.model_management.intermediate_device())


def output_folder() -> Path:
    """Our folder in the host's output folder, which need not be there yet."""
    return Path(folder_paths.get_output_directory()) / FOLDER


def input_files(*kinds: str) -> list[str]:
    """Names of the audio or video files in the host's input folder."""
    folder = folder_paths.get_input_directory()
    names = [entry.name for entry in os.scandir(folder) if entry.is_file()] if os.path.isdir(folder) else []
    return sorted(folder_paths.filter_files_content_types(names, list(kinds)))


def input_path(name: str) -> Path:
    """Path of a file in the input folder (or `name [output]`, `name [temp]`); raises InputError when it is missing."""
    if not folder_paths.exists_annotated_filepath(name):
        raise InputError(f"file: {name} is not in {folder_paths.get_input_directory()}; put it there or choose another")
    return Path(folder_paths.get_annotated_filepath(name))
