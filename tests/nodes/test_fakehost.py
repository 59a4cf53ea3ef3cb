"""The double of the host against the real one: what it offers exists there and takes the same arguments."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

FAKE = Path(__file__).parents[1] / "fakehost"
MODULES = ("folder_paths", "comfy.model_management", "comfy.model_patcher", "comfy.utils", "comfy_api.v0_0_2.io")
OURS = {"loaded", "interrupted", "seen", "pruned", "kind", "Input", "Output", "Locked"}  # how the double works inside


def offered(module: str) -> dict[str, ast.AST]:
    """Functions, classes and class methods `Class.method` that the double defines."""
    tree, found = ast.parse((FAKE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")), {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name not in OURS:
            found[node.name] = node
            methods = [m for m in getattr(node, "body", []) if isinstance(m, ast.FunctionDef)]
            found |= {
                f"{node.name}.{m.name}": m for m in methods if not m.name.startswith("__") or m.name == "__init__"
            }
    return found


@pytest.mark.parametrize("module", MODULES)
def test_double_offers_nothing_that_the_host_lacks(host, module: str) -> None:
    if not host.real:
        pytest.skip("COMFYUI_PATH names no ComfyUI checkout to compare with")
    parent, _, last = module.rpartition(".")
    # The API's io is a module in newer hosts and a name in its package at the floor: reached alike.
    real = getattr(importlib.import_module(parent), last) if module.endswith(".io") else importlib.import_module(module)
    for name, node in offered(module).items():
        thing = real
        for part in name.split("."):
            thing = getattr(thing, part)
        if isinstance(thing, property):
            assert "property" in [getattr(d, "id", "") for d in node.decorator_list], name
        elif isinstance(node, ast.FunctionDef) and not node.name.isupper():  # those the host itself calls
            given = [a.arg for a in [*node.args.args, *node.args.kwonlyargs] if a.arg not in ("self", "cls")]
            taken = inspect.signature(thing).parameters
            assert set(given) <= set(taken) or any(p.kind is p.VAR_KEYWORD for p in taken.values()), name


def test_host_is_the_one_that_was_asked_for(host) -> None:
    import os

    assert host.real == bool(os.environ.get("COMFYUI_PATH"))
    assert ("fakehost" in host.management.__file__) != host.real
