"""What people read when an input cannot be used: its name first, then what is wrong, then what to do."""

from __future__ import annotations

import math
import pickle
import re
from fractions import Fraction
from typing import Any

import pytest
import torch
from tiny import NAMES, moving_face, tones

MODELS = {"speech_encoder": NAMES["speech"], **{f"{r}_model": NAMES[r] for r in ("identity", "motion", "appearance")}}
LIMITED = {  # nodes with numbers, and how many those are beside fps, which has limits of its own
    "MyTalkLipSync": 11,
    "MyTalkLoadSpeech": 3,
    "MyTalkExtractDenseLandmarks": 3,
    "MyTalkLandmarkDiffusionSampler": 6,
    "MyTalkRenderLandmarkImage": 1,
    "MyTalkMaskedReferenceSelect": 1,
    "MyTalkLandmarkOverlay": 2,
    "MyTalkEditMotion": 5,
    "MyTalkTuneActor": 2,
}


def refused(host: Any, node: str, **inputs: Any) -> str:
    with pytest.raises(host.module("comfyui_mytalk.errors").InputError) as error:
        host.run(node, **inputs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def given(clip) -> dict[str, dict[str, Any]]:
    """What is connected to each node that has a choice of models."""
    sampled = {"speech_features": clip.features, "track": clip.track, "identity": clip.identity}
    filmed = {"images": clip.images, "track": clip.track}
    return {
        "MyTalkLipSync": {"images": clip.images, "audio": clip.audio, **MODELS},
        "MyTalkWav2VecFeatures": {"audio": clip.audio},
        "MyTalkIdentityEmbed": {"track": clip.track},
        "MyTalkLandmarkDiffusionSampler": sampled,
        "MyTalkAppearanceVAE": {"images": clip.images, **clip.painted},
        "MyTalkFindOcclusions": filmed,
        "MyTalkTuneActor": filmed,
        "MyTalkScore": {"frames": clip.images, "source": clip.images, "track": clip.track, "audio": clip.audio}
        | {"identity_model": NAMES["identity"], "sync_judge": NAMES["sync_judge"]},
    }


def choices(host: Any) -> list[tuple[str, str]]:
    """Every node and input that chooses a model."""
    names = {"model", "encoder", "speech_encoder", "identity_model", "motion_model", "appearance_model", "sync_judge"}
    return [(node, i.id) for node, kind in host.nodes.items() for i in kind.GET_SCHEMA().inputs if i.id in names]


def test_numbers_through_a_link_are_held_to_the_limits_of_the_widget(host) -> None:
    """Before anything else: nothing is connected here."""
    tried = dict.fromkeys(LIMITED, 0)
    for node, kind in host.nodes.items():
        inputs = kind.GET_SCHEMA().inputs
        nothing = dict.fromkeys([i.id for i in inputs if not i.optional and getattr(i, "default", None) is None])
        for i in inputs:
            if getattr(i, "min", None) is None or i.id == "fps":
                continue
            tried[node] = tried.get(node, 0) + 1
            for value in (i.min - 1, i.max + 1, math.nan, "many"):
                said = refused(host, node, **nothing, **{i.id: value})
                whole = ", whole" if i.io_type == "INT" else ""
                limits = rf"expected \S+ to [0-9.]+{whole}; link a number within these limits"
                assert re.match(rf"{i.id}: got \S+, {limits}", said)
            if i.io_type == "INT":
                assert refused(host, node, **nothing, **{i.id: i.min + 0.5}).startswith(f"{i.id}: got ")
    assert tried == LIMITED


def test_links_that_bring_nothing_are_named(host, given) -> None:
    """A switch that nothing is connected to gives None, whatever the link's type; torch's errors do not say where."""
    for node, kind in host.nodes.items():
        inputs = [i for i in kind.GET_SCHEMA().inputs if not i.optional]
        usable = {i.id: i.default for i in inputs if getattr(i, "default", None) is not None}
        links = [i.id for i in inputs if i.id not in usable]
        for missing in set(links) - {"audio"}:  # which has words of its own
            said = refused(host, node, **usable, **{name: None if name == missing else "there" for name in links})
            assert said.startswith(f"{missing}: got nothing from the node that is linked to it; ")


def test_a_whole_number_that_comes_as_another_kind_is_one(host, clip) -> None:
    """Nodes that calculate give 128.0; torch takes no such size."""
    drawn = [host.run("MyTalkRenderLandmarkImage", track=clip.track, size=size)[0] for size in (64, 64.0, Fraction(64))]
    assert drawn[0].equal(drawn[1]) and drawn[0].equal(drawn[2])


def test_an_optional_number_that_a_graph_lacks_or_links_to_nothing_has_its_default(host, given) -> None:
    """The host passes only what a saved graph has."""
    node = "MyTalkLandmarkDiffusionSampler"
    required = [i for i in host.nodes[node].GET_SCHEMA().inputs if not i.optional]
    inputs = {i.id: i.default for i in required if getattr(i, "default", None) is not None}
    inputs |= {**given[node], "model": NAMES["motion"], "steps": 1}
    with torch.inference_mode():
        lacks, nothing, default = (
            host.method(node, "execute")(**inputs, **more).result[0].points
            for more in ({}, {"style_strength": None}, {"style_strength": 1.0})
        )
    assert lacks.equal(default) and nothing.equal(default)


def test_a_rate_through_a_link_may_be_a_fraction_and_nothing_but_a_number(host, clip) -> None:
    found = [host.run("MyTalkExtractDenseLandmarks", images=clip.images, fps=fps)[0] for fps in (12.5, Fraction(25, 2))]
    assert found[0].times.equal(found[1].times)
    for fps in (None, "25"):
        said = refused(host, "MyTalkExtractDenseLandmarks", images=clip.images, fps=fps)
        assert said.startswith(f"fps: got {fps!r} frames per second, expected 0.1 to 1000; ")


def test_whole_numbers_are_shown_with_every_digit(host) -> None:
    said = refused(host, "MyTalkLipSync", images=None, audio=None, seed=-1)
    assert said.startswith("seed: got -1, expected 0 to 18446744073709551615, whole; ")


def test_a_sampler_through_a_link_is_one_that_there_is(host, given) -> None:
    said = refused(host, "MyTalkLandmarkDiffusionSampler", **given["MyTalkLandmarkDiffusionSampler"], sampler="euler")
    assert said == "sampler: got 'euler', expected ddim or ddpm"


def test_a_wrong_file_is_blamed_on_the_input_that_chose_it(host, given) -> None:
    """And it is said what to choose instead."""
    chosen = choices(host)
    assert len(chosen) == 12
    for node, name in chosen:
        kind = "motion" if name == "sync_judge" else "sync_judge"
        other = NAMES[kind]
        said = refused(host, node, **given[node] | {name: other})
        assert re.match(rf"{name}: got {kind} weights in .*{other}\.safetensors, expected (\w+) weights: ", said), said
        assert re.search(r"weights: choose (\w+)_small or another file of that kind$", said)


def test_a_missing_file_is_blamed_on_the_input_that_chose_it(host, given) -> None:
    for node, name in choices(host):
        said = refused(host, node, **given[node] | {name: "gone"})
        assert re.match(rf"{name}: \w+ weights gone\.safetensors not found: put the file into ", said), said
        assert said.index(str(host.base / "models" / "mytalk")) < said.index("_small, which comes with the pack")
        assert said.count("`") == 2 and re.search(r"`python [\w./ -]+`, see weights/README\.md\)$", said), said


def test_what_is_missing_is_said_once_and_of_its_own_input(host) -> None:
    """The host repeats the text for every argument of `validate_inputs`, under the name of each."""
    import inspect

    for node, name in choices(host):
        arguments = list(inspect.signature(host.nodes[node].validate_inputs).parameters)
        assert len(arguments) == 1, node
        if name in arguments:
            said = host.method(node, "validate_inputs")(**{name: "gone"})
            assert said.startswith(f"{name}: "), said


def test_lip_sync_looks_for_all_models_before_anything_else(host, given, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a film is decoded, too."""
    for work in ("read_audio", "read_frames"):
        monkeypatch.setattr(host.module("nodes.lip_sync"), work, lambda *_: pytest.fail("long work"))
    for name in MODELS:
        assert refused(host, "MyTalkLipSync", **given["MyTalkLipSync"] | {name: "gone"}).startswith(f"{name}: ")
    monkeypatch.setattr(host.module("nodes.lip_sync"), "OCCLUSION", "occlusion_gone")
    assert refused(host, "MyTalkLipSync", **given["MyTalkLipSync"]).startswith("keep_occlusions: occlusion weights ")


def test_shipped_weights_that_are_missing_came_with_the_pack(host, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = host.module("comfyui_mytalk.checkpoints")
    monkeypatch.setattr(checkpoints, "_folders", [host.base / "models" / "mytalk"])
    said = host.method("MyTalkAppearanceVAE", "validate_inputs")(model="appearance_small")
    assert "not found: it comes with the pack, install that again, or put the file into" in said
    said = host.method("MyTalkExtractDenseLandmarks", "validate_inputs")(face="largest")
    assert said.startswith("face weights face_landmarks.safetensors not found: it comes with the pack")


def test_weights_of_another_program_are_called_so(host, given) -> None:
    from safetensors.torch import save_file

    path = host.base / "models" / "mytalk" / "motion_foreign.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    try:
        said = refused(host, "MyTalkLipSync", **given["MyTalkLipSync"] | {"motion_model": "motion_foreign"})
    finally:
        path.unlink()
    assert said.startswith("motion_model: got a file of another program in ") and "expected motion weights: " in said


@pytest.fixture
def files(host) -> dict[str, str]:
    """Files in the input folder in which nobody speaks."""
    from PIL import Image

    from comfyui_mytalk.video.writer import VideoWriter

    folder = host.base / "input"
    with VideoWriter(folder / "silent.mp4", 64, 64, fps=25) as writer:
        writer.write(torch.zeros(3, 64, 64, 3, dtype=torch.uint8))
    Image.new("RGB", (64, 64)).save(folder / "picture.png")
    (folder / "broken.wav").write_bytes(b"\x00\x01" * 50)
    (folder / "empty.wav").touch()
    return {"silent.mp4": "no sound", "picture.png": "no sound", "broken.wav": "cannot read", "empty.wav": "0 bytes"}


def test_a_file_without_speech_is_blamed_on_file(host, files) -> None:
    for name, reason in files.items():
        said = refused(host, "MyTalkLoadSpeech", file=name)
        assert said.startswith("file: ") and reason in said and name in said, said
        assert said.endswith("choose another file") and said.count("; ") == 1, said
    assert refused(host, "MyTalkLoadSpeech", file="gone.wav").startswith("file: gone.wav is not in ")


def test_sound_of_no_samples_comes_with_a_remedy(host, clip) -> None:
    empty = {"waveform": torch.zeros(1, 1, 0), "sample_rate": 16_000}
    for node, more in (("MyTalkLoadSpeech", {}), ("MyTalkWav2VecFeatures", {"encoder": NAMES["speech"]})):
        said = refused(host, node, audio=empty, **more)
        assert said.startswith("audio: got 0 samples at 16000 Hz, expected speech; ") and said.endswith("another sound")


@pytest.mark.parametrize("audio", ["speech.wav", 7, [1, 2], {"waveform": "x", "sample_rate": 1}, {"sample_rate": 1}])
def test_what_is_no_sound_is_named(host, audio: Any) -> None:
    said = refused(host, "MyTalkWav2VecFeatures", audio=audio, encoder=NAMES["speech"])
    assert re.match(r"audio: got a value of type \w+, expected sound; connect ", said), said


def test_what_are_no_pictures_is_named(host, clip, given) -> None:
    pasted = {"crops": clip.crops, "crop_mask": clip.crop_mask, **clip.laid}
    given = given | {"MyTalkPasteBack": {"images": clip.images, **pasted}, "MyTalkLandmarkOverlay": {**clip.laid}}
    del given["MyTalkLandmarkOverlay"]["motion"]
    tried = 0
    for node, inputs in given.items():
        for i in host.nodes[node].GET_SCHEMA().inputs:
            if i.id in ("images", "frames", "source", "landmark_images", "crops", "crop_mask", "keep_mask", "mask"):
                said = refused(host, node, **inputs | {i.id: "film.mp4"})
                assert said.startswith(f"{i.id}: got a value of type str, expected "), said
                tried += 1
    assert tried == 14


def test_wrong_counts_say_what_to_connect(host, clip) -> None:
    few = {"images": clip.images, **clip.painted, "landmark_images": clip.landmark_images[:1]}
    said = refused(host, "MyTalkAppearanceVAE", **few)
    assert said.startswith("landmark_images: got 1 frame, but the track has 10; connect the pictures that Render")
    crops = {"crops": clip.crops[:1], "crop_mask": clip.crop_mask, **clip.laid}
    said = refused(host, "MyTalkPasteBack", images=clip.images, **crops)
    assert said.startswith("crops: got 1 frame, but the track has 10; connect the crops that the Appearance VAE")


def test_a_track_without_a_face_is_named(host, clip) -> None:
    lost = clip.track.replace(found=torch.zeros(len(clip.track), dtype=torch.bool), filled=None)
    said = refused(host, "MyTalkIdentityEmbed", track=lost, model=NAMES["identity"])
    assert said.startswith("track: found no usable face")
    for count in (1, 2):
        few = {"images": clip.images[:count], "track": clip.track[:count]}
        said = refused(host, "MyTalkTuneActor", **few, model=NAMES["appearance"])
        assert said.startswith(f"images: got a usable face in {count} of {count} frames, expected one in more than 12 ")


def test_speech_that_was_cut_is_said(host) -> None:
    face, sound = moving_face(3), {"waveform": tones(0.6)[None], "sample_rate": 16_000}
    report = host.run("MyTalkLipSync", images=face, audio=sound, fps=25.0, steps=1, **MODELS)[3]
    said = "0.60 s of speech for 0.12 s of video, 0.48 s were cut: Fit Video to Speech makes the video as long"
    assert report.endswith(f"; {said}")
    describe = host.module("nodes.lip_sync").describe_length
    assert describe(2.0, 2.0) == "2.00 s of speech for 2.00 s of video" and "cut" not in describe(1.0, 2.0)


def test_one_frame_is_no_frames(host) -> None:
    sound = {"waveform": tones(0.04)[None], "sample_rate": 16_000}
    report = host.run("MyTalkFitVideoToSpeech", images=moving_face(1), audio=sound, fps=25.0, mode="trim")[3]
    assert report.startswith("1 frame and 0.04 s of speech became 1 frame at 25 fps")


def test_errors_are_short_in_logs_and_travel_between_processes(host) -> None:
    """Hosts write the class with its module, and the pack is imported under the whole path of its folder."""
    from comfyui_mytalk.errors import InputError

    kind = host.module("comfyui_mytalk.errors").InputError
    assert f"{kind.__module__}.{kind.__qualname__}" == "comfyui_mytalk.errors.InputError"
    again = pickle.loads(pickle.dumps(InputError("images: got nothing")))
    assert type(again) is InputError and str(again) == "images: got nothing"
