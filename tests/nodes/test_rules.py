"""Rules of the adapters, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from source import called, imported

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "nodes").glob("*.py"))
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "execution", "server"}
CALLS = ("print", "torch.manual_seed", "torch.load", "torch.cuda.empty_cache", "torch.autocast")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_adapter_keeps_the_rules(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path.name != "host.py":
        assert not imported(tree) & HOST, "host.py is the only importer of the host"
    assert "comfyui_mytalk" not in imported(tree), "the library is imported relatively"
    calls = called(tree)
    assert not calls & set(CALLS)
    assert not [call for call in calls if call.endswith((".cuda", ".half"))], "devices and precision are the host's"
    broad = [n for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and ast.unparse(n.type or n) == "Exception"]
    assert not broad, "it would swallow the host's cancel"


def test_entry_file_holds_nothing_else() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assigned = {ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)}
    assert assigned == {"WEB_DIRECTORY", "__all__"} and len(tree.body) == 4


def test_web_folder_has_no_scripts() -> None:
    assert {path.suffix for path in (ROOT / "web").rglob("*") if path.is_file()} == {".md"}


def test_templates_folder_has_ui_graphs_only() -> None:
    """The host lists every .json there as a template."""
    import json

    for path in (ROOT / "workflows").glob("*.json"):
        assert "nodes" in json.loads(path.read_text(encoding="utf-8")), path.name


def test_every_template_has_a_small_thumbnail() -> None:
    from PIL import Image

    for path in (ROOT / "workflows").glob("*.json"):
        with Image.open(path.with_suffix(".jpg")) as picture:
            assert picture.format == "JPEG" and max(picture.size) <= 1024, path.name
