"""One running ComfyUI for all tests of this folder, and shipped graphs made small enough for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

WORKFLOWS = Path(__file__).parents[1] / "workflows"
FILES = {
    "LoadVideo": ("file", "actor.mp4"),
    "LoadAudio": ("audio", "speech.wav"),
    "LoadImage": ("image", "portrait.png"),
}
TIMES = {"MyTalkLoadSpeech": ("start", "duration"), "EmptyAudio": ("duration",)}
DEMO_SPEECH, SPEECH = 5.6, 1.0  # seconds of the demo's speech and of ours


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from comfy_server import checkout, start

    checkout()
    running = start(tmp_path_factory.mktemp("host"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def infos(server: Any) -> dict[str, dict]:
    """Every node of the host, core's and ours."""
    return server.json("/object_info")


@pytest.fixture
def graph(server: Any) -> Any:
    """`graph(name, **changes)`: a shipped graph with tiny weights and small files; changes are `Class__input=value`."""
    from tiny import NAMES

    weights = {f"{kind}_small": name for kind, name in NAMES.items()}

    def make(name: str, **changes: Any) -> dict[str, Any]:
        prompt = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
        for node in prompt.values():
            kind, inputs = node["class_type"], node["inputs"]
            if kind in FILES and not (server.base / "input" / inputs[FILES[kind][0]]).exists():
                inputs[FILES[kind][0]] = FILES[kind][1]
            for key in TIMES.get(kind, ()):
                inputs[key] *= SPEECH / DEMO_SPEECH
            for key, value in inputs.items():
                if isinstance(value, str) and kind.startswith("MyTalk"):
                    inputs[key] = weights.get(value, value)
            for change, value in changes.items():
                changed, key = change.split("__")
                if kind == changed:
                    inputs[key] = value
        return prompt

    return make
