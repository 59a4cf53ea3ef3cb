"""Baselines do what their names say, and nothing to the upper face."""

from __future__ import annotations

import math

import pytest
import torch

from comfyui_mytalk.evaluation.baselines import energy_mouth, static_mouth
from comfyui_mytalk.evaluation.metrics import articulation_ratio, correlation
from comfyui_mytalk.landmarks.canonical import canonical_face, fit_pose, mouth_opening, to_canonical
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion.edit import loudness
from comfyui_mytalk.speech.audio import SPEECH_RATE as RATE

FPS, FRAMES = 25, 100


@pytest.fixture(scope="module")
def talker() -> FaceTrack:
    """A nodding head whose lower lip and chin go up and down at 3 Hz."""
    times = torch.arange(FRAMES, dtype=torch.float64) / FPS
    face = torch.cat([canonical_face(), canonical_face()[:10]]).repeat(FRAMES, 1, 1)
    drop = 0.6 + 0.5 * torch.sin(2 * math.pi * 3 * times).float()
    below = [i for i in landmark_set("generated").tolist() if face[0, i, 1] < face[0, 13, 1]]
    face[:, below, 1] -= drop[:, None]
    roll = 0.1 * torch.sin(2 * math.pi * 0.4 * times).float()
    turn = torch.stack([roll.cos(), -roll.sin(), roll.sin(), roll.cos()], 1).view(-1, 2, 2)
    face[..., :2] = face[..., :2] @ turn.mT
    points = face * torch.tensor([12.0, -12.0, -12.0]) + torch.tensor([160.0, 120.0, 0.0])
    return FaceTrack(points, torch.ones(FRAMES, dtype=torch.bool), times, (240, 320))


def opening(track: FaceTrack) -> torch.Tensor:
    return mouth_opening(to_canonical(track.points, track.pose))


def modulated_noise(track: FaceTrack, hertz: float = 3) -> torch.Tensor:
    """Noise that is loud when the mouth is open, or in a rhythm of its own."""
    samples = FRAMES * RATE // FPS
    draw = torch.Generator().manual_seed(0)
    level = 0.35 + 0.3 * torch.sin(2 * math.pi * hertz * torch.arange(samples) / RATE)
    return level * torch.randn(samples, generator=draw)


def test_static_mouth_is_frozen_under_a_moving_head(talker: FaceTrack) -> None:
    frozen = static_mouth(talker)
    assert articulation_ratio(opening(frozen), opening(talker)) < 1e-3
    assert correlation(opening(frozen), opening(talker)) == 0
    assert (frozen.points - talker.points).abs().max() > 1


def test_energy_mouth_follows_loudness_within_the_original_range(talker: FaceTrack) -> None:
    driven = energy_mouth(talker, modulated_noise(talker))
    assert correlation(opening(driven), opening(talker)) > 0.9
    assert articulation_ratio(opening(driven), opening(talker)) == pytest.approx(1, abs=0.2)


def test_energy_mouth_is_not_told_when_the_clips_own_mouth_opens(talker: FaceTrack) -> None:
    speech = modulated_noise(talker, hertz=2)
    driven = energy_mouth(talker, speech)
    assert abs(correlation(opening(driven), opening(talker))) < 0.2
    assert correlation(opening(driven), torch.sin(2 * math.pi * 2 * talker.times)) > 0.9
    late = energy_mouth(talker.replace(times=talker.times + 1.3), speech)
    torch.testing.assert_close(late.points, driven.points)


def test_baselines_leave_the_upper_face_alone(talker: FaceTrack) -> None:
    upper = landmark_set("upper")
    for made in (static_mouth(talker), energy_mouth(talker, modulated_noise(talker))):
        assert torch.equal(made.points[:, upper], talker.points[:, upper])
        assert torch.equal(fit_pose(made.points).rotation, talker.pose.rotation)


def test_unusable_frames_stay(talker: FaceTrack) -> None:
    found = torch.ones(FRAMES, dtype=torch.bool)
    found[40:60] = False
    points = talker.points.clone()
    points[40:60] = torch.rand(20, 478, 3, generator=torch.Generator().manual_seed(0)) * 300
    still = static_mouth(talker.replace(found=found, points=points))
    assert torch.equal(still.points[40:60], points[40:60])
    torch.testing.assert_close(still.points[found], static_mouth(talker[found]).points)


def test_loudness_is_higher_where_it_is_louder() -> None:
    speech = torch.cat([torch.zeros(RATE), torch.ones(RATE) * 0.5, torch.zeros(RATE)])
    quiet, loud, after = loudness(speech, torch.tensor([0.5, 1.5, 2.9])).tolist()
    assert loud > quiet + 5
    assert quiet == pytest.approx(after, abs=1e-4)
