"""What each method is given: references and style of the other half, and figures that are kept by every option."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from comfyui_mytalk.appearance.references import FIXED
from comfyui_mytalk.evaluation import methods
from comfyui_mytalk.evaluation.evaluate import OPTIONS, add_arguments, describe_settings
from comfyui_mytalk.evaluation.methods import OURS, Studio, reference_bank
from comfyui_mytalk.evaluation.talks import PAIRED, UNPAIRED, Case, Talk
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.options import SyncOptions
from comfyui_mytalk.speaking import Spoken
from comfyui_mytalk.speech.audio import Audio
from tests.synthetic_clips import talking_points

FRAMES = 20


@pytest.fixture
def case() -> Case:
    points, times = talking_points(FRAMES)
    track = FaceTrack(points, torch.ones(FRAMES) > 0, times, (256, 256))
    talk = Talk(Path(), track, Audio(torch.zeros(1, 12_800), 16_000), 25.0)
    return Case(PAIRED, talk, talk, torch.zeros(FRAMES, 8, 8, 3, dtype=torch.uint8))


def studio() -> Studio:
    return Studio(SimpleNamespace(appearance="network", occlusion=None), SyncOptions(references="fixed"))


def test_each_half_speaks_in_the_style_of_the_other(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    def speak(_, track, audio, options, reference) -> Spoken:
        heard.append(reference.track.usable.nonzero()[:, 0].tolist())
        return Spoken(track, None)

    monkeypatch.setattr(methods, "speak_in_style", speak)
    studio().speak(case)
    assert heard == [list(range(15, 20)), list(range(5))]


def test_the_source_is_shifted_by_the_times_of_its_frames(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    track = case.talk.track.replace(times=torch.linspace(0, 1, FRAMES, dtype=torch.float64).square())
    seen, case = [], Case(UNPAIRED, replace(case.talk, track=track), case.speaker, case.frames)
    monkeypatch.setattr(
        methods, "speak_in_style", lambda _, track, *rest, **given: seen.append(track) or Spoken(track, None)
    )
    monkeypatch.setattr(methods, "paint", lambda *given: None)
    studio().make_shifted(case)
    assert torch.equal(seen[0].points, track.points.roll(-13, 0)), "frame 13 is shown at 0.47 s"
    assert torch.equal(seen[0].times, track.times)


def test_fixed_references_are_the_networks_alone(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, shows = {}, studio()
    monkeypatch.setattr(shows, "move", lambda *_: case.talk.track)
    for method in (OURS, "nearest frame"):
        monkeypatch.setattr(methods, "paint", lambda *given, of=method: asked.update({of: given[-1]}))
        shows.make(case, method)
    assert asked == {OURS: True, "nearest frame": False}
    monkeypatch.setattr(methods, "select_references", lambda *given, **_: given[3])
    banks = [reference_bank(case, slice(0, 10), case.talk.track, fixed) for fixed in (3, 0, 3)]
    assert banks == [3, methods.BANK, 3], "and each is kept for itself"


def test_fixed_references_are_the_papers_three(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, made = [], (torch.zeros(FRAMES, 8, 8, 3), None, torch.zeros(FRAMES, 1, 4, 4))
    monkeypatch.setattr(methods, "reference_bank", lambda *given: given[3])
    monkeypatch.setattr(methods, "render_clip", lambda *given, **_: shown.append(given[4]) or [made])
    for fixed in (True, False):
        methods.paint(None, case, case.talk.track, fixed=fixed)
    assert shown == [FIXED, FIXED, 0, 0], "for each half"


def test_figures_are_kept_by_every_option() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    models = SimpleNamespace(speech=SimpleNamespace(sha256=64 * "0"))
    settings = describe_settings(parser.parse_args(["clips"]), [OURS], models)
    assert [name for name in OPTIONS if not {name.replace("_", " "), f"weights {name}"} & set(settings)] == []
