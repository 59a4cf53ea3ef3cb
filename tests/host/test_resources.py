"""What a running host lends the pack, and gets back: its folders, its memory, its cancel button."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.host
FRAME_BATCH = 20 * 512 * 512 * 3 * 4  # bytes of large.mp4 as an IMAGE


def messages(result: dict[str, Any]) -> list[str]:
    return [name for name, _ in result["status"]["messages"]]


def test_cancel_ends_the_run_and_the_next_one_works(server, graph) -> None:
    prompt_id = server.queue(graph("lipsync_all_in_one", LoadVideo__file="long.mp4"))
    server.wait_until(lambda: server.json("/queue")["queue_running"], "the start of a prompt")
    server.request("/interrupt", {})
    said = messages(server.result(prompt_id))
    assert "execution_interrupted" in said and "execution_success" not in said
    server.run(graph("lipsync_all_in_one", MyTalkLipSync__seed=7))


def test_folders_of_extra_model_paths_are_searched(server, infos, graph) -> None:
    offered = infos["MyTalkLipSync"]["input"]["required"]["motion_model"][1]["options"]
    assert "motion_elsewhere" in offered
    assert not [name for name in offered if "pickled" in name], "safetensors only"
    server.run(graph("lipsync_all_in_one", MyTalkLipSync__motion_model="motion_elsewhere"))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from Linux's /proc")
def test_memory_does_not_grow_from_prompt_to_prompt(server, graph) -> None:
    """Three more runs may not keep what a single one works with: leaked frames of each would be three batches."""

    def run(seed: int) -> int:
        server.run(graph("lipsync_all_in_one", LoadVideo__file="large.mp4", MyTalkLipSync__seed=seed))
        return server.resident_bytes()

    used = [run(seed) for seed in range(1, 6)]
    assert used[-1] - used[1] < 1.5 * FRAME_BATCH, used
