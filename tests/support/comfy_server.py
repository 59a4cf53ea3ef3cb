"""A real ComfyUI process on loopback: COMFYUI_PATH names its checkout, COMFYUI_PYTHON the interpreter that runs it.

Tests that need it are skipped without COMFYUI_PATH; REQUIRE_HOST=1 makes them fail instead.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACK = "comfyui-mytalk"
PATIENCE = 400  # seconds for anything the host does; only a hang takes that long
FOLDERS = ("models/mytalk", "elsewhere/mytalk", "input", "output", "temp", "user", "custom_nodes")


def skip_or_fail(reason: str) -> None:
    """Skip the test, or fail it where REQUIRE_HOST=1 says that nothing may be missing."""
    if os.environ.get("REQUIRE_HOST") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def checkout() -> Path:
    """Where ComfyUI is; skips the test when nobody says."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        skip_or_fail("COMFYUI_PATH names no ComfyUI checkout")
    return Path(path)


class Server:
    """The process and its HTTP interface. `base` holds everything that it reads and writes beside its own code."""

    def __init__(self, checkout: Path, base: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.base, self.log, self.url = base, base / "host.log", f"http://127.0.0.1:{self.port}"
        command = [os.environ.get("COMFYUI_PYTHON", sys.executable), "main.py", "--cpu", "--disable-auto-launch"]
        command += ["--port", str(self.port), "--base-directory", str(base)]
        command += ["--cache-classic"]  # newer hosts keep old results until memory is short, which looks like a leak
        command += ["--database-url", f"sqlite:///{base}/user/comfyui.db"]
        if (base / "extra.yaml").exists():
            command += ["--extra-model-paths-config", str(base / "extra.yaml")]
        quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=checkout, env={**os.environ, **quiet}, stdout=log, stderr=subprocess.STDOUT
            )

    def request(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.read()

    def json(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return json.loads(self.request(path, body))

    def wait_until(self, done: Callable[[], Any], what: str) -> Any:
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

    def resident_bytes(self) -> int:
        """Memory that the process holds now; Linux only."""
        status = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def start(base: Path) -> Server:
    """A running host with the pack, tiny weights and small inputs in `base`."""
    host = checkout()
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True)
    link_pack(base / "custom_nodes" / PACK)
    prepare(base)
    server = Server(host, base)
    server.wait_until(server.answers, "the start of the host")
    return server


def link_pack(target: Path) -> None:
    """The pack as the host finds it; a copy where links need rights that a Windows user does not have."""
    try:
        target.symlink_to(ROOT, target_is_directory=True)
    except OSError:
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".git", ".venv", "tests", "out", "__pycache__"))


def prepare(base: Path) -> None:
    """Tiny weights, one of them in a folder of extra_model_paths; a film of a real face, longer ones, and speech."""
    from PIL import Image
    from tiny import NAMES, moving_face, save_tiny_weights, tones

    from comfyui_mytalk.speech.audio import Audio, write_audio
    from comfyui_mytalk.video.writer import VideoWriter

    save_tiny_weights(base / "models" / "mytalk")
    motion = base / "models" / "mytalk" / f"{NAMES['motion']}.safetensors"
    shutil.copy(motion, base / "elsewhere" / "mytalk" / "motion_elsewhere.safetensors")
    shutil.copy(motion, base / "elsewhere" / "mytalk" / "motion_pickled.ckpt")
    (base / "extra.yaml").write_text(f"tests:\n  base_path: {base / 'elsewhere'}\n  mytalk: mytalk/\n")
    frames = (moving_face(10) * 255).round().byte()
    large = frames.repeat_interleave(2, 1).repeat_interleave(2, 2)
    for name, pictures, repeats in (("actor.mp4", frames, 1), ("large.mp4", large, 2), ("long.mp4", frames, 40)):
        with VideoWriter(base / "input" / name, pictures.shape[2], pictures.shape[1], fps=25) as writer:
            for _ in range(repeats):
                writer.write(pictures)
    Image.fromarray(frames[0].numpy()).save(base / "input" / "portrait.png")
    write_audio(base / "input" / "speech.wav", Audio(tones(1.0), 16_000))
