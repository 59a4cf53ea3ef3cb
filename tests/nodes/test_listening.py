"""Cancel inside a network: heard before the next block, and nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import NAMES
from torch import nn


class Part(nn.Module):
    """What somebody may have compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + 1


MODELS = {"speech_encoder": NAMES["speech"], **{f"{r}_model": NAMES[r] for r in ("identity", "motion", "appearance")}}


def hooked(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if module._forward_pre_hooks]


def painter(host: Any) -> nn.Module:
    """The network that paints, as the host holds it."""
    return host.module("nodes.appearance_vae").load_model(NAMES["appearance"])[0]


@pytest.mark.parametrize("node", ["AppearanceVAE", "LipSync"])
def test_cancel_is_heard_in_the_middle_of_a_batch_and_no_hook_is_left(host, clip, node: str) -> None:
    given = {
        "AppearanceVAE": clip.painted,
        "LipSync": {"audio": clip.audio, "fps": clip.fps, "steps": 2, **MODELS},
    }[node]
    model, ran = painter(host), []
    cancel = model.fusion.register_forward_hook(lambda *_: host.management.interrupt_current_processing(True))
    after = model.decoder.middle.register_forward_hook(lambda *_: ran.append(True))
    try:
        with pytest.raises(host.management.InterruptProcessingException):
            host.run(f"MyTalk{node}", images=clip.images, **given)
    finally:
        host.management.interrupt_current_processing(False)
        cancel.remove()
        after.remove()
    assert painter(host) is model and not ran, "the decoder comes after the fusion"
    assert not hooked(model)
    crops, _ = host.run("MyTalkAppearanceVAE", images=clip.images, **clip.painted)
    assert torch.equal(crops, clip.crops) and not hooked(model)


def test_an_error_of_the_network_leaves_no_hook_either(host) -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(RuntimeError), host.module("nodes.listening").listening(model):
        assert len(hooked(model)) == 2
        model(torch.zeros(3))
    assert not hooked(model)


@pytest.mark.parametrize("kind", ["wrapped", "in place", "forward"])
def test_what_is_compiled_is_neither_listened_in_nor_compiled_anew(host, kind: str) -> None:
    seen, asked = [], []

    def backend(graph: Any, _: Any) -> Any:
        seen.append(graph)
        return graph.forward

    compiled = part = Part()
    if kind == "wrapped":
        compiled = torch.compile(part, backend=backend)
    elif kind == "in place":
        part.compile(backend=backend)
    else:
        part.forward = torch.compile(part.forward, backend=backend)
    model, given = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), compiled), torch.rand(3, 2)
    with torch.inference_mode():
        expected = model(given)
        graphs = len(seen)
        with host.module("nodes.listening").listening(model, lambda: asked.append(True)):
            found = model(given)
    assert graphs and len(seen) == graphs
    assert torch.equal(found, expected) and len(asked) == 2, "the whole and its first part"
