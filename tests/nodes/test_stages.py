"""What happens while a node works: the bar moves in every stage, cancel ends it, memory that runs out does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import NAMES

MODELS = {"speech_encoder": NAMES["speech"], **{f"{r}_model": NAMES[r] for r in ("identity", "motion", "appearance")}}
SHARES = (0, 50, 300, 400, 450, 1000)  # of the bar, at the ends of: speech, face, motion, references, picture


@pytest.fixture
def inputs(clip) -> dict[str, Any]:
    return {"images": clip.images, "audio": clip.audio, "fps": clip.fps, "seed": 3, "steps": 4, **MODELS}


@pytest.fixture
def bar(host, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Values that the host's bar is given, and whether a preview came along."""
    seen = []

    class Bar:
        def __init__(self, total: int) -> None:
            pass

        def update_absolute(self, value: int, total: int, preview: tuple | None = None) -> None:
            seen.append((value, preview is not None))

    monkeypatch.setattr(host.module("nodes.host").comfy.utils, "ProgressBar", Bar)
    return seen


def test_the_bar_moves_forwards_in_every_stage_and_shows_faces(host, inputs, bar) -> None:
    host.run("MyTalkLipSync", **inputs)
    values = [value for value, _ in bar]
    assert values == sorted(values) and values[-1] == 1000
    for start, stop in zip(SHARES[:-1], SHARES[1:], strict=True):
        assert any(start < value <= stop for value in values)
    assert any(shown for value, shown in bar if 50 < value <= 300), "the frames that are searched"
    assert any(shown for value, shown in bar if value > 450), "the finished frames"


def test_cancel_ends_every_stage_at_its_next_report(host, inputs, bar, monkeypatch: pytest.MonkeyPatch) -> None:
    management = host.module("nodes.host").comfy.model_management
    for allowed in (0, 2, 5, 9):
        bar.clear()

        def throw(allowed: int = allowed) -> None:
            if len(bar) >= allowed:
                raise management.InterruptProcessingException

        monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", throw)
        with pytest.raises(management.InterruptProcessingException):
            host.run("MyTalkLipSync", **inputs)
        assert len(bar) == allowed


def test_pictures_that_do_not_fit_are_painted_fewer_at_a_time(
    host, clip, inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fussy(where: str, name: str) -> None:
        module = host.module(where)
        paint = getattr(module, name)

        def run(model: Any, pictures: torch.Tensor, place: Any, *others: Any, **named: Any) -> Any:
            if len(place.pose) > 2:
                raise host.management.OOM_EXCEPTION("too many")
            return paint(model, pictures, place, *others, **named)

        monkeypatch.setattr(module, name, run)

    fussy("comfyui_mytalk.pipeline", "render_frames")
    fussy("nodes.appearance_vae", "paint_crops")
    frames = host.run("MyTalkLipSync", **inputs, reference_count=6, silence_gate=0.0)[0]
    assert (frames - clip.frames).abs().max() < 1e-4
    crops = host.run("MyTalkAppearanceVAE", images=clip.images, **clip.painted)[0]
    assert (crops - clip.crops).abs().max() < 1e-4


def test_motion_that_does_not_fit_is_sampled_in_fewer_windows(host, clip, monkeypatch: pytest.MonkeyPatch) -> None:
    module = host.module("nodes.landmark_diffusion_sampler")
    speak, asked = module.speak, []

    def run(model: Any, track: Any, features: Any, identity: Any, options: Any, *others: Any) -> Any:
        asked.append(options.window_batch)
        if options.window_batch > 2:
            raise host.management.OOM_EXCEPTION("too many")
        return speak(model, track, features, identity, options, *others)

    monkeypatch.setattr(module, "speak", run)
    sampled = {"speech_features": clip.features, "track": clip.track, "identity": clip.identity}
    motion = host.run("MyTalkLandmarkDiffusionSampler", **sampled, model=NAMES["motion"], seed=3, steps=4)[0]
    assert asked == [8, 4, 2] and torch.equal(motion.points, clip.motion.points)
