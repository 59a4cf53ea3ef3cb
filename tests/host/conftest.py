"""A real ComfyUI process on loopback: COMFYUI_PATH names its checkout, COMFYUI_PYTHON the interpreter that runs it.

Without COMFYUI_PATH these tests are skipped; REQUIRE_HOST=1 makes them fail instead.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PACK = "comfyui-mytalk"
PATIENCE = 300  # seconds for anything the host does; only a hang takes that long
sys.path.insert(0, str(TESTS / "support"))


class Server:
    """The process and its HTTP interface."""

    def __init__(self, checkout: Path, base: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.base, self.log = base, base / "host.log"
        command = [os.environ.get("COMFYUI_PYTHON", sys.executable), "main.py", "--cpu", "--disable-auto-launch"]
        command += ["--port", str(self.port), "--base-directory", str(base)]
        command += ["--database-url", f"sqlite:///{base}/user/comfyui.db"]
        quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=checkout, env={**os.environ, **quiet}, stdout=log, stderr=subprocess.STDOUT
            )

    def request(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.read()

    def json(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return json.loads(self.request(path, body))

    def wait_until(self, done: Any, what: str) -> Any:
        """Ask `done()` until it gives something."""
        for _ in range(PATIENCE * 5):
            if self.process.poll() is not None:
                pytest.fail(f"the host ended while waiting for {what}:\n{self.log.read_text()[-3000:]}")
            found = done()
            if found:
                return found
            time.sleep(0.2)
        pytest.fail(f"{what} did not happen:\n{self.log.read_text()[-3000:]}")

    def answers(self) -> bool:
        try:
            return bool(self.request("/system_stats"))
        except (urllib.error.URLError, ConnectionError):
            return False

    def queue(self, prompt: dict[str, Any]) -> str:
        """The id of the queued prompt."""
        return self.json("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})["prompt_id"]

    def refusal(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """What the host says to a prompt that it must not accept."""
        with pytest.raises(urllib.error.HTTPError) as refused:
            self.queue(prompt)
        return json.loads(refused.value.read())

    def result(self, prompt_id: str) -> dict[str, Any]:
        """What the host remembers of a prompt once it has ended."""
        return self.wait_until(lambda: self.json(f"/history/{prompt_id}").get(prompt_id), "the end of a prompt")

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """Queue, wait, and demand success."""
        result = self.result(self.queue(prompt))
        assert result["status"]["status_str"] == "success", result["status"]["messages"]
        return result

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    checkout = os.environ.get("COMFYUI_PATH")
    if not checkout:
        reason = "COMFYUI_PATH names no ComfyUI checkout"
        if os.environ.get("REQUIRE_HOST") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("host")
    for folder in ("models/mytalk", "input", "output", "temp", "user", "custom_nodes"):
        (base / folder).mkdir(parents=True)
    (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
    prepare_inputs(base)
    server = Server(Path(checkout), base)
    try:
        server.wait_until(server.answers, "the start of the host")
        yield server
    finally:
        server.stop()


def prepare_inputs(base: Path) -> None:
    """Tiny weights, a short film of a real face, a longer one to cancel, and speech."""
    from tiny import moving_face, save_tiny_weights, tones

    from comfyui_mytalk.speech.audio import Audio, write_audio
    from comfyui_mytalk.video.writer import VideoWriter

    save_tiny_weights(base / "models" / "mytalk")
    frames = (moving_face(10) * 255).round().byte()
    for name, repeats in (("short.mp4", 1), ("long.mp4", 40)):
        with VideoWriter(base / "input" / name, frames.shape[2], frames.shape[1], fps=25) as writer:
            for _ in range(repeats):
                writer.write(frames)
    write_audio(base / "input" / "speech.wav", Audio(tones(1.0), 16_000))


@pytest.fixture
def graph(server: Server) -> Any:
    """`graph(name, **changes)`: a shipped graph with tiny weights and small files; changes are `Class__input=value`."""
    from tiny import NAMES

    weights = {f"{kind}_small": name for kind, name in NAMES.items()}
    files = {"actor.mp4": "short.mp4", "speech.wav": "speech.wav"}

    def make(name: str, **changes: Any) -> dict[str, Any]:
        prompt = json.loads((TESTS / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
        for node in prompt.values():
            for key, value in node["inputs"].items():
                if isinstance(value, str):
                    node["inputs"][key] = weights.get(value, files.get(value, value))
            for change, value in changes.items():
                kind, key = change.split("__")
                if node["class_type"] == kind:
                    node["inputs"][key] = value
        return prompt

    return make
