"""What a turn of the head does to the mesh is found in a clip, and is not mistaken for speech."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from comfyui_mytalk.landmarks.canonical import Pose, canonical_face, from_canonical, mouth_opening, to_canonical
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion.edit import MotionEdit, edit_motion, lower_face, resting_mouth
from comfyui_mytalk.motion.generate import MotionOptions, speak
from comfyui_mytalk.motion.model import MotionModel
from comfyui_mytalk.motion.params import MotionParams
from comfyui_mytalk.motion.turning import turn_effect, turn_effect_of

FRAMES = 150
LOWER = landmark_set("generated")
LIPS = [LOWER.tolist().index(point) for point in (61, 291, 17)]


def turning_pose(most: float, frames: int = FRAMES) -> Pose:
    """A head that turns to both sides by up to `most` degrees, twice."""
    yaw = math.radians(most) * torch.sin(torch.arange(frames) * (4 * math.pi / frames))
    zero, one = torch.zeros(frames), torch.ones(frames)
    rotation = torch.stack([yaw.cos(), zero, yaw.sin(), zero, one, zero, -yaw.sin(), zero, yaw.cos()], 1)
    return Pose(8 * one, rotation.view(-1, 3, 3), torch.tensor([128.0, -128.0, 0.0]).repeat(frames, 1))


def mesh_errors(pose: Pose) -> Tensor:
    """What the mesh might do `(f, 180, 3)`: everything slides half a centimetre to a side that is turned away fully."""
    side = 0.5 * pose.rotation[:, 0, 2]
    return side[:, None, None] * torch.tensor([1.0, 0.2, -0.5]).expand(len(side), len(LOWER), 3)


def talking_face(frames: int = FRAMES) -> Tensor:
    """Canonical landmarks `(f, 478, 3)` of a mouth that opens seven times."""
    face = torch.cat([canonical_face(), torch.zeros(10, 3)]).repeat(frames, 1, 1)
    drop = 0.4 - 0.4 * torch.cos(torch.arange(frames) * (14 * math.pi / frames))
    below = LOWER[face[0, LOWER, 1] < face[0, 13, 1] - 1e-3]
    face[:, below, 1] -= drop[:, None]
    return face


def clip(most: float, mesh: bool = True) -> FaceTrack:
    pose, face = turning_pose(most), talking_face()
    if mesh:
        face[:, LOWER] += mesh_errors(pose)
    points = from_canonical(face, pose)
    return FaceTrack(points, torch.ones(FRAMES, dtype=torch.bool), torch.arange(FRAMES).double() / 25, (256, 256))


@pytest.mark.parametrize(("most", "left"), [(40.0, 0.04), (20.0, 0.15)])
def test_the_effect_of_a_turn_is_found(most: float, left: float) -> None:
    """The less a head turns, the less of the effect is believed."""
    pose, face = turning_pose(most), talking_face()
    face[:, LOWER] += mesh_errors(pose)
    found = turn_effect_of(face, pose, torch.ones(FRAMES, dtype=torch.bool))
    wanted = mesh_errors(pose)
    assert (found - wanted).abs().max() < left * wanted.abs().max()


def test_speech_is_no_effect_of_turning() -> None:
    """A mouth that is always open where the head is turned: all of it is left to the mouth."""
    pose, face = turning_pose(40.0), talking_face()
    face[:, LOWER] = talking_face()[:1, LOWER]
    below = LOWER[face[0, LOWER, 1] < face[0, 13, 1] - 1e-3]
    face[:, below, 1] -= 2 * pose.rotation[:, 0, 2, None].abs()
    found = turn_effect_of(face, pose, torch.ones(FRAMES, dtype=torch.bool))
    assert mouth_opening(face).std() > 0.3 and found.abs().max() < 0.02


def test_no_effect_without_turns_nor_where_there_is_no_face() -> None:
    still = turning_pose(0.0)
    assert turn_effect_of(talking_face(), still, torch.ones(FRAMES, dtype=torch.bool)).abs().max() < 1e-6
    pose, face = turning_pose(40.0), talking_face()
    face[:, LOWER] += mesh_errors(pose)
    usable = torch.ones(FRAMES, dtype=torch.bool)
    usable[20:30] = False
    face[20:30] = 1000.0
    found = turn_effect_of(face, pose, usable)
    assert not found[20:30].any() and (found - mesh_errors(pose))[usable].abs().max() < 0.05
    assert found[usable].mean(0).abs().max() < 1e-5
    for few in (0, 1):
        assert not turn_effect_of(face, pose, torch.arange(FRAMES) < few).any()


def test_a_mouth_at_rest_follows_the_mesh() -> None:
    """Lips of a turned head rest where the mesh sees them there, not where it sees them from the front."""
    track = clip(40.0)
    quiet = edit_motion(track, track, MotionEdit(strength=0.0))
    filmed, shown = (to_canonical(t.points, t.pose)[:, LOWER][:, LIPS, 0] for t in (track, quiet))
    assert filmed.std(0).min() > 0.15, "the mesh moves the lips"
    assert (shown - filmed).abs().max() < 0.03
    torch.testing.assert_close(lower_face(quiet)[..., 2], lower_face(track)[..., 2], atol=1e-4, rtol=0)
    own = edit_motion(track, quiet, MotionEdit(blend=0.0))
    torch.testing.assert_close(lower_face(own), lower_face(track), atol=1e-3, rtol=0)
    there = (lower_face(quiet) - resting_mouth(track) - turn_effect(track))[..., :2]
    assert there.abs().max() < 1e-3


def test_a_mouth_that_speaks_follows_the_mesh() -> None:
    """Motion of no strength rests in every frame where the mesh sees the lips at rest."""
    params = MotionParams(
        speech_in=6, speech_dim=8, speech_layers=1, speech_heads=2, speech_ffn=16, dim=16, layers=2, heads=2, ffn=16,
        identity_dim=4, frames=20, overlap=6, relative=True, components=5, rotary=True,
    )  # fmt: skip
    torch.manual_seed(0)
    track, model = clip(40.0), MotionModel(params).eval()
    features = torch.randn(2 * FRAMES, 6, generator=torch.Generator().manual_seed(0))
    options = MotionOptions(steps=2, strength=0.0, match_range=False)
    spoken = speak(model, track, features, torch.zeros(2, 4), options)
    filmed, shown = (to_canonical(t.points, t.pose)[:, LOWER][:, LIPS, 0] for t in (track, spoken))
    assert filmed.std(0).min() > 0.15
    assert (shown - filmed).abs().max() < 0.03
