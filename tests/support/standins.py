"""Graphs that begin with other people's models: what can be checked without the weights, and the part that is ours."""

from __future__ import annotations

from typing import Any

MEDIA = {  # a type of link -> the node and slot that stand in for what a missing model would have made
    "IMAGE": ("GetVideoComponents", 0),
    "AUDIO": ("LoadAudio", 0),
    "VIDEO": ("LoadVideo", 0),
}
SOURCES = {
    "stand-in film": {"class_type": "LoadVideo", "inputs": {"file": "actor.mp4"}},
    "stand-in frames": {"class_type": "GetVideoComponents", "inputs": {"video": ["stand-in film", 0]}},
    "stand-in speech": {"class_type": "LoadAudio", "inputs": {"audio": "speech.wav"}},
}
PLACE = {node["class_type"]: key for key, node in SOURCES.items()}


def links(node: dict[str, Any]) -> dict[str, list]:
    """Inputs of a node that come from another one."""
    return {name: value for name, value in node["inputs"].items() if isinstance(value, list)}


def lacking(prompt: dict[str, Any], infos: dict[str, dict]) -> dict[str, set[str]]:
    """Nodes whose choice of a file the host does not offer, with the inputs in question."""
    found: dict[str, set[str]] = {}
    for key, node in prompt.items():
        groups = infos[node["class_type"]]["input"]
        for name, (kind, *options) in {**groups.get("required", {}), **groups.get("optional", {})}.items():
            offered = options[0].get("options") if kind == "COMBO" else kind
            value = node["inputs"].get(name)
            if isinstance(offered, list) and isinstance(value, str) and value not in offered:
                found.setdefault(key, set()).add(name)
    return found


def runnable(prompt: dict[str, Any], infos: dict[str, dict]) -> dict[str, Any]:
    """The graph from the first picture, film or sound that missing models would have made.

    What missing weights feed goes with them, up to the first link that carries MEDIA; there a stand-in is put.
    """
    blocked, before = set(lacking(prompt, infos)), None
    while blocked != before:
        before = set(blocked)
        for key, node in prompt.items():
            if any(blocks(prompt, infos, before, link) for link in links(node).values()):
                blocked.add(key)
    kept = {key: {**node, "inputs": dict(node["inputs"])} for key, node in prompt.items() if key not in blocked}
    for node in kept.values():
        for name, (source, slot) in links(node).items():
            if source in blocked:
                stand_in, out = MEDIA[infos[prompt[source]["class_type"]]["output"][slot]]
                node["inputs"][name] = [PLACE[stand_in], out]
    return {**kept, **(SOURCES if blocked else {})}


def blocks(prompt: dict[str, Any], infos: dict[str, dict], blocked: set[str], link: list) -> bool:
    """Whether nothing can stand in for what comes over this link."""
    source, slot = link
    return source in blocked and infos[prompt[source]["class_type"]]["output"][slot] not in MEDIA
