"""From a face and a sound to the face that says it: when a clip's own sound is listened to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from comfyui_mytalk import speaking
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.models import load_models
from comfyui_mytalk.motion.reference import UNHEARD
from comfyui_mytalk.options import SyncOptions
from comfyui_mytalk.speaking import Heard, heard_in, speak_in_style
from comfyui_mytalk.speech.audio import Audio
from comfyui_mytalk.video.reader import VideoReader
from comfyui_mytalk.video.writer import VideoWriter
from tests.synthetic_clips import talking_points

RATE = 16_000


@pytest.fixture(scope="module")
def models() -> SimpleNamespace:
    loaded = load_models(SyncOptions(device="cpu", keep_occlusions=False))
    return SimpleNamespace(speech=loaded.speech, identity=loaded.identity, motion=loaded.motion)


@pytest.fixture(scope="module")
def track() -> FaceTrack:
    points, times = talking_points(60)
    return FaceTrack(points, torch.ones(60) > 0, times, (256, 256))


def film(path: Path, sound: Audio | None) -> VideoReader:
    with VideoWriter(path, 64, 64, 25, sound) as writer:
        writer.write(torch.zeros(50, 64, 64, 3, dtype=torch.uint8), torch.arange(50, dtype=torch.float64) / 25)
    return VideoReader(path)


def test_a_films_sound_is_heard_from_where_it_is_seen(tmp_path: Path, track: FaceTrack) -> None:
    wave = torch.zeros(1, 2 * RATE)
    wave[0, RATE:] = torch.sin(torch.arange(RATE) * 0.3)
    film(tmp_path / "a.mp4", Audio(wave, RATE))
    whole, later = (heard_in(VideoReader(tmp_path / "a.mp4", start), track).audio for start in (0.0, 1.0))
    assert whole.waveform[:, : RATE // 2].abs().max() < 0.01 < 0.5 < later.waveform[:, : RATE // 2].abs().max()


def test_a_silent_film_and_one_whose_sound_ends_early_are_not_heard(tmp_path: Path, track: FaceTrack) -> None:
    assert heard_in(film(tmp_path / "mute.mp4", None), track) is None
    film(tmp_path / "short.mp4", Audio(torch.zeros(1, RATE // 2), RATE))
    assert heard_in(VideoReader(tmp_path / "short.mp4", 1.5), track) is None


def test_a_reference_is_asked_for_only_where_it_is_wanted(models, track, monkeypatch) -> None:
    sound = Audio(torch.randn(1, round(60 / 25 * RATE), generator=torch.Generator().manual_seed(0)) * 0.1, RATE)
    asked = []
    monkeypatch.setattr(speaking, "remember", lambda *given: asked.append(given) or UNHEARD)
    plain = speak_in_style(models, track, sound, SyncOptions(steps=2)).track
    assert not asked
    mute = SyncOptions(steps=2, style_strength=0.0)
    off = speak_in_style(models, track, sound, mute, reference=Heard(track, sound)).track
    assert not asked and torch.equal(off.points, plain.points)
    speak_in_style(models, track, sound, SyncOptions(steps=2), reference=Heard(track, sound))
    assert len(asked) == (models.motion.style is not None)
