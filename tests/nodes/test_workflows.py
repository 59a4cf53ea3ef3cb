"""Shipped graphs: they load in the frontend, and the host accepts what the frontend makes of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "workflows").glob("*.json"))
SAVED = sorted((ROOT / "tests" / "nodes" / "saved").glob("*.json"))  # what people saved with released versions
TWINS = ROOT / "tests" / "workflows"
FILES = {"file", "audio", "model", "encoder", "speech_encoder", "identity_model", "motion_model", "appearance_model"}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def infos(host) -> dict[str, dict]:
    from graphs import CORE

    return {**CORE, **{name: node.GET_NODE_INFO_V1() for name, node in host.nodes.items()}}


def test_there_are_graphs() -> None:
    assert {path.stem for path in SHIPPED} >= {"lipsync_nine_nodes", "lipsync_all_in_one"}


@pytest.mark.parametrize("path", SHIPPED + SAVED, ids=lambda path: path.stem)
def test_frontend_can_load_it(infos, path: Path) -> None:
    from graphs import problems_ui

    assert problems_ui(read(path), infos) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_twin_is_what_the_frontend_queues(infos, path: Path) -> None:
    from graphs import problems_api, to_api

    prompt = to_api(read(path), infos)
    assert prompt == read(TWINS / path.name)
    assert problems_api(prompt, infos, FILES) == []


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_host_still_accepts_what_people_saved(infos, path: Path) -> None:
    from graphs import problems_api, to_api

    assert problems_api(to_api(read(path), infos), infos, FILES) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_weights_are_the_defaults(infos, path: Path) -> None:
    from graphs import all_inputs

    for node in read(TWINS / path.name).values():
        for name, value in node["inputs"].items():
            options = all_inputs(infos[node["class_type"]])[name][1]
            if name in FILES and "default" in options:
                assert value == options["default"]


def test_single_steps_do_all_that_lip_sync_does(host) -> None:
    """The paper's nine, the two that Lip Sync has beside them, set as it sets them, and speech as long as the clip."""
    prompt = read(TWINS / "lipsync_nine_nodes.json")
    used = {node["class_type"]: key for key, node in prompt.items() if node["class_type"].startswith("MyTalk")}
    assert len(used) == 12
    gate = {i.id: i.default for i in host.nodes["MyTalkLipSync"].GET_SCHEMA().inputs if i.id == "silence_gate"}
    edit = prompt[used["MyTalkEditMotion"]]["inputs"]
    assert edit["silence_gate"] == gate["silence_gate"] > 0 and edit["audio"] == [used["MyTalkFitVideoToSpeech"], 1]
    assert prompt[used["MyTalkWav2VecFeatures"]]["inputs"]["audio"] == edit["audio"]
    for drawn in ("MyTalkAppearanceVAE", "MyTalkPasteBack"):
        assert prompt[used[drawn]]["inputs"]["motion"] == [used["MyTalkEditMotion"], 0]
    assert prompt[used["MyTalkRenderLandmarkImage"]]["inputs"]["track"] == [used["MyTalkEditMotion"], 0]
    for covered in ("MyTalkMaskedReferenceSelect", "MyTalkPasteBack"):
        assert prompt[used[covered]]["inputs"]["keep_mask"] == [used["MyTalkFindOcclusions"], 0]


LENGTHS = {  # what gives frames, sound and rate of one length: slots of each
    "MyTalkLipSync": (0, 1, 4),
    "MyTalkFitVideoToSpeech": (0, 1, 2),
}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_films_have_the_rate_and_the_sound_of_what_was_made_for_them(path: Path) -> None:
    prompt = read(TWINS / path.name)
    for film in [node["inputs"] for node in prompt.values() if node["class_type"] == "CreateVideo"]:
        source, slot = film["fps"]
        kind = prompt[source]["class_type"]
        assert slot == LENGTHS[kind][2]
        assert kind == "MyTalkLipSync" or "MyTalkLipSync" not in [node["class_type"] for node in prompt.values()]
        if prompt[film["audio"][0]]["class_type"] != "AudioMerge":  # two voices, each fitted before
            assert film["audio"] == [source, LENGTHS[kind][1]]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_there_is_room_for_a_square_film_and_the_widgets_above_it(path: Path) -> None:
    for node in read(path)["nodes"]:
        if node["type"] == "SaveVideo":
            width, height = node["size"]
            assert height >= width + 24 + 3 * 26 + 16, "a socket, three widgets and margins"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_no_template_exaggerates(path: Path) -> None:
    """The mouth opens as far as the actor's own does: strength is for those who want more."""
    for node in read(TWINS / path.name).values():
        assert node["inputs"].get("strength", 1.0) == 1.0, node["class_type"]


def test_help_of_the_script_that_makes_them_writes_nothing(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from scripts import make_workflows

    monkeypatch.setattr(Path, "write_text", lambda *_, **__: pytest.fail("written"))
    with pytest.raises(SystemExit, match="0"):
        make_workflows.main(["--help"])
    assert "scripts/workflows.json" in capsys.readouterr().out


def test_made_graphs_are_what_the_script_makes(infos) -> None:
    from scripts.make_workflows import build

    described = read(ROOT / "scripts" / "workflows.json")
    assert len(described) == len(SHIPPED) - 2
    for name, graph in described.items():
        assert build(name, graph, infos) == read(ROOT / "workflows" / f"{name}.json"), name


def test_checks_would_see_a_broken_graph(infos) -> None:
    from graphs import problems_api, problems_ui, to_api

    graph = read(ROOT / "workflows" / "lipsync_nine_nodes.json")
    for breaking in (lambda g: g["links"].pop(), lambda g: g["nodes"][3]["widgets_values"].pop()):
        broken = copy.deepcopy(graph)
        breaking(broken)
        assert problems_ui(broken, infos) or broken["links"] != graph["links"]
    prompt = to_api(graph, infos)
    sampler = next(node for node in prompt.values() if node["class_type"] == "MyTalkLandmarkDiffusionSampler")
    sampler["inputs"]["steps"] = 0
    sampler["inputs"]["sampler"] = "euler"
    del sampler["inputs"]["track"]
    assert len(problems_api(prompt, infos, FILES)) == 3
