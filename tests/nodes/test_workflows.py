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


def test_nine_nodes_are_chained() -> None:
    used = [node["class_type"] for node in read(TWINS / "lipsync_nine_nodes.json").values()]
    assert sum(name.startswith("MyTalk") for name in used) == 9


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
