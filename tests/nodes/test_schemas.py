"""What graphs on other people's disks rely on."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).with_name("object_info.json")
ROOT = Path(__file__).parents[2]
IDS = (
    "MyTalkLipSync",
    "MyTalkLoadSpeech",
    "MyTalkWav2VecFeatures",
    "MyTalkExtractDenseLandmarks",
    "MyTalkIdentityEmbed",
    "MyTalkLandmarkDiffusionSampler",
    "MyTalkRenderLandmarkImage",
    "MyTalkMaskedReferenceSelect",
    "MyTalkAppearanceVAE",
    "MyTalkPasteBack",
    "MyTalkFitVideoToSpeech",
    "MyTalkLandmarkOverlay",
    "MyTalkFindOcclusions",
    "MyTalkEditMotion",
    "MyTalkScore",
    "MyTalkTuneActor",
)
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def test_every_node_registers_under_its_id(host) -> None:
    import asyncio

    extension = asyncio.run(host.pack.comfy_entrypoint())
    assert [node.GET_SCHEMA().node_id for node in asyncio.run(extension.get_node_list())] == list(IDS)
    assert not hasattr(host.pack, "NODE_CLASS_MAPPINGS"), "the host would take it and skip the entry point"


def test_saved_graphs_still_load(host) -> None:
    """Widgets and outputs go by place and are only appended, sockets go by name. UPDATE_GOLDEN=1 rewrites the file."""
    from schemas import stable

    found = {name: stable(node.GET_NODE_INFO_V1()) for name, node in host.nodes.items()}
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert json.loads(json.dumps(found)) == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("node_id", IDS)
def test_inputs_are_complete(host, node_id: str) -> None:
    info = host.nodes[node_id].GET_NODE_INFO_V1()
    assert info["category"] == "MyTalk" and info["description"] and info["display_name"].endswith("(MyTalk)")
    for group in info["input"].values():
        for name, (kind, options) in group.items():
            assert len(options["tooltip"]) > 20, name
            if kind in WIDGETS:
                assert "default" in options and "Default" in options["tooltip"], name
            if kind in ("INT", "FLOAT"):
                assert options["min"] <= options["default"] <= options["max"], name
    assert all(output.tooltip for output in host.nodes[node_id].GET_SCHEMA().outputs)


@pytest.mark.parametrize("node_id", IDS)
def test_execute_takes_the_inputs_of_the_schema(host, node_id: str) -> None:
    parameters = inspect.signature(host.nodes[node_id].execute).parameters
    inputs = host.nodes[node_id].GET_SCHEMA().inputs
    assert list(parameters) == [i.id for i in inputs]
    assert [p.default is not p.empty for p in parameters.values()] == [bool(i.optional) for i in inputs]


@pytest.mark.parametrize("node_id", IDS)
def test_help_page_names_every_input_and_output(host, node_id: str) -> None:
    page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    schema = host.nodes[node_id].GET_SCHEMA()
    for name in [i.id for i in schema.inputs] + [o.display_name for o in schema.outputs]:
        assert f"`{name}`" in page, name


def handed_on(info: dict[str, Any], slot: int) -> str | None:
    """The input that leaves a node at output `slot` while it is bypassed: as the frontend finds it."""
    kind = info["output"][slot]
    inputs = [(name, given) for group in info["input"].values() for name, (given, _) in group.items()]
    opposite = [name for name, given in inputs[slot : slot + 1] if kind in given.split(",")]
    return next(iter(opposite + [name for name, given in inputs if given == kind]), None)


@pytest.mark.parametrize(
    ("node_id", "kept"),
    [
        ("MyTalkLipSync", ["images", "audio"]),
        ("MyTalkLoadSpeech", ["audio"]),
        ("MyTalkFitVideoToSpeech", ["images", "audio", "fps"]),
        ("MyTalkPasteBack", ["images"]),
        ("MyTalkLandmarkOverlay", ["images"]),
        ("MyTalkLandmarkDiffusionSampler", ["track"]),
        ("MyTalkEditMotion", ["motion"]),
    ],
)
def test_bypassed_node_hands_on_what_it_would_have_changed(host, node_id: str, kept: list[str]) -> None:
    info = host.nodes[node_id].GET_NODE_INFO_V1()
    assert [handed_on(info, slot) for slot in range(len(kept))] == kept


def shown(value: Any) -> str:
    """A default as help pages write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`" if isinstance(value, str) else f"{value:g}"


@pytest.mark.parametrize("node_id", IDS)
def test_help_page_says_every_default(host, node_id: str) -> None:
    page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.split("## Outputs")[0].splitlines() if line.startswith("| `")]
    for i in host.nodes[node_id].GET_SCHEMA().inputs:
        said = [row[1] for row in rows if f"`{i.id}`" in row[0]]  # further tables explain single inputs
        default = getattr(i, "default", None)
        assert said[:1] == [shown(default) if default is not None else "none" if i.optional else "–"], i.id


def test_an_older_host_never_sees_what_it_does_not_know(host) -> None:
    border = host.module("nodes.host")
    schema = border.schema(node_id="X", invented_by_a_newer_host=True)
    number = border.field(border.io.Int, "n", default=1, invented_by_a_newer_host=True)
    assert schema.node_id == "X" and number.default == 1
    with pytest.raises(TypeError):
        border.io.Int.Input("n", invented_by_a_newer_host=True)
