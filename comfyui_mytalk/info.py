"""What is installed, which device would be used and which weights are found: what a bug report should contain."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from .checkpoints import FORMAT, TRAIN_COMMAND, weights_folders
from .devices import pick_device, pick_dtype
from .options import SyncOptions

PACKAGES = ("torch", "torchaudio", "transformers", "safetensors", "av", "numpy", "scipy", "Pillow")
ALWAYS_NEEDED = ("face_landmarks", "sync_judge_small")  # what finds faces, and the judge of `evaluate`


def describe() -> Iterator[str]:
    """The lines of the report."""
    yield f"mytalk {installed('mytalk')}, Python {platform.python_version()}, {platform.platform()}"
    yield ", ".join(f"{name} {installed(name)}" for name in PACKAGES)
    yield from _device()
    found = set()
    for folder in weights_folders():
        files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
        yield f"weights in {folder}:" + ("" if files else " none")
        yield from (f"  {_checkpoint(file)}" for file in files)
        found |= {file.stem for file in files}
    yield from _missing(found)


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def expected_weights() -> list[str]:
    """Names of the weights that the pack ships: the defaults of `sync`, which are called KIND_…, and two more."""
    defaults = (option.default for option in fields(SyncOptions))
    kinds = tuple(f"{kind}_" for kind in TRAIN_COMMAND)
    return [*ALWAYS_NEEDED, *(name for name in defaults if isinstance(name, str) and name.startswith(kinds))]


def _missing(found: set[str]) -> Iterator[str]:
    try:
        import_module(".sync", __package__)  # it imports nearly everything
    except ImportError as error:  # a broken installation is what reports are written about
        yield f"cannot import the pipeline: {error}"
        return
    yield from (f"missing: {name}.safetensors" for name in expected_weights() if name not in found)


def _device() -> Iterator[str]:
    device = pick_device("auto")
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    yield f"device {device}{name}, {pick_dtype('auto', device)}, {torch.get_num_threads()} CPU threads"


def _checkpoint(path: Path) -> str:
    """Name, kind, size and hash of one file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        return f"{path.stem:<20} unreadable: {error}"
    kind = metadata.get("kind", "?") if metadata.get("format") == FORMAT else "another program's file"
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return f"{path.stem:<20} {kind:<10} {path.stat().st_size / 1e6:7.1f} MB  sha256 {digest.hexdigest()}"
