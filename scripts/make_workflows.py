"""The example graphs of workflows/ but for the first two, and their API twins under tests/workflows/.

    python -m scripts.make_workflows

What a graph says is in scripts/workflows.json: nodes by name, their links (`"node.slot"`) and values. Layout, ids and
the order of widgets are worked out here, from the schemas of our nodes and what tests/support/graphs.py knows of core.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
COLUMN, GAP, NOTE_WIDTH = 380, 60, 420  # pixels on the canvas
TALL = {
    "LoadVideo": 260,
    "LoadImage": 260,
    "SaveVideo": 320,
    "PreviewImage": 240,
    "LoadAudio": 90,
    "CLIPTextEncode": 120,
    "PreviewAny": 60,
    "MaskPreview": 240,
}  # pictures inside
BUTTONS = {"LoadVideo": ["image"], "LoadImage": ["image"], "LoadAudio": [None, None]}  # values of upload buttons
CORE_VERSION, OUR_VERSION = "0.3.64", "0.1.0"


def build(name: str, described: dict[str, Any], infos: dict[str, dict]) -> dict[str, Any]:
    """A UI graph of format 0.4."""
    nodes = described["nodes"]
    ids = {key: number for number, key in enumerate(nodes, 1)}
    links: list[list[Any]] = []
    built = [build_node(key, nodes, ids, links, infos) for key in nodes]
    for node in built:
        for slot, output in enumerate(node["outputs"]):
            output["links"] = [link[0] for link in links if link[1] == node["id"] and link[2] == slot] or None
    place(built, links)
    built.append(note("\n".join(described["note"]), len(built) + 1, built))
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"mytalk/{name}")),
        "revision": 0,
        "last_node_id": len(built),
        "last_link_id": len(links),
        "nodes": built,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {"ds": {"scale": 0.6, "offset": [500, 250]}, "frontendVersion": "1.27.10"},
        "version": 0.4,
    }


def build_node(
    key: str, nodes: dict[str, Any], ids: dict[str, int], links: list[list[Any]], infos: dict[str, dict]
) -> dict[str, Any]:
    """One node; its incoming links are appended to `links`."""
    from graphs import WIDGETS, all_inputs

    given, info = nodes[key], infos[nodes[key]["type"]]
    sockets = []
    for name, (kind, _) in all_inputs(info).items():
        value = given.get("inputs", {}).get(name)
        linked = isinstance(value, str) and value.partition(".")[0] in nodes and kind not in ("COMBO", "STRING")
        if kind in WIDGETS and not linked:
            continue
        socket: dict[str, Any] = {"name": name, "type": kind, "link": None}
        if name in info["input"].get("optional", {}):
            socket["shape"] = 7
        if kind in WIDGETS:
            socket["widget"] = {"name": name}
        if linked:
            source, _, output = value.partition(".")
            slot = int(output or 0)
            carried = infos[nodes[source]["type"]]["output"][slot]
            links.append([len(links) + 1, ids[source], slot, ids[key], len(sockets), carried])
            socket["link"] = len(links)
        sockets.append(socket)
    ours = given["type"].startswith("MyTalk")
    origin = {"cnr_id": "mytalk", "ver": OUR_VERSION} if ours else {"cnr_id": "comfy-core", "ver": CORE_VERSION}
    models = {"models": given["models"]} if "models" in given else {}
    names = info.get("output_name", info["output"])
    node = {
        "id": ids[key],
        "type": given["type"],
        "pos": [0, 0],
        "size": [COLUMN - GAP, height(given["type"], info, len(sockets))],
        "flags": {},
        "order": ids[key] - 1,
        "mode": 0,
        "inputs": sockets,
        "outputs": [{"name": n, "type": t, "links": None} for n, t in zip(names, info["output"], strict=True)],
        "properties": {**origin, "Node name for S&R": given["type"], **models},
        "widgets_values": widget_values(given, info),
    }
    return {**node, "title": given["title"]} if "title" in given else node


def widget_values(given: dict[str, Any], info: dict[str, Any]) -> list[Any]:
    """Positional values: as described, else the default."""
    from graphs import all_inputs, widget_slots

    known, values, buttons = all_inputs(info), [], list(BUTTONS.get(given["type"], []))
    for name in widget_slots(info):
        if name is None:
            values.append(buttons.pop(0) if buttons else "fixed")
            continue
        default = known[name][1].get("default")
        value = given.get("values", {}).get(name, default)
        values.append(value)
    return values


def height(kind: str, info: dict[str, Any], sockets: int) -> int:
    """What a node needs on the canvas."""
    from graphs import widget_slots

    return 40 + 24 * max(sockets, len(info["output"])) + 26 * len(widget_slots(info)) + TALL.get(kind, 0)


def place(nodes: list[dict[str, Any]], links: list[list[Any]]) -> None:
    """Columns by distance from the sources, rows in the order of the description."""
    depth = {node["id"]: 0 for node in nodes}
    for _ in nodes:
        for _, source, _, target, _, _ in links:
            depth[target] = max(depth[target], depth[source] + 1)
    bottom: dict[int, int] = {}
    for node in nodes:
        column = depth[node["id"]]
        node["pos"] = [column * COLUMN, bottom.get(column, 0)]
        bottom[column] = node["pos"][1] + node["size"][1] + GAP


def note(text: str, number: int, nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The graph's read me, to the left of everything."""
    lines = sum(1 + len(line) // 48 for line in text.split("\n"))
    return {
        "id": number,
        "type": "MarkdownNote",
        "pos": [-NOTE_WIDTH - GAP, 0],
        "size": [NOTE_WIDTH, 80 + 22 * lines],
        "flags": {},
        "order": len(nodes),
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "Read me",
        "properties": {},
        "widgets_values": [text],
        "color": "#432",
        "bgcolor": "#653",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    kept = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser("make_workflows", description=__doc__, formatter_class=kept).parse_args(arguments)
    from graphs import CORE, to_api
    from pack import Host

    with tempfile.TemporaryDirectory() as base:
        host = Host(Path(base))
        infos = {**CORE, **{name: node.GET_NODE_INFO_V1() for name, node in host.nodes.items()}}
    described = json.loads((ROOT / "scripts" / "workflows.json").read_text(encoding="utf-8"))
    for name, graph in described.items():
        built = build(name, graph, infos)
        for folder, content in (("workflows", built), ("tests/workflows", to_api(built, infos))):
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            (ROOT / folder / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{name}: {len(built['nodes'])} nodes, {len(built['links'])} links")


if __name__ == "__main__":
    main()
