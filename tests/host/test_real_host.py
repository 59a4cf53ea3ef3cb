"""The pack in a running ComfyUI: what is registered, what runs, what is refused."""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.host
ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "nodes" / "object_info.json").read_text(encoding="utf-8"))
GRAPHS = sorted(path.stem for path in (ROOT / "tests" / "workflows").glob("*.json"))
OURS_ALONE = ("lipsync_all_in_one", "lipsync_nine_nodes")
PACK = "comfyui-mytalk"


def executed(result: dict[str, Any]) -> set[str]:
    """Ids of the nodes that ran, those with cached results left out."""
    messages = {name: body for name, body in result["status"]["messages"]}
    return set(result["prompt"][2]) - set(messages["execution_cached"]["nodes"])


def ids_of(prompt: dict[str, Any], *kinds: str) -> set[str]:
    return {key for key, node in prompt.items() if node["class_type"].startswith(kinds)}


def videos_of(server, result: dict[str, Any]) -> list[Path]:
    """Films that a prompt saved."""
    found = []
    for key, output in result["outputs"].items():
        if result["prompt"][2][key]["class_type"] == "SaveVideo":
            found += [server.base / "output" / item["subfolder"] / item["filename"] for item in output["images"]]
    return found


@pytest.mark.parametrize("node_id", sorted(GOLDEN))
def test_node_is_registered_as_saved_graphs_expect(infos, node_id: str) -> None:
    from schemas import stable

    assert stable(infos[node_id]) == GOLDEN[node_id]
    assert infos[node_id]["python_module"] == f"custom_nodes.{PACK}"


def test_import_is_clean(server) -> None:
    log = server.log.read_text()
    assert "IMPORT FAILED" not in log.split("Import times for custom nodes")[-1].split("nodes_")[0]
    assert "comfy_entrypoint in" not in log


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_is_accepted_but_for_weights_of_others(server, infos, graph, name: str) -> None:
    """A graph that begins with a diffusion model may lack that model's files here, and nothing else."""
    from standins import lacking

    prompt = graph(name)
    missing = lacking(prompt, infos)
    assert not [prompt[key]["class_type"] for key in missing if prompt[key]["class_type"].startswith("MyTalk")]
    if missing:
        errors = server.refusal(prompt)["node_errors"]
        assert {(key, e["type"]) for key, said in errors.items() for e in said["errors"]} == {
            (key, "value_not_in_list") for key in missing
        }


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_runs(server, infos, graph, name: str) -> None:
    """With stand-ins for what other people's models would have made."""
    from standins import runnable

    from comfyui_mytalk.speech.audio import read_audio
    from comfyui_mytalk.video.reader import VideoReader

    shipped = graph(name)
    prompt = runnable(shipped, infos)
    ours = ids_of(shipped, "MyTalk")
    assert ours and ours == ids_of(prompt, "MyTalk")
    result = server.run(prompt)
    films = videos_of(server, result)
    assert films
    for film in films:
        info = VideoReader(film).info
        assert info.frames > 0
        if info.has_audio:
            assert read_audio(film).duration == pytest.approx(info.frames / float(info.fps), abs=0.07)
        if name in OURS_ALONE:
            assert (info.width, info.height, info.frames) == (256, 256, 10) and float(info.fps) == 25


def test_same_graph_again_runs_nothing_and_a_new_seed_runs_from_the_sampler_on(server, graph) -> None:
    first = graph("lipsync_nine_nodes", MyTalkLandmarkDiffusionSampler__seed=101)
    server.run(first)
    assert executed(server.run(first)) == set()
    second = graph("lipsync_nine_nodes", MyTalkLandmarkDiffusionSampler__seed=102)
    assert executed(server.run(second)) == ids_of(
        second,
        "MyTalkLandmarkDiffusionSampler",
        "MyTalkEditMotion",
        "MyTalkRenderLandmarkImage",
        "MyTalkAppearanceVAE",
        "MyTalkPasteBack",
        "CreateVideo",
        "SaveVideo",
    )


@pytest.mark.parametrize("name", OURS_ALONE)
def test_inputs_in_another_order_are_the_same_graph(server, graph, name: str) -> None:
    """Frontends and scripts write optional inputs before required ones, and nodes in any order."""
    prompt = graph(name)
    server.run(prompt)
    turned = {
        key: {"inputs": dict(reversed(node["inputs"].items())), "class_type": node["class_type"]}
        for key, node in reversed(prompt.items())
    }
    assert executed(server.run(turned)) == set()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("lipsync_nine_nodes", "MyTalkWav2VecFeatures__encoder"),
        ("lipsync_nine_nodes", "MyTalkAppearanceVAE__model"),
        ("lipsync_all_in_one", "MyTalkLipSync__motion_model"),
    ],
)
def test_missing_weights_are_refused_before_anything_runs(server, graph, name: str, change: str) -> None:
    prompt = graph(name, **{change: "gone"})
    reply = server.refusal(prompt)
    said = json.dumps(reply["node_errors"])
    assert "gone.safetensors" in said and "models/mytalk" in said.replace("\\\\", "/")
    assert set(reply["node_errors"]) == ids_of(prompt, change.split("__")[0])
    name = change.split("__")[1]
    (error,) = next(iter(reply["node_errors"].values()))["errors"]  # said once, under the name of the input
    assert error["extra_info"]["input_name"] == name and error["details"].startswith(f"{name} - {name}: ")


@pytest.mark.parametrize("name", ["speech_encoder", "identity_model", "appearance_model"])
def test_other_missing_weights_are_known_before_lip_sync_works(server, graph, name: str) -> None:
    """Hosts that hold choices to their list refuse the graph; others run up to the node."""
    prompt = graph("lipsync_all_in_one", **{f"MyTalkLipSync__{name}": "gone"})
    try:
        result = server.result(server.queue(prompt))
    except urllib.error.HTTPError as refused:
        assert name in refused.read().decode()
        return
    error = dict(result["status"]["messages"])["execution_error"]
    assert error["exception_message"].startswith(f"{name}: ") and "gone.safetensors not found" in str(error)


def test_silent_speech_input_is_one_clear_line(server, graph) -> None:
    prompt = graph("lipsync_all_in_one")
    sync = next(iter(ids_of(prompt, "MyTalkLipSync")))
    video = next(iter(ids_of(prompt, "GetVideoComponents")))
    prompt[sync]["inputs"]["audio"] = [video, 1]  # the film has no sound
    result = server.result(server.queue(prompt))
    error = dict(result["status"]["messages"])["execution_error"]
    assert error["node_id"] == sync and error["exception_message"].startswith("audio: got no audio")
    assert error["exception_type"] == "comfyui_mytalk.errors.InputError"


def test_help_pages_and_templates_are_served(server) -> None:
    for node_id in GOLDEN:
        page = server.request(f"/extensions/{PACK}/docs/{node_id}.md").decode()
        assert page.startswith("# ") and "## Inputs" in page
    listed = server.json("/workflow_templates")[PACK]
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


def test_pack_brings_no_javascript(server) -> None:
    assert not [path for path in server.json("/extensions") if PACK in path]
