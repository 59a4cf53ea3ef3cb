"""The whole chain on what other packs and video models really send: every rate, precision, length and form of sound."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from tiny import NAMES, Film, LazyAudio, moving_face, tones

MODELS = {"speech_encoder": NAMES["speech"], **{f"{r}_model": NAMES[r] for r in ("identity", "motion", "appearance")}}
NTSC = 24000 / 1001


def audio(seconds: float, rate: int = 16_000) -> dict[str, Any]:
    return {"waveform": tones(seconds, rate)[None], "sample_rate": rate}


@pytest.mark.parametrize(
    ("fps", "images", "sound"),
    [
        (16.0, "half", LazyAudio(tones(0.3, 44_100)[None], 44_100)),
        (NTSC, "float", audio(0.05)),  # ends within the second frame
        (24.0, "alpha", audio(0.1, 8000)),
        (25.0, "one", audio(3.0, 48_000)),
        (30.0, "float", {"waveform": (tones(0.4) * 32_000).short()[None], "sample_rate": 16_000}),
        (60.0, "half", {"waveform": tones(0.2)[None].expand(1, 2, -1).half(), "sample_rate": 16_000}),
        (50.0, "float", {"waveform": torch.zeros(1, 1, 1600), "sample_rate": 16_000}),
    ],
    ids=["16-lazy-half", "23.976-short", "24-alpha", "25-one-frame", "30-int16", "60-stereo-half", "50-silence"],
)
def test_as_many_frames_as_came_with_sound_as_long(host, fps: float, images: str, sound: Any) -> None:
    face = moving_face(1 if images == "one" else 3)
    face = {"half": face.half(), "alpha": torch.cat([face, face[..., :1]], -1)}.get(images, face)
    before = face.clone()
    frames, speech, mask, report, rate = host.run("MyTalkLipSync", images=face, audio=sound, fps=fps, steps=1, **MODELS)
    assert frames.shape == face.shape and frames.dtype == face.dtype and rate == fps
    assert torch.equal(frames[mask == 0], face[mask == 0]) and not torch.equal(frames, face)
    assert torch.equal(face, before), "inputs are other nodes' outputs too"
    assert speech["sample_rate"] == sound["sample_rate"] and speech["waveform"].dtype == torch.float32
    assert speech["waveform"].shape[2] == round(len(face) / fps * sound["sample_rate"])
    assert f"face found in {len(face)} of {len(face)} frame{'s' * (len(face) > 1)}, " in report
    assert "1 frames" not in report


@pytest.mark.parametrize("seconds", [0.04, 0.11, 0.3])
@pytest.mark.parametrize("fps", [16.0, NTSC, 24.0, 25.0, 30.0, 60.0])
def test_speech_of_any_length_drives_a_clip_of_any_rate(host, clip, fps: float, seconds: float) -> None:
    """In single steps nobody has cut or padded the speech: empty tails and tails too long."""
    track = clip.track.replace(times=torch.arange(len(clip.track), dtype=torch.float64) / fps)
    features = host.run("MyTalkWav2VecFeatures", audio=audio(seconds), encoder=NAMES["speech"])[0]
    sampled = {"speech_features": features, "track": track, "identity": clip.identity, "model": NAMES["motion"]}
    motion = host.run("MyTalkLandmarkDiffusionSampler", **sampled, steps=1)[0]
    assert len(motion) == len(track) and motion.points.isfinite().all()
    assert torch.equal(motion.times, track.times)


def test_sound_of_a_silent_film_is_one_clear_line(host, clip) -> None:
    with pytest.raises(ValueError, match="^audio: got no audio"):
        host.run("MyTalkLipSync", images=Film(clip.images, Fraction(25)), audio=None, **MODELS)


def test_film_without_a_face_is_one_clear_line(host) -> None:
    blank = torch.full((2, 64, 64, 3), 0.5)
    with pytest.raises(ValueError, match="^images: no face found"):
        host.run("MyTalkLipSync", images=Film(blank, Fraction(25)), audio=audio(0.2), **MODELS)
