"""Frames and speech of one length, from IMAGE or VIDEO."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from tiny import Film

from comfyui_mytalk.video.timing import fit_frames

RATE = 8000


def numbered(frames: int) -> torch.Tensor:
    """Frames that say which they are."""
    return (torch.arange(frames) / 100).view(-1, 1, 1, 1).expand(-1, 4, 6, 3).contiguous()


def sound(seconds: float) -> dict:
    return {"waveform": torch.linspace(-0.5, 0.5, round(seconds * RATE)).expand(1, 2, -1), "sample_rate": RATE}


def order(frames: torch.Tensor) -> list[int]:
    return (frames[:, 0, 0, 0] * 100).round().int().tolist()


@pytest.mark.parametrize(
    ("mode", "seconds", "expected"),
    [
        ("trim", 0.3, [0, 1, 2]),
        ("trim", 0.9, [0, 1, 2, 3]),
        ("loop", 0.9, [0, 1, 2, 3, 0, 1, 2, 3, 0]),
        ("pingpong", 0.9, [0, 1, 2, 3, 2, 1, 0, 1, 2]),
        ("hold", 0.7, [0, 1, 2, 3, 3, 3, 3]),
        ("pad", 0.9, [0, 1, 2, 3]),
        ("pad", 0.1, [0, 1, 2, 3]),
        ("auto", 0.6, [0, 1, 2, 3, 2, 1]),
        ("auto", 0.1, [0, 1, 2, 3]),
    ],
)
def test_modes(host, mode: str, seconds: float, expected: list[int]) -> None:
    given = sound(seconds)
    frames, speech, fps, report = host.run(
        "MyTalkFitVideoToSpeech", images=numbered(4), audio=given, fps=10.0, mode=mode
    )
    assert order(frames) == expected and fps == 10
    waveform = speech["waveform"]
    assert waveform.shape == (1, 2, len(expected) * RATE // 10) and speech["sample_rate"] == RATE
    common = min(waveform.shape[2], given["waveform"].shape[2])
    assert (
        torch.equal(waveform[..., :common], given["waveform"][..., :common]) and waveform[..., common:].abs().sum() == 0
    )
    assert f"became {len(expected)} frames" in report


@pytest.mark.parametrize("rate", [Fraction(16), Fraction(24000, 1001), Fraction(24), Fraction(30), Fraction(60)])
def test_a_video_brings_its_own_rate(host, rate: Fraction) -> None:
    frames, speech, fps, _ = host.run(
        "MyTalkFitVideoToSpeech", images=Film(numbered(5), rate), audio=sound(0.9), fps=7.0, mode="loop"
    )
    assert fps == float(rate) and len(frames) == len(fit_frames(5, fps, 0.9, "loop"))
    assert speech["waveform"].shape[2] / RATE == pytest.approx(len(frames) / fps, abs=1 / RATE)


def test_a_portrait_becomes_a_clip(host) -> None:
    portrait = torch.rand(1, 4, 6, 3)
    frames = host.run("MyTalkFitVideoToSpeech", images=portrait, audio=sound(0.5), fps=24.0)[0]
    assert frames.shape == (12, 4, 6, 3) and torch.equal(frames, portrait.expand(12, -1, -1, -1))


def test_copying_can_be_cancelled(host) -> None:
    host.management.interrupt_current_processing(True)
    with pytest.raises(host.management.InterruptProcessingException):
        host.run("MyTalkFitVideoToSpeech", images=numbered(4), audio=sound(5.0), fps=25.0, mode="loop")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "stretch"}, "mode: got 'stretch', expected auto, trim"),
        ({"audio": None}, "audio: got no audio"),
        ({"images": torch.zeros(0, 4, 6, 3)}, "images: got shape"),
        ({"images": Film(torch.zeros(0, 3, 0, 0), Fraction(25))}, "images: got shape"),
    ],
)
def test_what_cannot_be_fitted_is_one_clear_line(host, change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        host.run("MyTalkFitVideoToSpeech", **{"images": numbered(4), "audio": sound(0.2), "fps": 25.0, **change})


def test_film_of_8_bit_is_held_in_8_bit_and_nothing_else_is(host) -> None:
    compact = host.module("nodes.media").compact
    decoded = torch.randint(0, 256, (9, 4, 6, 3), dtype=torch.uint8) / 255.0
    assert compact(decoded).dtype == torch.uint8 and torch.equal(compact(decoded) / 255.0, decoded)
    for other in (torch.rand(9, 4, 6, 3), decoded.half(), decoded + 1):
        assert compact(other) is other
