"""The demo material is what demo/README.md says, and small enough for git."""

from __future__ import annotations

from pathlib import Path

from comfyui_mytalk.landmarks.track import load_face_landmarker, track_faces
from comfyui_mytalk.speech.audio import read_audio
from comfyui_mytalk.video.reader import VideoReader

DEMO = Path(__file__).parents[2] / "demo"


def test_actor_shows_one_large_face_in_every_frame() -> None:
    reader = VideoReader(DEMO / "actor.mp4")
    assert (reader.info.width, reader.info.height, reader.info.fps, reader.info.frames) == (512, 512, 25, 150)
    assert not reader.info.has_audio
    track = track_faces(VideoReader(DEMO / "actor.mp4", duration=0.6).chunks(16), load_face_landmarker("cpu"))
    assert track.found.all()
    width = track.points[..., 0].amax(1) - track.points[..., 0].amin(1)
    assert width.min() > 150


def test_speech_fits_the_actor_and_does_not_clip() -> None:
    speech = read_audio(DEMO / "speech.wav")
    assert speech.sample_rate == 16_000 and len(speech.waveform) == 1
    assert 5 < speech.duration <= 6
    assert 0.5 < speech.waveform.abs().max() < 0.9
    assert speech.waveform[:, : speech.sample_rate // 10].abs().max() < 0.01, "begins in silence"


def test_material_is_small() -> None:
    assert (DEMO / "actor.mp4").stat().st_size < 1_000_000
    assert (DEMO / "speech.wav").stat().st_size < 300_000
