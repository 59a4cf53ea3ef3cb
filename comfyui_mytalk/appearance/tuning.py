"""Weights tuned on one actor: what changed against the published weights, and on disk only that.

Made by `training/tune.py`. Not in the paper, whose networks are the same for everybody.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ..checkpoints import find_weights, load_checkpoint, of_this_version, save_checkpoint
from ..errors import InputError
from .model import AppearanceModel

KIND = "tuned"


@dataclass(frozen=True)
class Tuning:
    """Changed tensors by name, and of which weights they are the change (name and file hash)."""

    state: dict[str, Tensor] = field(repr=False)
    base: str
    base_sha256: str
    info: dict[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Tells this tuning from any other."""
        content = hashlib.sha256(self.base_sha256.encode())
        for name, tensor in sorted(self.state.items()):
            content.update(name.encode() + tensor.half().contiguous().cpu().numpy().tobytes())
        return content.hexdigest()


def save_tuning(path: str | Path, tuning: Tuning) -> None:
    """Write `tuning` as a safetensors file in half precision."""
    state = {name: tensor.half() for name, tensor in tuning.state.items()}
    config = {"base": tuning.base, "base_sha256": tuning.base_sha256}
    save_checkpoint(path, state, KIND, config, tuning.info)


def load_tuning(name: str | Path) -> Tuning:
    """Read a tuning by path, or by name in the weights folders; raises InputError when it is missing or not one."""
    checkpoint = load_checkpoint(find_weights(name, KIND), KIND)
    with of_this_version(checkpoint.path):
        state = {name: tensor.float() for name, tensor in checkpoint.state.items()}
        return Tuning(state, **checkpoint.config, info=checkpoint.info)


def tuned_copy(model: AppearanceModel, tuning: Tuning) -> AppearanceModel:
    """A copy of `model` with the tuned tensors; `model` itself stays as it is.

    Raises InputError unless `model` has the very weights that were tuned, and the very layers.
    """
    if tuning.base_sha256 != model.sha256:
        raise InputError(
            f"this tuning is of {tuning.base} (sha256 {tuning.base_sha256[:12]}…), got {model.name or 'other weights'} "
            f"({model.sha256[:12] or 'no file'}…); choose those appearance weights or tune again"
        )
    result = copy.deepcopy(model)
    own = result.state_dict()
    with of_this_version(f"of a tuning on {tuning.base}"):
        for name, tensor in tuning.state.items():
            own[name].copy_(tensor)
    return result
