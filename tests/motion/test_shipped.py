"""The shipped weights on the demo speech and a face that is nobody's: small facts that random weights do not show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from comfyui_mytalk.checkpoints import find_weights
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion.generate import MotionOptions, speak
from comfyui_mytalk.motion.identity import identity_tokens, load_identity, mouth_opening
from comfyui_mytalk.motion.model import check_needs, load_motion
from comfyui_mytalk.speech.audio import read_audio, speech_16k
from comfyui_mytalk.speech.features import load_speech_encoder
from tests.synthetic_clips import face, pose, talking_points

ROOT = Path(__file__).resolve().parents[2]
PAUSE = 50  # frames of silence before and after the speech


@pytest.fixture(scope="module")
def spoken() -> tuple[Tensor, Tensor]:
    """Opening beyond the resting mouth's `(t,)`, cm, for the demo speech between two pauses, and loudness `(t,)`."""
    speech = speech_16k(read_audio(ROOT / "demo" / "speech.wav"))[: 640 * 100]
    silence = torch.zeros(640 * PAUSE)
    speech = torch.cat([silence, speech, silence])
    frames = len(speech) // 640
    points, times = talking_points(frames)
    track = FaceTrack(points, torch.ones(frames, dtype=torch.bool), times, (256, 256))
    model, extractor, encoder = load_motion(), load_identity(), load_speech_encoder()
    check_needs(model, encoder, extractor)
    track = speak(model, track, encoder(speech), identity_tokens(extractor, track), MotionOptions(steps=10))
    pixels_per_cm = pose(1).scale.item()
    rest = mouth_opening(face()[None])
    return mouth_opening(track.points) / pixels_per_cm - rest, speech.view(-1, 640).std(1)


def test_weights_are_small() -> None:
    for kind in ("motion", "identity"):
        assert find_weights(f"{kind}_small", kind).stat().st_size < 30e6


def test_silence_closes_the_mouth_and_speech_opens_it(spoken: tuple[Tensor, Tensor]) -> None:
    opening, _ = spoken
    pause = torch.cat([opening[10 : PAUSE - 10], opening[10 - PAUSE : -10]])
    assert pause.median() < 0.3
    assert opening[PAUSE:-PAUSE].median() > pause.median() + 0.1
    assert opening.max() < 4


def test_the_mouth_follows_the_voice(spoken: tuple[Tensor, Tensor]) -> None:
    opening, loudness = (values[PAUSE:-PAUSE] for values in spoken)
    assert torch.corrcoef(torch.stack([opening, loudness.sqrt()]))[0, 1] > 0.25
    assert opening.max() - opening.min() > 0.4


def test_motion_is_smooth(spoken: tuple[Tensor, Tensor]) -> None:
    """No frame-to-frame noise: a lip never jumps by more than a centimetre within 40 ms."""
    opening, _ = spoken
    assert opening.diff().abs().max() < 1.0
    assert opening.diff().abs().mean() < 0.15


def test_identity_tokens_tell_people_apart() -> None:
    extractor = load_identity()
    torch.manual_seed(0)
    narrow, same, wide = (face(width) + 0.03 * torch.randn(478, 3) for width in (0.85, 0.85, 1.15))
    narrow, same, wide = extractor(torch.stack([narrow, same, wide]))
    assert narrow @ same > narrow @ wide + 0.2
