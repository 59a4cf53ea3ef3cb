"""Rules of the registry and our own for every file that a user installs, and which files those are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from source import patched, unsafe, written

ROOT = Path(__file__).parents[2]
IGNORED = [line for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines() if line.startswith("/")]
MADE_HERE = {".git", ".venv", "out", "data", "runs", "build", "dist", "__pycache__"}  # never in the repository
MADE_HERE |= {".pytest_cache", ".ruff_cache", ".hypothesis"}
WRITERS = {  # they write where their caller says; the command line and the trainers are such callers, no node is
    "checkpoints.py",
    "commands/sync.py",
    "output.py",
    "evaluation/",
    "speech/audio.py",
    "training/",
    "video/writer.py",
}


def installed() -> list[str]:
    """Files of the archive that the registry hands out, relative to the repository."""
    tops = [top for top in ROOT.iterdir() if top.name not in MADE_HERE and not top.name.endswith(".egg-info")]
    kept = [top for top in tops if not ignored(top)]
    paths = [path for top in kept for path in ([top] if top.is_file() else top.rglob("*")) if path.is_file()]
    inside = [path.relative_to(ROOT) for path in paths]
    return sorted(path.as_posix() for path in inside if not MADE_HERE & set(path.parts))


def ignored(top: Path) -> bool:
    """Whether .comfyignore names it; of .gitignore's language ours uses only `/file` and `/folder/`."""
    return f"/{top.name}/" in IGNORED if top.is_dir() else f"/{top.name}" in IGNORED


SOURCES = [name for name in installed() if name.endswith(".py")]


@pytest.mark.parametrize("name", SOURCES)
def test_installed_file_is_safe(name: str) -> None:
    """No network, no process, no code out of files or strings, nothing of the host or of a library replaced."""
    assert unsafe(ast.parse((ROOT / name).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("name", SOURCES)
def test_only_the_writers_write(name: str) -> None:
    inside = name.removeprefix("comfyui_mytalk/")
    if not any(inside == place or (place.endswith("/") and inside.startswith(place)) for place in WRITERS):
        assert written(ast.parse((ROOT / name).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import urllib.request",
        "from subprocess import run",
        "import folder_paths\nfolder_paths.get_temp_directory = lambda: 'mine'",
        "import comfy.utils as u\nu.ProgressBar.update = None",
        "import os\nos.environ['TMPDIR'] = '/mine'",
        "import sys\ndel sys.modules['nodes']",
        "from nodes import NODE_CLASS_MAPPINGS\nNODE_CLASS_MAPPINGS['KSampler'] = object",
        "import torch\ntorch.backends.cudnn.benchmark = True",
        "setattr(object, 'a', 1)",
        "eval('1')",
        "import pickle",
    ],
)
def test_safety_rules_see_a_violation(line: str) -> None:
    assert unsafe(ast.parse(line))


def test_write_rules_see_a_violation_and_know_reading() -> None:
    assert written(ast.parse("open('a', 'w')")) and written(ast.parse("p.open(mode='ab')"))
    assert written(ast.parse("shutil.rmtree('temp')")) and written(ast.parse("os.remove('x')"))
    assert not written(ast.parse("open('a')\nav.open('a.mp4')\np.open('rb')"))
    assert not patched(ast.parse("import torch\nx = torch.zeros(3)\nx[0] = 1\nself.a = 2"))


def test_archive_holds_what_the_host_reads_and_no_more() -> None:
    names = installed()
    for needed in ("__init__.py", "pyproject.toml", "LICENSE", "README.md", "requirements.txt", "nodes/host.py"):
        assert needed in names
    for folder in ("comfyui_mytalk", "nodes", "weights", "web/docs", "workflows", "demo"):
        assert any(name.startswith(f"{folder}/") for name in names), folder
    tops = {name.split("/")[0] for name in names}
    assert not tops & {"tests", "scripts", "benchmarks", ".github", ".ci", "Makefile"}
    assert not any(name.endswith((".js", ".pt", ".pth", ".ckpt", ".onnx", ".exe", ".dll", ".so")) for name in names)
    assert not any(name.endswith(("install.py", "prestartup_script.py")) for name in names)
