"""What Lip Sync does beside the nine steps, and what it refuses before it begins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import NAMES

MODELS = {"speech_encoder": NAMES["speech"], **{f"{r}_model": NAMES[r] for r in ("identity", "motion", "appearance")}}


@pytest.fixture
def inputs(clip) -> dict[str, Any]:
    """Speech that ends early in the clip."""
    waveform = clip.audio["waveform"].clone()
    waveform[..., 1600:] = 0
    audio = {"waveform": waveform, "sample_rate": 16_000}
    return {"images": clip.images, "audio": audio, "fps": clip.fps, "seed": 3, "steps": 4, **MODELS}


def test_mouth_rests_in_pauses_as_on_the_command_line(host, inputs) -> None:
    gate = host.module("comfyui_mytalk.options").SyncOptions().silence_gate
    schema = host.nodes["MyTalkLipSync"].GET_SCHEMA()
    assert next(i.default for i in schema.inputs if i.id == "silence_gate") == gate == 1
    frames = {gate: host.run("MyTalkLipSync", **inputs, silence_gate=gate)[0] for gate in (0.0, 1.0)}
    as_saved = host.run("MyTalkLipSync", **inputs)[0]
    assert torch.equal(as_saved, frames[1.0]), "graphs saved before there was a gate rest as well"
    moved = (frames[1.0] - frames[0.0]).abs().flatten(1).amax(1)
    assert moved[-1] > 0.01


def test_pauses_are_edited_as_the_single_node_does(host, clip, inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    module, motions = host.module("nodes.lip_sync"), {}
    render = module.render

    def keep(images: Any, track: Any, motion: Any, *others: Any) -> Any:
        motions[gate] = track, motion
        return render(images, track, motion, *others)

    monkeypatch.setattr(module, "render", keep)
    for gate in (0.0, 0.5):
        _, speech, *_ = host.run("MyTalkLipSync", **inputs, silence_gate=gate)
    track, generated = motions[0.0]
    edited = host.run("MyTalkEditMotion", track=track, motion=generated, audio=speech, silence_gate=0.5)[0]
    assert torch.equal(motions[0.5][1].points, edited.points) and not torch.equal(edited.points, generated.points)


def test_style_is_the_manner_of_identity_motion_and_rest(host, clip, inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = host.module("nodes.lip_sync"), []
    style = clip.track.replace(points=clip.track.points + 0.5)
    embed, sample, edit = module.embed_identity, module.sample_motion, module.edit_motion
    monkeypatch.setattr(module, "embed_identity", lambda track, model: seen.append(track) or embed(track, model))
    monkeypatch.setattr(module, "sample_motion", lambda *given: seen.append(given[-2]) or sample(*given))
    monkeypatch.setattr(module, "edit_motion", lambda *given: seen.append(given[-1]) or edit(*given))
    host.run("MyTalkLipSync", **inputs, style=style)
    assert len(seen) == 3 and all(track is style for track in seen)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"speech_encoder": "speech_small"}, r"^motion_model: .*speech features"),
        ({"identity_model": "identity_small"}, r"^motion_model: .*identity"),
        ({"references": "latest"}, r"^references: got 'latest', expected nearest mouth or fixed$"),
        ({"reference_count": 0}, r"^reference_count: got 0, expected 3 to 256, whole; link"),
        ({"silence_gate": 1.5}, r"^silence_gate: .*1\.5, expected 0 to 1"),
        ({"silence_gate": float("nan")}, r"^silence_gate: .*nan, expected 0 to 1"),
        ({"face": "prettiest"}, r"^face: got"),
    ],
)
def test_what_does_not_fit_is_known_before_long_work(
    host, inputs, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    for work in ("speech_features", "extract", "see_occlusions", "sample_motion", "select", "render"):
        monkeypatch.setattr(host.module("nodes.lip_sync"), work, lambda *_: pytest.fail("long work"))
    with pytest.raises(ValueError, match=said):
        host.run("MyTalkLipSync", **inputs | change)


def test_a_tuning_of_other_weights_is_known_before_long_work(host, inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = host.module("comfyui_mytalk.appearance.tuning").Tuning({}, "another", "0" * 64)
    for work in ("speech_features", "extract"):
        monkeypatch.setattr(host.module("nodes.lip_sync"), work, lambda *_: pytest.fail("long work"))
    with pytest.raises(ValueError, match="^tuned: this tuning is of another"):
        host.run("MyTalkLipSync", **inputs, tuned=tuning)


def test_checking_moves_no_network(host, inputs) -> None:
    """They are read, which a run needs anyway; the host makes room on the device for one at a time, when it works."""
    module, loads = host.module("nodes.lip_sync"), []
    names = [inputs[key] for key in ("speech_encoder", "identity_model", "motion_model", "appearance_model")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host.management, "load_models_gpu", lambda *given, **_: loads.append(given))
        module.check_models(*names, None)
    assert not loads


@pytest.fixture
def asked(host, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Which clips a model is asked about that can take a style reference, as the tiny one cannot."""
    module, reference = host.module("nodes.landmark_diffusion_sampler"), host.module("comfyui_mytalk.motion.reference")
    asked: list[tuple[Any, ...]] = []
    unheard = (reference.UNWANTED, reference.UNHEARD)
    monkeypatch.setattr(module, "unheard_reference", lambda model, track, strength: unheard[strength > 0])
    doubted = reference.StyleReference(None, "the lips say something else")
    monkeypatch.setattr(module, "remember", lambda *given: asked.append(given) or doubted)
    return asked


def test_the_clips_own_sound_is_its_style_reference(host, clip, inputs, asked) -> None:
    """Of a video by itself, of frames when it is connected; what is said is not mistaken for what was said."""
    own = {"waveform": torch.randn(1, 1, 6400, generator=torch.Generator().manual_seed(0)), "sample_rate": 16_000}
    alone = host.run("MyTalkLipSync", **inputs)[3]
    off = host.run("MyTalkLipSync", **inputs, source_audio=own, style_strength=0.0)[3]
    assert not asked
    assert "; no style reference: no sound came with the clip; " in alone
    assert "; no style reference: style_strength is 0; " in off
    report = host.run("MyTalkLipSync", **inputs, source_audio=own)[3]
    assert "; no style reference: the lips say something else; " in report
    track, features = asked[0][1:3]
    assert torch.equal(track.points, clip.track.points)
    assert features.shape != clip.features.values.shape or not torch.equal(features, clip.features.values)
    parts = SimpleNamespace(images=inputs["images"], frame_rate=24, audio=own)
    host.run("MyTalkLipSync", **(inputs | {"images": SimpleNamespace(get_components=lambda: parts)}))
    assert torch.equal(asked[1][2], features)
    with pytest.raises(Exception, match="source_audio: got 2 sounds"):
        two = own | {"waveform": own["waveform"].repeat(2, 1, 1)}
        host.run("MyTalkLipSync", **inputs, source_audio=two)


@pytest.mark.parametrize("node", ["MyTalkLandmarkDiffusionSampler", "MyTalkLipSync"])
def test_every_choice_arrives_at_the_sampler(host, clip, inputs, monkeypatch: pytest.MonkeyPatch, node: str) -> None:
    module, arrived = host.module("nodes.landmark_diffusion_sampler"), []

    def speak(*given: Any) -> None:
        arrived.append(given[4])
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "speak", speak)
    chosen = {"steps": 3, "seed": 5, "strength": 0.75, "guidance": 2.0, "variation": 0.25, "style_strength": 0.5}
    given = inputs
    if node != "MyTalkLipSync":
        given = {"speech_features": clip.features, "track": clip.track, "identity": clip.identity}
        given |= {"model": NAMES["motion"]}
        chosen |= {"sampler": "ddpm", "match_range": False}
    with pytest.raises(KeyboardInterrupt):
        host.run(node, **given | chosen)
    assert arrived == [host.module("comfyui_mytalk.motion.generate").MotionOptions(**chosen)]


@pytest.fixture
def handed(host, clip, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """What Lip Sync gives to its steps, none of which works; it ends where pictures would be rendered."""
    module, given = host.module("nodes.lip_sync"), {}

    def step(name: str, result: Any) -> None:
        monkeypatch.setattr(module, name, lambda *inputs: given.update({name: inputs}) or result)

    results = {"speech_features": "features", "extract": clip.track, "see_occlusions": "occlusion", "select": "bank"}
    results |= {"embed_identity": "identity", "sample_motion": (clip.motion, None), "edit_motion": clip.motion}
    for name, result in results.items():
        step(name, result)

    def render(*inputs: Any) -> None:
        given["render"] = inputs
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "render", render)
    return given


def test_what_stays_as_filmed_stays_out_of_references_and_pictures(host, inputs, handed) -> None:
    keep = torch.rand(inputs["images"].shape[:3])
    with pytest.raises(KeyboardInterrupt):
        host.run("MyTalkLipSync", **inputs, keep_mask=keep)
    for step in ("select", "render"):
        kept, occlusion = handed[step][-2:]
        assert torch.equal(kept, keep) and occlusion == "occlusion"


def test_without_keep_occlusions_nothing_is_looked_for(host, inputs, handed) -> None:
    with pytest.raises(KeyboardInterrupt):
        host.run("MyTalkLipSync", **inputs, keep_occlusions=False)
    assert "see_occlusions" not in handed and handed["select"][-1] is handed["render"][-1] is None


def test_a_style_clip_is_not_listened_to_by_the_sound_of_another(host, clip, inputs, handed) -> None:
    parts = SimpleNamespace(images=inputs["images"], frame_rate=24, audio=clip.audio)
    inputs["images"] = SimpleNamespace(get_components=lambda: parts)
    heard = []
    for style in (None, clip.track):
        with pytest.raises(KeyboardInterrupt):
            host.run("MyTalkLipSync", **inputs, style=style)
        heard.append(handed["sample_motion"][-1])
    assert heard == ["features", None]


def test_a_reference_that_is_taken_is_said(host) -> None:
    reference = host.module("comfyui_mytalk.motion.reference").StyleReference(object(), "the lips say it")
    describe = host.module("nodes.lip_sync").describe_reference
    assert describe(reference, True) == "style reference from the sound of the video: the lips say it"
    assert describe(reference, False) == "style reference from source_audio: the lips say it"


def test_the_sampler_listens_to_the_style_clip(host, clip, asked) -> None:
    style = clip.track.replace(points=clip.track.points + 0.5)
    sampled = {"speech_features": clip.features, "track": clip.track, "identity": clip.identity, "steps": 2}
    for chosen in (None, style):
        host.run(
            "MyTalkLandmarkDiffusionSampler", **sampled, model="motion_tiny", style=chosen, style_features=clip.features
        )
    assert [given[1] for given in asked] == [clip.track, style]
