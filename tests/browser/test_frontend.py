"""A user opens a template of ours, presses Run, and sees the result."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.host]
SHIPPED = sorted((Path(__file__).parents[2] / "workflows").glob("*.json"))
PLAYING = "Array.from(document.querySelectorAll('video')).some(v => v.src.includes('MyTalk') && v.videoWidth == 256)"


def covered(nodes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Types of nodes that lie on each other."""

    def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
        (x, y, w, h), (u, v, a, b) = one["box"], other["box"]
        return x < u + a and u < x + w and y < v + b and v < y + h

    return [(a["type"], b["type"]) for a, b in combinations(nodes, 2) if overlap(a, b)]


def test_template_opens_complete_and_runs(frontend) -> None:
    """With the shipped weights, the demo's file names and nothing else touched."""
    frontend.open_template("lipsync_all_in_one")
    nodes = frontend.nodes()
    assert not [node["type"] for node in nodes if node["errors"] or not node["registered"]]
    ours = next(node for node in nodes if node["type"] == "MyTalkLipSync")
    assert ours["links"] >= 2
    frontend.shoot("graph")
    frontend.press_run()
    server = frontend.server
    done = server.wait_until(lambda: server.json("/history"), "the end of the prompt")
    status = next(iter(done.values()))["status"]
    assert status["status_str"] == "success", status["messages"]
    frontend.page.wait_for_function(PLAYING)
    frontend.shoot("result")
    assert frontend.complaints == []
    assert covered(frontend.nodes()) == [], "previews make nodes taller"
    assert frontend.overhang() <= 0, "the node is too short for its film"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_no_node_is_missing_or_covered(frontend, path: Path) -> None:
    """In the sizes that the frontend gives nodes, which a file cannot know."""
    frontend.load(json.loads(path.read_text(encoding="utf-8")))
    nodes = frontend.nodes()
    assert [node["type"] for node in nodes if not node["registered"]] == []
    frontend.shoot(path.stem)
    assert covered(nodes) == []


def test_help_page_shows(frontend) -> None:
    """The page of the pack, not the bare list of inputs that the frontend makes when it finds none."""
    page = frontend.page
    frontend.load(json.loads(SHIPPED[0].with_stem("lipsync_all_in_one").read_text(encoding="utf-8")))
    page.evaluate("window.app.canvas.selectNodes([window.app.graph.nodes.find(n => n.type == 'MyTalkLipSync')])")
    page.locator("[data-testid='info-button'], .help-button").first.click()
    page.get_by_role("heading", name="Lip Sync (MyTalk)").first.wait_for()
    frontend.shoot("help")
