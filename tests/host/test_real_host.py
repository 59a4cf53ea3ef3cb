"""The pack in a running ComfyUI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.host
ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "nodes" / "object_info.json").read_text(encoding="utf-8"))
GRAPHS = sorted(path.stem for path in (ROOT / "tests" / "workflows").glob("*.json"))
PACK = "comfyui-mytalk"


def executed(result: dict[str, Any]) -> set[str]:
    """Ids of the nodes that ran, those with cached results left out."""
    messages = {name: body for name, body in result["status"]["messages"]}
    return set(result["prompt"][2]) - set(messages["execution_cached"]["nodes"])


def ids_of(prompt: dict[str, Any], *kinds: str) -> set[str]:
    return {key for key, node in prompt.items() if node["class_type"] in kinds}


def video_of(server, result: dict[str, Any]) -> Path:
    saved = next(item for output in result["outputs"].values() for item in output.get("images", []))
    return server.base / "output" / saved["subfolder"] / saved["filename"]


@pytest.mark.parametrize("node_id", sorted(GOLDEN))
def test_node_is_registered_as_saved_graphs_expect(server, node_id: str) -> None:
    from schemas import stable

    info = server.json(f"/object_info/{node_id}")[node_id]
    assert stable(info) == GOLDEN[node_id]
    assert info["python_module"] == f"custom_nodes.{PACK}"


def test_import_is_clean(server) -> None:
    log = server.log.read_text()
    assert "IMPORT FAILED" not in log.split("Import times for custom nodes")[-1].split("nodes_")[0]
    assert "comfy_entrypoint in" not in log


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_runs(server, graph, name: str) -> None:
    from comfyui_mytalk.speech.audio import read_audio
    from comfyui_mytalk.video.reader import VideoReader

    result = server.run(graph(name))
    film = video_of(server, result)
    info = VideoReader(film).info
    assert (info.width, info.height, info.frames) == (256, 256, 10) and float(info.fps) == 25
    assert read_audio(film).duration == pytest.approx(0.4, abs=0.07)


def test_same_graph_again_runs_nothing_and_a_new_seed_runs_from_the_sampler_on(server, graph) -> None:
    first = graph("lipsync_nine_nodes", MyTalkLandmarkDiffusionSampler__seed=101)
    server.run(first)
    assert executed(server.run(first)) == set()
    second = graph("lipsync_nine_nodes", MyTalkLandmarkDiffusionSampler__seed=102)
    assert executed(server.run(second)) == ids_of(
        second,
        "MyTalkLandmarkDiffusionSampler",
        "MyTalkRenderLandmarkImage",
        "MyTalkAppearanceVAE",
        "MyTalkPasteBack",
        "CreateVideo",
        "SaveVideo",
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("lipsync_nine_nodes", "MyTalkAppearanceVAE__model"),
        ("lipsync_all_in_one", "MyTalkLipSync__motion_model"),
    ],
)
def test_missing_weights_are_refused_before_anything_runs(server, graph, name: str, change: str) -> None:
    prompt = graph(name, **{change: "gone"})
    reply = server.refusal(prompt)
    said = json.dumps(reply["node_errors"])
    assert "gone.safetensors" in said and "models/mytalk" in said
    assert set(reply["node_errors"]) == ids_of(prompt, change.split("__")[0])


def test_silent_speech_input_is_one_clear_line(server, graph) -> None:
    prompt = graph("lipsync_all_in_one")
    sync = next(iter(ids_of(prompt, "MyTalkLipSync")))
    video = next(iter(ids_of(prompt, "GetVideoComponents")))
    prompt[sync]["inputs"]["audio"] = [video, 1]  # the film has no sound
    result = server.result(server.queue(prompt))
    error = dict(result["status"]["messages"])["execution_error"]
    assert error["node_id"] == sync and error["exception_message"].startswith("audio: got no audio")


def test_cancel_ends_the_run_and_the_next_one_works(server, graph) -> None:
    prompt_id = server.queue(graph("lipsync_all_in_one", LoadVideo__file="long.mp4"))
    server.wait_until(lambda: server.json("/queue")["queue_running"], "the start of a prompt")
    server.request("/interrupt", {})
    result = server.result(prompt_id)
    names = [name for name, _ in result["status"]["messages"]]
    assert "execution_interrupted" in names and "execution_success" not in names
    server.run(graph("lipsync_all_in_one", MyTalkLipSync__seed=7))


def test_help_pages_and_templates_are_served(server) -> None:
    for node_id in GOLDEN:
        page = server.request(f"/extensions/{PACK}/docs/{node_id}.md").decode()
        assert page.startswith("# ") and "## Inputs" in page
    listed = server.json("/workflow_templates")[PACK]
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


def test_pack_brings_no_javascript(server) -> None:
    assert not [path for path in server.json("/extensions") if PACK in path]
