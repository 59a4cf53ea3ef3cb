"""The shipped weights on the demo speech and a face that is nobody's: small facts that random weights do not show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from comfyui_mytalk.checkpoints import find_weights
from comfyui_mytalk.landmarks.canonical import mouth_opening
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion.generate import MotionOptions, speak
from comfyui_mytalk.motion.identity import identity_tokens, load_identity
from comfyui_mytalk.motion.model import check_needs, load_motion
from comfyui_mytalk.speech.audio import read_audio, speech_16k
from comfyui_mytalk.speech.features import load_speech_encoder
from tests.synthetic_clips import face, pose, talking_points

ROOT = Path(__file__).resolve().parents[2]
PAUSE = 50  # frames of silence before and after the speech


def opening_of(speech: Tensor, seed: int = 0) -> Tensor:
    """Opening `(t,)` beyond the resting mouth's, cm, of a face that speaks `speech (640 t,)`."""
    frames = len(speech) // 640
    points, times = talking_points(frames)
    track = FaceTrack(points, torch.ones(frames, dtype=torch.bool), times, (256, 256))
    model, extractor, encoder = load_motion(), load_identity(), load_speech_encoder()
    check_needs(model, encoder, extractor)
    tokens = identity_tokens(extractor, track)
    track = speak(model, track, encoder(speech), tokens, MotionOptions(steps=8, seed=seed))
    return mouth_opening(track.points) / pose(1).scale.item() - mouth_opening(face()[None])


@pytest.fixture(scope="module")
def speech() -> Tensor:
    """Three seconds of the demo speech between two pauses."""
    speech = speech_16k(read_audio(ROOT / "demo" / "speech.wav"))[: 640 * 75]
    return torch.nn.functional.pad(speech, (640 * PAUSE, 640 * PAUSE))


@pytest.fixture(scope="module")
def opening(speech: Tensor) -> Tensor:
    return opening_of(speech)


def test_weights_are_small() -> None:
    for kind in ("motion", "identity"):
        assert find_weights(f"{kind}_small", kind).stat().st_size < 30e6


def test_silence_closes_the_mouth_and_speech_opens_it(opening: Tensor) -> None:
    pause = torch.cat([opening[10 : PAUSE - 10], opening[10 - PAUSE : -10]])
    assert pause.median() < 0.3
    assert opening[PAUSE:-PAUSE].median() > pause.median() + 0.1
    assert opening[PAUSE:-PAUSE].max() > pause.median() + 0.4


def test_the_mouth_moves_when_the_speech_does(opening: Tensor, speech: Tensor) -> None:
    """Speech a second later, and other noise: the same motion a second later."""
    later = opening_of(speech.roll(640 * 25), seed=1)
    together, apart = opening[PAUSE:-PAUSE], later[PAUSE + 25 : 25 - PAUSE]
    assert torch.corrcoef(torch.stack([together, apart]))[0, 1] > 0.5
    assert torch.corrcoef(torch.stack([opening, later]))[0, 1] < 0.5


def test_motion_is_smooth(opening: Tensor) -> None:
    """No frame-to-frame noise: filmed mouths open by 1.9 cm within 40 ms at most, in nine clips of ten."""
    assert opening.diff().abs().max() < 1.9
    assert opening.diff().abs().mean() < 0.15


def test_identity_tokens_tell_people_apart() -> None:
    extractor = load_identity()
    torch.manual_seed(0)
    narrow, same, wide = (face(width) + 0.03 * torch.randn(478, 3) for width in (0.85, 0.85, 1.15))
    narrow, same, wide = extractor(torch.stack([narrow, same, wide]))
    assert narrow @ same > narrow @ wide + 0.2


def test_lips_that_are_parted_in_a_still_meet_in_speech(speech: Tensor) -> None:
    """Nobody talks in a still; its mouth may be that of a laugh, and `p` and `m` want it shut all the same."""
    points, times = talking_points(100)
    apart = int(mouth_opening(points).argsort()[-30])
    track = FaceTrack(points[[apart]].expand(100, -1, -1).clone(), torch.ones(100).bool(), times, (256, 256))
    unit = track.pose.scale[0].item()
    assert mouth_opening(track.points)[0] / unit > 0.4
    tokens = identity_tokens(load_identity(), track)
    features = load_speech_encoder()(speech[640 * PAUSE :][: 640 * 100])
    plain, shut = (
        mouth_opening(speak(load_motion(), track, features, tokens, MotionOptions(match_range=on)).points) / unit
        for on in (False, True)
    )
    assert plain.min() > 0.15
    assert shut.min() < 0.1 and shut.quantile(0.9) > 0.5
