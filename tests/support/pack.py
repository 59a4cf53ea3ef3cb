"""The pack inside a host: the strict double in tests/fakehost, or the real modules where COMFYUI_PATH says."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent


def load_pack() -> ModuleType:
    """Import the pack from its path, under a name that no import statement could spell, as the host does."""
    name = str(ROOT).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py")
    pack = importlib.util.module_from_spec(spec)
    sys.modules[name] = pack
    spec.loader.exec_module(pack)
    return pack


def start_modules(base: Path) -> bool:
    """Put a host's modules within reach; True when they are the real ones."""
    real = os.environ.get("COMFYUI_PATH")
    if not real:
        os.environ["FAKEHOST_BASE"] = str(base)
        sys.path.insert(0, str(TESTS / "fakehost"))
        return False
    sys.path.insert(0, real)
    argv, sys.argv = sys.argv, sys.argv[:1]
    from comfy.cli_args import args

    sys.argv = argv
    args.cpu, args.base_directory = True, str(base)
    return True


class Host:
    """Nodes by id, called as the host calls them."""

    def __init__(self, base: Path) -> None:
        self.base, self.real = base, start_modules(base)
        self.pack = load_pack()
        self.nodes = {node.GET_SCHEMA().node_id: node for node in self.module("nodes").NODES}
        self.management = importlib.import_module("comfy.model_management")

    def module(self, name: str) -> ModuleType:
        """A module of the pack, which is another object than the one that a plain import gives."""
        return importlib.import_module(f"{self.pack.__name__}.{name}")

    def method(self, node_id: str, name: str) -> Callable[..., Any]:
        """A class method of a node, bound to a locked clone of its class."""
        node = self.nodes[node_id]
        if self.real:
            from comfy_api.internal import make_locked_method_func

            return make_locked_method_func(node, name, node.PREPARE_CLASS_CLONE({}))
        clone = node.PREPARE_CLASS_CLONE({})
        return lambda **inputs: getattr(node, name).__func__(clone, **inputs)

    def run(self, node_id: str, **inputs: Any) -> tuple[Any, ...]:
        """Outputs of a node; widgets that are not given have their defaults."""
        schema = self.nodes[node_id].GET_SCHEMA()
        defaults = {i.id: i.default for i in schema.inputs if getattr(i, "default", None) is not None}
        with torch.inference_mode():
            return self.method(node_id, self.nodes[node_id].FUNCTION)(**{**defaults, **inputs}).result
