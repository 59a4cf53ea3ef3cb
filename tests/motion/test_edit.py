"""Editing a spoken track: each number does what it says, and nothing else moves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.canonical import mouth_opening, to_canonical
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion.edit import (
    MotionEdit,
    edit_motion,
    loudness,
    lower_face,
    resting_mouth,
    smooth_motion,
    speech_activity,
    with_lower_face,
)
from comfyui_mytalk.motion.turning import turn_effect
from tests.synthetic_clips import talking_points

FRAMES, FPS, RATE = 100, 25, 16_000
LIP = landmark_set("generated").tolist().index(14)


@pytest.fixture(scope="module")
def source() -> FaceTrack:
    points, times = talking_points(FRAMES, FPS)
    return FaceTrack(points, torch.ones(FRAMES, dtype=torch.bool), times, (256, 256))


@pytest.fixture(scope="module")
def spoken(source: FaceTrack) -> FaceTrack:
    """The same head with a mouth that opens four times a second."""
    lower = resting_mouth(source).repeat(FRAMES, 1, 1)
    drop = 0.5 - 0.5 * torch.cos(2 * math.pi * 4 * torch.arange(FRAMES) / FPS)
    lower[:, lower[0, :, 1] < lower[0, LIP, 1] + 1e-4, 1] -= drop[:, None]
    return with_lower_face(source, lower)


def opening(track: FaceTrack) -> Tensor:
    return mouth_opening(to_canonical(track.points, track.pose))


def tone(*parts: tuple[float, float]) -> Tensor:
    """Stretches of (seconds, amplitude)."""
    return torch.cat([a * torch.sin(torch.arange(round(s * RATE)) / RATE * 2 * math.pi * 220) for s, a in parts])


def test_defaults_change_nothing(source: FaceTrack, spoken: FaceTrack) -> None:
    assert edit_motion(source, spoken, MotionEdit()) is spoken
    assert edit_motion(source, spoken, MotionEdit(gate=1.0)) is spoken, "a gate that hears nothing is open"


def test_the_mouth_of_a_still_rests_as_it_closes_in_speech(source: FaceTrack, spoken: FaceTrack) -> None:
    """A laugh in a picture is no rest: with nobody talking in the clip, the spoken mouth shows how lips meet."""
    laugh = source.points[[int(opening(source).argmax())]].expand(FRAMES, -1, -1)
    still = source.replace(points=laugh.clone())
    spoken = with_lower_face(still, lower_face(spoken))
    silent = edit_motion(still, spoken, MotionEdit(strength=0.0))
    assert opening(still).min() > opening(spoken).min() + 0.3
    assert (opening(silent) - opening(spoken).min()).abs().max() < 0.05
    talker = edit_motion(source, spoken, MotionEdit(strength=0.0))
    rest = resting_mouth(source) + turn_effect(source)
    torch.testing.assert_close(lower_face(talker)[..., :2], rest[..., :2], atol=1e-4, rtol=0)


def test_only_the_lower_face_moves_and_not_in_depth(source: FaceTrack, spoken: FaceTrack) -> None:
    found = torch.ones(FRAMES, dtype=torch.bool)
    found[30:40] = False
    source, spoken = source.replace(found=found), spoken.replace(found=found)
    edited = edit_motion(source, spoken, MotionEdit(strength=1.5, smoothing=0.04, blend=0.7))
    others = torch.ones(478, dtype=torch.bool)
    others[landmark_set("generated")] = False
    assert torch.equal(edited.points[:, others], spoken.points[:, others])
    assert torch.equal(edited.points[30:40], spoken.points[30:40])
    assert (edited.points[found] != spoken.points[found]).flatten(1).any(1).all()
    torch.testing.assert_close(lower_face(edited)[found][..., 2], lower_face(spoken)[found][..., 2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.6])
def test_strength_scales_the_way_from_rest(source: FaceTrack, spoken: FaceTrack, strength: float) -> None:
    edited, rest = edit_motion(source, spoken, MotionEdit(strength=strength)), resting_mouth(source)
    expected = strength * (lower_face(spoken) - rest)[..., :2]
    torch.testing.assert_close((lower_face(edited) - rest)[..., :2], expected, atol=2e-3, rtol=0)


def test_blend_goes_from_the_actors_mouth_to_the_spoken_one(source: FaceTrack, spoken: FaceTrack) -> None:
    own, half = (lower_face(edit_motion(source, spoken, MotionEdit(blend=b)))[..., :2] for b in (0.0, 0.5))
    torch.testing.assert_close(own, lower_face(source)[..., :2], atol=1e-3, rtol=0)
    middle = (lower_face(source) + lower_face(spoken))[..., :2] / 2
    torch.testing.assert_close(half, middle, atol=1e-3, rtol=0)


def test_smoothing_is_in_seconds_at_any_rate(source: FaceTrack, spoken: FaceTrack) -> None:
    """A Gaussian leaves exp(-(2 pi f sigma)^2 / 2) of a movement at f Hz."""
    kept = opening(edit_motion(source, spoken, MotionEdit(smoothing=0.04)))[20:80].std() / opening(spoken)[20:80].std()
    assert kept.item() == pytest.approx(math.exp(-((2 * math.pi * 4 * 0.04) ** 2) / 2), abs=0.03)
    slow = spoken.replace(times=spoken.times * 2)
    lower = lower_face(spoken)
    torch.testing.assert_close(smooth_motion(lower, slow, 0.08), smooth_motion(lower, spoken, 0.04))


def test_smoothing_stops_at_cuts_and_at_frames_without_a_face(source: FaceTrack) -> None:
    step = torch.zeros(FRAMES, 180, 3)
    step[50:] = 1
    moved = source.points.clone()
    moved[50:, :, 0] += 400
    found = torch.ones(FRAMES, dtype=torch.bool)
    found[50:60] = False
    for track in (source.replace(points=moved), source.replace(found=found)):
        torch.testing.assert_close(smooth_motion(step, track, 0.1), step)
    assert (smooth_motion(step, source, 0.1) - step).abs().max() > 0.3


def test_gate_rests_the_mouth_where_it_is_silent(source: FaceTrack, spoken: FaceTrack) -> None:
    speech = tone((1.5, 0.3), (1.5, 0.0), (1.0, 0.3))
    edited = opening(edit_motion(source, spoken, MotionEdit(gate=1.0), speech))
    rest = mouth_opening(resting_points(source)).item()
    assert (edited[45:68] - rest).abs().max() < 0.02, "silence, away from its ends"
    spoken_frames = torch.cat([torch.arange(0, 36), torch.arange(77, 100)])
    torch.testing.assert_close(edited[spoken_frames], opening(spoken)[spoken_frames], atol=5e-3, rtol=0)
    late = (track.replace(times=track.times + 3.2) for track in (source, spoken))
    torch.testing.assert_close(opening(edit_motion(*late, MotionEdit(gate=1.0), speech)), edited)
    half = opening(edit_motion(source, spoken, MotionEdit(gate=0.5), speech))
    torch.testing.assert_close(half[45:68] - rest, (opening(spoken)[45:68] - rest) / 2, atol=0.02, rtol=0)


def test_how_quiet_is_silent_is_told(source: FaceTrack, spoken: FaceTrack) -> None:
    quiet = tone((1.5, 0.3), (1.5, 0.03), (1.0, 0.3))  # by 20 dB
    rested, heard = (
        opening(edit_motion(source, spoken, MotionEdit(gate=1.0, threshold=decibels), quiet))[45:68]
        for decibels in (10.0, 30.0)
    )
    assert rested.max() - rested.min() < 0.05
    torch.testing.assert_close(heard, opening(spoken)[45:68], atol=5e-3, rtol=0)


def test_at_rest_the_mouth_is_that_of_the_style_clip(source: FaceTrack, spoken: FaceTrack) -> None:
    shifted = source.points.clone()
    shifted[:, landmark_set("generated"), 0] += 5.0
    style = source.replace(points=shifted)
    edited = edit_motion(source, spoken, MotionEdit(strength=0.0), style=style)
    mouth = resting_mouth(style)[:, :2].expand(len(source), -1, -1)
    torch.testing.assert_close(lower_face(edited)[..., :2], mouth, atol=2e-2, rtol=0)


def resting_points(track: FaceTrack) -> Tensor:
    points = to_canonical(track.points, track.pose)[:1].clone()
    points[:, landmark_set("generated")] = resting_mouth(track)
    return points


def test_activity_follows_the_voice_not_its_volume() -> None:
    times = torch.arange(0, 4, 0.04, dtype=torch.float64)
    for gain in (0.01, 1.0):
        active = speech_activity(tone((1, 0.5 * gain), (2, 0.003 * gain)), times, threshold=30)
        assert active[:25].min() > 0.95 and active[40:].max() < 0.05
    assert speech_activity(tone((1, 0.5), (2, 0.05)), times, threshold=30)[30:70].min() > 0.95, "quiet is not silent"
    assert speech_activity(torch.zeros(RATE), times).max() == 0
    assert speech_activity(tone((3, 0.5)), times)[76:].max() == 0, "nothing is said after the end"


@pytest.mark.parametrize("rate", [100, 25, 30])
def test_loudness_is_the_mean_power_around_each_time(rate: int) -> None:
    speech = torch.randn(RATE, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 1, RATE)
    times = torch.arange(0.1, 0.9, 1 / rate, dtype=torch.float64)
    expected = [speech[at - 640 : at + 640].square().mean() + 1e-6 for at in (times * RATE).round().long().tolist()]
    torch.testing.assert_close(loudness(speech, times), torch.stack(expected).log(), atol=1e-4, rtol=0)


def test_bad_numbers_are_named(source: FaceTrack, spoken: FaceTrack) -> None:
    with pytest.raises(InputError, match="strength -1"):
        MotionEdit(strength=-1)
    with pytest.raises(InputError, match="blend 2"):
        MotionEdit(blend=2)
    with pytest.raises(InputError, match="100 and 1 frames"):
        edit_motion(source, spoken.replace(points=spoken.points[:1]), MotionEdit(strength=2))
