"""ComfyUI's frontend as a user sees and clicks it, from 1.27 (host 0.3.64) on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_server import PACK, Server

READY = "!!(window.app?.extensionManager?.command && window.LiteGraph?.registered_node_types['MyTalkLipSync'])"
NODES = """window.app.graph.nodes.map(node => ({
    type: node.type, registered: node.type in window.LiteGraph.registered_node_types, errors: !!node.has_errors,
    links: (node.inputs || []).filter(input => input.link != null).length,
    box: [node.pos[0], node.pos[1] - 30, node.size[0], node.size[1] + 30]}))"""
OVERHANG = """(() => {
    const {ds, canvas} = window.app.canvas
    const node = window.app.graph.nodes.find(node => node.type == 'SaveVideo')
    const edge = (node.pos[1] + node.size[1] + ds.offset[1]) * ds.scale + canvas.getBoundingClientRect().top
    const film = Array.from(document.querySelectorAll('video')).find(video => video.src.includes('MyTalk'))
    return (film.getBoundingClientRect().bottom - edge) / ds.scale})()"""
MENTIONS = (PACK, "mytalk")


class Frontend:
    """One page. `complaints` are console errors and failed requests that name the pack."""

    def __init__(self, page: Any, server: Server, shots: Path) -> None:
        self.page, self.server, self.shots = page, server, shots
        self.complaints: list[str] = []
        page.on("console", lambda said: said.type == "error" and self.complain(said.text))
        page.on("pageerror", lambda error: self.complain(f"{error} {error.stack}"))
        page.on("response", lambda reply: reply.status >= 400 and self.complain(f"{reply.status} {reply.url}"))
        page.goto(server.url, wait_until="commit")
        page.wait_for_function(READY)

    def complain(self, text: str) -> None:
        if any(name in text.lower() for name in MENTIONS):
            self.complaints.append(text)

    def command(self, name: str) -> None:
        """One of the frontend's commands, those behind its menus and keys."""
        self.page.evaluate(f"void window.app.extensionManager.command.execute('{name}')")

    def open_template(self, name: str) -> None:
        """Through the template browser: the pack's section, then the card."""
        self.command("Comfy.BrowseTemplates")
        self.page.get_by_text(PACK, exact=True).first.click()
        card = self.page.get_by_text(name, exact=True).first
        card.wait_for()
        self.shoot(f"templates_{name}")
        card.click()
        self.page.wait_for_function("window.app.graph.nodes.some(node => node.type.startsWith('MyTalk'))")
        self.page.wait_for_function("!document.querySelector('.p-dialog-mask')")
        self.command("Comfy.Canvas.FitView")

    def load(self, graph: dict[str, Any]) -> None:
        """A graph as a dropped file would bring it."""
        self.page.evaluate("graph => window.app.loadGraphData(graph)", graph)
        self.page.keyboard.press("Escape")  # a graph with other people's models opens a list of those that are missing
        self.command("Comfy.Canvas.FitView")

    def nodes(self) -> list[dict[str, Any]]:
        """Type, whether it is registered, errors, linked inputs and box (x, y, width, height with title) of each."""
        return self.page.evaluate(NODES)

    def overhang(self) -> float:
        """How far the film that was saved hangs over the lower edge of its node, in pixels of the canvas."""
        return self.page.evaluate(OVERHANG)

    def press_run(self) -> None:
        self.page.get_by_test_id("queue-button").first.click()

    def shoot(self, name: str) -> Path:
        """A picture of the window."""
        self.page.wait_for_timeout(1500)  # fonts and thumbnails have no event to wait for
        path = self.shots / f"{name}.png"
        self.page.screenshot(path=path)
        return path
