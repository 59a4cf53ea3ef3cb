"""What the nodes do to the machine while they work: nothing."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

LOUD = {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork"}
LOUD |= {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink", "shutil.rmtree", "os.putenv"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND


class Ears:
    """Notes processes, connections and changes on the disk within `with`; Python's own caches are not ours."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.open = False
        sys.addaudithook(self.hear)  # for the rest of the process: Python has no way to take one away

    def hear(self, event: str, details: tuple[Any, ...]) -> None:
        if not self.open:
            return
        written = event == "open" and isinstance(details[2], int) and details[2] & WRITING
        if (event in LOUD or written) and "__pycache__" not in str(details[0]):
            self.heard.append(f"{event} {details}")

    def __enter__(self) -> list[str]:
        self.heard, self.open = [], True
        return self.heard

    def __exit__(self, *_: object) -> None:
        self.open = False


@pytest.fixture(scope="module")
def ears() -> Ears:
    return Ears()


def test_nodes_write_nothing_connect_to_nothing_and_start_nothing(host, clip, ears) -> None:
    from tiny import NAMES

    before = dict(os.environ)
    names = {f"{role}_model": NAMES[role] for role in ("identity", "motion", "appearance")}
    inputs = {"images": clip.images[:4], "audio": clip.audio, "steps": 2, "speech_encoder": NAMES["speech"], **names}
    with ears as heard:
        host.run("MyTalkLipSync", **inputs)
    assert heard == [] and dict(os.environ) == before


def test_ears_are_open(ears, tmp_path) -> None:
    with ears as heard:
        (tmp_path / "a").write_text("x")
        (tmp_path / "a").unlink()
    assert [line.split()[0] for line in heard] == ["open", "os.remove"]
