"""What `sync` hands from step to step. Every step is a stand-in that remembers what it was given; files are real."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from comfyui_mytalk import speaking, sync
from comfyui_mytalk.appearance.occlusion import Occlusion
from comfyui_mytalk.appearance.references import BANK, FIXED
from comfyui_mytalk.inputs import read_inputs
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion.edit import MotionEdit
from comfyui_mytalk.motion.generate import MotionOptions
from comfyui_mytalk.motion.reference import UNHEARD
from comfyui_mytalk.options import SyncOptions
from comfyui_mytalk.speaking import Heard, Spoken, motion_choices, speak_in_style
from comfyui_mytalk.speech.audio import Audio, write_audio
from comfyui_mytalk.training.tune import TuneOptions
from comfyui_mytalk.video.colour import ColourTags
from comfyui_mytalk.video.reader import VideoReader
from comfyui_mytalk.video.writer import VideoWriter

FRAMES, FPS, SIDE = 6, 25, 64
SHOWN = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0, 1, 2]  # for half a second of speech, there and back
COVERED = [1, 4]
HDR = ColourTags(9, 16)


def film(path: Path, levels: list[int], colour: ColourTags | None = None, **tags: str) -> Path:
    """A film whose frames are grey, each in a shade of its own."""
    sound = Audio(torch.zeros(1, 16_000 * len(levels) // FPS), 16_000)
    with VideoWriter(path, SIDE, SIDE, FPS, sound, crf=1, colour=colour, tags=tags) as writer:
        writer.write(np.stack([np.full((SIDE, SIDE, 3), level, np.uint8) for level in levels]))
    return path


@pytest.fixture
def files(tmp_path: Path) -> SimpleNamespace:
    greys = [40 + 30 * frame for frame in range(FRAMES)]
    write_audio(tmp_path / "speech.wav", Audio(torch.rand(1, 8000) - 0.5, 16_000))
    return SimpleNamespace(
        film=film(tmp_path / "film.mp4", greys, HDR, title="Day 1"),
        other=film(tmp_path / "other.mp4", greys[:4]),
        masks=film(tmp_path / "masks.mp4", [255 * (frame in (0, 3)) for frame in range(FRAMES)]),
        speech=tmp_path / "speech.wav",
        out=tmp_path / "out.mp4",
    )


def shades(source: Any) -> list[int]:
    """Which frames of the film a source of frames shows."""
    return [round((frame.float().mean().item() - 40) / 30) for frames, _ in source.chunks(8) for frame in frames]


@dataclass
class Steps:
    """What each step was given, call by call."""

    given: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> tuple[Any, ...]:
        (inputs,) = self.given[name]
        return inputs

    def put(self, patch: pytest.MonkeyPatch, name: str, act: Any) -> None:
        def step(*inputs: Any, **named: Any) -> Any:
            self.given.setdefault(name, []).append((*inputs, *named.values()))
            return act(*inputs, **named)

        patch.setattr(sync, name, step)


def track_of(chunks: Any, *_: Any) -> FaceTrack:
    """A track as long as the film, whose points are the numbers of the frames."""
    frames = sum(len(frames) for frames, _ in chunks)
    points = torch.arange(float(frames))[:, None, None].expand(-1, 478, 3)
    return FaceTrack(points, torch.ones(frames) > 0, torch.arange(frames).double() / FPS, (SIDE, SIDE))


def covered_in(_: Any, source: Any, track: FaceTrack, *__: Any) -> Occlusion:
    return Occlusion.of([(frame, torch.ones(4, 4)) for frame in COVERED if frame < len(track)], len(track))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps()
    models = SimpleNamespace(landmarker="landmarker", occlusion="finder", appearance="painter")

    def paint(*inputs: Any, keep: Any, **_: Any) -> Any:
        source, chunk = inputs[1], inputs[5]
        steps.given["kept"] = [] if keep is None else list(keep)
        yield from ((frames, times, None) for frames, times in source.chunks(chunk))

    def tuned(model: Any, tuning: Any) -> Any:
        return SimpleNamespace(to=lambda dtype: (model, tuning))

    for name, act in {
        "load_models": lambda options: models,
        "track_faces": track_of,
        "find_occlusion": covered_in,
        "heard_in": lambda film, track: Heard(track, film.path),
        "speak_in_style": lambda _, track, *__: Spoken(track, UNHEARD),
        "geometry": lambda *tracks: tracks,
        "show_references": lambda *inputs: SimpleNamespace(frames=torch.tensor([2])),
        "told_occlusion": lambda *inputs: "told",
        "either": lambda *both: both,
        "tune_on_clip": lambda *inputs: "tuning",
        "tuned_copy": tuned,
        "render_clip": paint,
    }.items():
        steps.put(monkeypatch, name, act)
    return steps


def run(files: SimpleNamespace, **options: Any) -> dict[str, Any]:
    return sync.sync_video(files.film, files.speech, files.out, SyncOptions(device="cpu", **options))


def numbers(track: FaceTrack) -> list[int]:
    return track.points[:, 0, 0].int().tolist()


def test_everything_follows_the_timeline_of_the_output(files, steps) -> None:
    report = run(files, face="1", keep_mask=files.masks)
    assert steps["track_faces"][2] == 1, "the face that was asked for"
    model, source, spoken, place, _, chunk, _, _, occlusion = steps["render_clip"]
    assert model == "painter" and shades(source) == SHOWN == numbers(spoken)
    assert [numbers(track) for track in place] == [SHOWN, SHOWN], "room for the new mouth and the old"
    assert torch.allclose(spoken.times, torch.arange(len(SHOWN)).double() / FPS, atol=1e-4)
    assert (occlusion.rows >= 0).tolist() == [frame in COVERED for frame in SHOWN]
    kept = torch.cat(steps.given["kept"]).mean((1, 2)) > 0.5
    assert kept.tolist() == [frame in (0, 3) for frame in SHOWN]
    assert report["face"]["covered"] == [[1, 1], [4, 4], [6, 6], [9, 9], [11, 11]]
    made = VideoReader(files.out)
    assert shades(made) == SHOWN and made.info.colour == HDR and made.info.has_audio
    assert made.info.tags == {"title": "Day 1"}
    assert steps["speak_in_style"][2].duration == pytest.approx(len(SHOWN) / FPS)


def test_references_are_of_the_film_without_what_is_told_or_found_in_front_of_the_face(files, steps) -> None:
    assert run(files, keep_mask=files.masks)["references"] == [2]
    source, track, _, _, occlusion = steps["show_references"]
    assert shades(source) == numbers(track) == list(range(FRAMES))
    assert (occlusion[0].rows >= 0).nonzero()[:, 0].tolist() == COVERED and occlusion[1] == "told"
    assert numbers(steps["told_occlusion"][1]) == list(range(FRAMES))


@pytest.mark.parametrize(("references", "wanted"), [("fixed", (FIXED, True)), ("retrieved", (BANK, False))])
def test_references_are_as_many_as_their_kind_wants(monkeypatch, references, wanted) -> None:
    monkeypatch.setattr(sync, "geometry", lambda track: None)
    monkeypatch.setattr(sync, "select_references", lambda *given: given[3:5])
    assert sync.show_references(None, None, SyncOptions(references=references)) == wanted


def test_references_of_another_video_have_its_own_track_and_occlusions(files, steps) -> None:
    run(files, reference_video=files.other, keep_mask=files.masks)
    source, track, _, _, occlusion = steps["show_references"]
    assert shades(source) == numbers(track) == [0, 1, 2, 3]
    assert len(occlusion) == 4 and "told_occlusion" not in steps.given, "the mask is of the film"


@pytest.mark.parametrize("styled", [False, True])
def test_the_style_is_that_of_the_clip_that_is_heard(files, steps, styled: bool) -> None:
    report = run(files, style_video=files.other if styled else None)
    *_, style, reference = steps["speak_in_style"]
    shown = files.other if styled else files.film
    assert reference.audio == shown and report["style_reference"]["clip"] == str(shown)
    assert len(reference.track) == (4 if styled else FRAMES), "not the timeline of the output"
    assert style is (reference.track if styled else None)


def test_without_a_style_nothing_is_heard(files, steps) -> None:
    run(files, style_strength=0.0)
    assert "heard_in" not in steps.given and steps["speak_in_style"][-1] is None


def test_tuning_is_on_the_film_and_what_paints_is_tuned(files, steps) -> None:
    run(files, tune=7, seed=3)
    _, source, track, options, _ = steps["tune_on_clip"]
    assert shades(source) == numbers(track) == list(range(FRAMES)) and options == TuneOptions(7, seed=3)
    assert steps["render_clip"][0] == ("painter", "tuning")


def test_only_the_part_that_was_asked_for_is_used(files) -> None:
    chosen = {"start": 2 / FPS, "duration": 3 / FPS, "speech_start": 0.1, "speech_duration": 0.12}
    given = read_inputs(files.film, files.speech, files.out, SyncOptions(**chosen, keep_mask=files.masks))
    assert shades(given.film) == [2, 3, 4]
    kept = torch.cat(list(given.keep.chunks(8))).mean((1, 2)) > 0.5
    assert kept.tolist() == [False, True, False]
    assert given.audio.duration == pytest.approx(0.12) and given.line.index.tolist() == [0, 1, 2]


def test_choices_arrive_at_the_sampler_and_the_gate() -> None:
    options = SyncOptions(steps=3, seed=4, strength=0.5, style_strength=0.25, silence_gate=0.75)
    assert motion_choices(options) == (MotionOptions(3, 4, strength=0.5, style_strength=0.25), MotionEdit(gate=0.75))


def test_a_style_clip_gives_identity_manner_and_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    track, style = (track_of([(torch.zeros(frames, 1), None)]) for frames in (5, 9))
    given: dict[str, Any] = {}

    def step(name: str, result: Any) -> None:
        monkeypatch.setattr(speaking, name, lambda *inputs: given.update({name: inputs}) or result)

    for name, result in {"identity_tokens": "tokens", "unheard_reference": UNHEARD, "speak": track}.items():
        step(name, result)
    step("edit_motion", track)
    models = SimpleNamespace(speech=lambda speech: "features", identity=None, motion=None)
    speak_in_style(models, track, Audio(torch.zeros(1, 3200), 16_000), SyncOptions(), style=style)
    assert given["identity_tokens"][1] is style and given["edit_motion"][-1] is style
    assert any(each is style for each in given["speak"])
