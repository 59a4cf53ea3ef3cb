"""Rules that hold for every library file, read from the source: no host, no other library, no global seed.

What holds for all that a user installs (no network, no process, ...) is in test_pack_rules.py.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from source import called, imported

LIBRARY = Path(__file__).parents[2] / "comfyui_mytalk"
SOURCES = sorted(LIBRARY.rglob("*.py"))
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "execution", "server", "app"}
LIBRARIES = {"torch", "torchaudio", "transformers", "safetensors", "einops", "numpy", "scipy", "PIL", "av", "tqdm"}
EXTRAS = {"torchmetrics", "onnxruntime"}
FORBIDDEN_CALLS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "print"}
MAY_PRINT = {"cli.py"}
MAY_READ_TORCH_FILES = {"foreign.py"}  # other programs' networks, as evaluation's judges
MAY_SEED_GLOBALLY = {"training"}  # a training run is a process of its own


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_file_keeps_the_rules(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names, calls = imported(tree), called(tree)
    assert not names & HOST, "the library must run without the host"
    assert not names - sys.stdlib_module_names - LIBRARIES - EXTRAS, "not a dependency in pyproject.toml"
    forbidden = set(FORBIDDEN_CALLS)
    if path.name in MAY_PRINT:
        forbidden -= {"print"}
    if path.parent.name in MAY_SEED_GLOBALLY:
        forbidden -= {"torch.manual_seed"}
    assert not calls & forbidden
    assert "torch.load" not in calls or path.name in MAY_READ_TORCH_FILES, "checkpoints are safetensors"
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    assert all("weights_only=True" in map(ast.unparse, load.keywords) for load in loads), "pickles can run code"


def test_rules_would_see_a_violation() -> None:
    tree = ast.parse("import folder_paths\nfrom comfy.utils import x\ndef f():\n    torch.manual_seed(0)")
    assert imported(tree) == {"folder_paths", "comfy"}
    assert "torch.manual_seed" in called(tree)


def test_every_import_loads_without_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Import each module for real with the host's modules barred."""
    import importlib

    for name in HOST:
        monkeypatch.setitem(sys.modules, name, None)  # None makes `import name` raise
    for path in SOURCES:
        parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
        if parts[-1] != "__main__":
            importlib.import_module(".".join(parts).removesuffix(".__init__"))
