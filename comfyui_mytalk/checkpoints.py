"""Weights on disk: safetensors with their configuration in the metadata, and how they are found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import InputError
from .output import write_aside

SHIPPED = Path(__file__).resolve().parent.parent / "weights"
FORMAT = "comfyui-mytalk"
TRAIN_COMMAND = {
    "face": "python scripts/convert_face_landmarks.py",
    "speech": "python -m scripts.convert_speech_encoder",
    "identity": "python -m comfyui_mytalk train identity",
    "motion": "python -m comfyui_mytalk train motion",
    "appearance": "python -m comfyui_mytalk train appearance",
    "occlusion": "python -m comfyui_mytalk train occlusion",
    "sync_judge": "python -m comfyui_mytalk train sync-judge",
    "tuned": "python -m comfyui_mytalk tune VIDEO -o FILE",
}
_folders: list[Path] = [SHIPPED]
Network = TypeVar("Network", bound=nn.Module)
Params = TypeVar("Params")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: `state` tensors, `config` of the network, free-text `info`, file hash and path."""

    state: dict[str, Tensor]
    config: dict[str, Any]
    info: dict[str, str]
    sha256: str
    path: Path


def register_weights_folder(folder: str | Path) -> None:
    """Search `folder` (the host's models/mytalk, for example) before the shipped weights."""
    path = Path(folder)
    if path not in _folders:
        _folders.insert(0, path)


def weights_folders() -> list[Path]:
    """Where weights are looked for, first match wins."""
    return list(_folders)


def list_weights(kind: str) -> list[str]:
    """Names (without extension) of the checkpoints of `kind` in the weights folders, shipped ones last."""
    names = [f.stem for folder in _folders if folder.is_dir() for f in sorted(folder.glob(f"{kind}_*.safetensors"))]
    return list(dict.fromkeys(names))


def find_weights(name: str | Path, kind: str) -> Path:
    """Path of the checkpoint `name`: a file, or a name in one of the weights folders.

    Raises InputError that says which file is missing, where to put it and how to train it, or that the file is of a
    format that is not read.
    """
    if Path(name).suffix == ".safetensors" and Path(name).is_file():
        return Path(name)
    if Path(name).name != str(name):
        _refuse_other_format(name, kind)
        raise InputError(f"{kind} weights not found at {name}; give the name of shipped weights or the right path")
    file = f"{Path(name).name.removesuffix('.safetensors')}.safetensors"
    for folder in _folders:
        if (folder / file).is_file():
            return folder / file
    _refuse_other_format(name, kind)
    raise InputError(f"{kind} weights {file} not found: {_remedy(file, kind)}")


def _remedy(file: str, kind: str) -> str:
    """What to do about a missing file, the easiest first."""
    places, shipped = " or ".join(str(folder) for folder in _folders), _shipped(kind)
    found = f"put the file into {places}"
    if file == f"{shipped}.safetensors":
        found = f"it comes with the pack, install that again, or {found}"
    elif shipped:
        found += f", or choose {shipped}, which comes with the pack"
    return f"{found} (to make your own: `{TRAIN_COMMAND[kind]}`, see weights/README.md)"


def _shipped(kind: str) -> str:
    """Name of the weights of `kind` that come with the pack, if any do."""
    return {"face": "face_landmarks", "tuned": ""}.get(kind, f"{kind}_small")


def _refuse_other_format(name: str | Path, kind: str) -> None:
    """Raise InputError when `name` is a file: not a .safetensors one, or it would have been found."""
    if Path(name).is_file():
        raise InputError(
            f"got {kind} weights {name}, only .safetensors files are read: convert the file, or train again"
        )


def save_checkpoint(
    path: str | Path, state: dict[str, Tensor], kind: str, config: dict[str, Any], info: dict[str, str] | None = None
) -> None:
    """Write aside and rename, so that an interrupted run never leaves half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "kind": kind, "config": json.dumps(config), "info": json.dumps(info or {})}
    with write_aside(path) as part:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, part, metadata)


def load_checkpoint(path: str | Path, kind: str) -> Checkpoint:
    """Read a checkpoint of `kind`; raises InputError when the file is unreadable or of another kind."""
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read weights {path}: {error}; download or train them again") from error
    if metadata.get("format") != FORMAT or metadata.get("kind") != kind:
        ours = metadata.get("format") == FORMAT and "kind" in metadata
        found, shipped = f"{metadata['kind']} weights" if ours else "a file of another program", _shipped(kind)
        other = f"choose {shipped} or another" if shipped else "choose another"
        raise InputError(f"got {found} in {path}, expected {kind} weights: {other} file of that kind")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with of_this_version(path):
        return Checkpoint(state, json.loads(metadata["config"]), json.loads(metadata["info"]), digest, path)


def build_network(checkpoint: Checkpoint, build: Callable[[dict[str, Any]], Network]) -> Network:
    """The network that `build` makes of the checkpoint's configuration, with the checkpoint's weights.

    Half precision on disk becomes what the network has. Raises InputError, which names the file, when configuration or
    tensors are not those of this version's network.
    """
    with of_this_version(checkpoint.path):
        network = build(checkpoint.config)
        network.load_state_dict(checkpoint.state)
    return network


def params_from(kind: type[Params], config: dict[str, Any]) -> Params:
    """The sizes of a network, a dataclass `kind`, from its configuration; JSON knows no tuples."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in config.items()})


def of_this_version(file: Path | str) -> AbstractContextManager[None]:
    """Turn what goes wrong when a checkpoint does not fit the code into InputError that names the `file`."""
    return fitting(file, "were made by another version of the pack", "update the pack, or train again")


@contextmanager
def fitting(file: Path | str, problem: str, remedy: str) -> Iterator[None]:
    """Turn what goes wrong when weights do not fit a network into InputError: the `file`, its `problem`, a `remedy`."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, LookupError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the weights {file} {problem} ({reason}): {remedy}") from error
