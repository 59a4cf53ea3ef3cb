"""The pack inside a host: the strict double in tests/fakehost, or the real modules where COMFYUI_PATH says."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS / "support"))


def load_pack() -> ModuleType:
    """Import the pack from its path, under a name that no import statement could spell, as the host does."""
    name = str(ROOT).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py")
    pack = importlib.util.module_from_spec(spec)
    sys.modules[name] = pack
    spec.loader.exec_module(pack)
    return pack


def start_modules(base: Path) -> bool:
    """Put a host's modules within reach; True when they are the real ones."""
    real = os.environ.get("COMFYUI_PATH")
    if not real:
        os.environ["FAKEHOST_BASE"] = str(base)
        sys.path.insert(0, str(TESTS / "fakehost"))
        return False
    sys.path.insert(0, real)
    argv, sys.argv = sys.argv, sys.argv[:1]
    from comfy.cli_args import args

    sys.argv = argv
    args.cpu, args.base_directory = True, str(base)
    return True


class Host:
    """Nodes by id, called as the host calls them."""

    def __init__(self, base: Path) -> None:
        self.base, self.real = base, start_modules(base)
        self.pack = load_pack()
        self.nodes = {node.GET_SCHEMA().node_id: node for node in self.module("nodes").NODES}
        self.management = importlib.import_module("comfy.model_management")

    def module(self, name: str) -> ModuleType:
        """A module of the pack, which is another object than the one that a plain import gives."""
        return importlib.import_module(f"{self.pack.__name__}.{name}")

    def method(self, node_id: str, name: str) -> Callable[..., Any]:
        """A class method of a node, bound to a locked clone of its class."""
        node = self.nodes[node_id]
        if self.real:
            from comfy_api.internal import make_locked_method_func

            return make_locked_method_func(node, name, node.PREPARE_CLASS_CLONE({}))
        clone = node.PREPARE_CLASS_CLONE({})
        return lambda **inputs: getattr(node, name).__func__(clone, **inputs)

    def run(self, node_id: str, **inputs: Any) -> tuple[Any, ...]:
        """Outputs of a node; widgets that are not given have their defaults."""
        schema = self.nodes[node_id].GET_SCHEMA()
        defaults = {i.id: i.default for i in schema.inputs if getattr(i, "default", None) is not None}
        with torch.inference_mode():
            return self.method(node_id, self.nodes[node_id].FUNCTION)(**{**defaults, **inputs}).result


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    from tiny import save_tiny_weights

    base = tmp_path_factory.mktemp("base")
    for folder in ("models/mytalk", "models/audio_encoders", "input", "output", "custom_nodes"):
        (base / folder).mkdir(parents=True)
    save_tiny_weights(base / "models" / "mytalk")
    return Host(base)


@pytest.fixture(scope="session")
def clip(host: Host) -> SimpleNamespace:
    """A small clip and everything that the nodes make of it, one after the other."""
    from tiny import NAMES, moving_face, tones

    c = SimpleNamespace(images=moving_face(), fps=24.0, audio={"waveform": tones(0.5)[None], "sample_rate": 16_000})
    c.speech = host.run("MyTalkLoadSpeech", audio=c.audio, duration=len(c.images) / c.fps)[0]
    c.features = host.run("MyTalkWav2VecFeatures", audio=c.speech, encoder=NAMES["speech"])[0]
    c.track, c.report = host.run("MyTalkExtractDenseLandmarks", images=c.images, fps=c.fps)
    c.identity = host.run("MyTalkIdentityEmbed", track=c.track, model=NAMES["identity"])[0]
    sampled = {"speech_features": c.features, "track": c.track, "identity": c.identity, "model": NAMES["motion"]}
    c.motion = host.run("MyTalkLandmarkDiffusionSampler", **sampled, seed=3, steps=4)[0]
    c.landmark_images = host.run("MyTalkRenderLandmarkImage", track=c.motion)[0]
    c.references, c.lips = host.run("MyTalkMaskedReferenceSelect", images=c.images, track=c.track, count=6)
    c.painted = {
        "track": c.track,
        "motion": c.motion,
        "landmark_images": c.landmark_images,
        "references": c.references,
        "model": NAMES["appearance"],
    }
    c.crops, c.crop_mask = host.run("MyTalkAppearanceVAE", images=c.images, **c.painted)
    c.frames, c.mask = host.run("MyTalkPasteBack", images=c.images, crops=c.crops, crop_mask=c.crop_mask, track=c.track)
    return c
