"""The canonical frame: an exact way there and back, blind to the mouth; the landmark sets."""

import torch

from comfyui_mytalk.landmarks.canonical import canonical_face, fit_pose, from_canonical, to_canonical
from comfyui_mytalk.landmarks.sets import POINTS, landmark_set, mirror_canonical, mirror_index


def test_way_back_is_exact(stored):
    points = torch.from_numpy(stored["moving"])
    pose = fit_pose(points)
    assert (from_canonical(to_canonical(points, pose), pose) - points).abs().max() < 1e-4


def test_canonical_face_in_a_known_pose_is_found():
    angle = torch.tensor(0.4)
    c, s = angle.cos(), angle.sin()
    turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    flip = torch.tensor([1.0, -1.0, -1.0])
    points = (20 * canonical_face() @ turn.T + torch.tensor([300.0, -200.0, 5.0])) * flip
    pose = fit_pose(torch.cat([points, points.new_zeros(10, 3)])[None])
    assert torch.allclose(pose.scale, torch.tensor([20.0]), atol=1e-3)
    assert torch.allclose(pose.rotation[0], turn, atol=1e-4) and torch.allclose(pose.yaw, angle, atol=1e-4)


def test_pose_does_not_see_the_lower_face(stored):
    points = torch.from_numpy(stored["still"])[None]
    moved = points.clone()
    moved[:, landmark_set("generated")] += torch.tensor([3.0, 15.0, 2.0])
    before, after = fit_pose(points), fit_pose(moved)
    assert torch.equal(before.rotation, after.rotation) and torch.equal(before.translation, after.translation)


def test_mirror_is_its_own_inverse(stored):
    points = torch.from_numpy(stored["still"])[None]
    assert torch.equal(mirror_canonical(mirror_canonical(points)), points)
    assert torch.equal(mirror_index()[mirror_index()], torch.arange(POINTS))


def test_mirrored_canonical_face_is_itself():
    face = torch.cat([canonical_face(), canonical_face().new_zeros(10, 3)])
    assert (mirror_canonical(face) - face)[:468].abs().max() < 0.15


def test_sets_cover_all_points_once():
    parts = torch.cat([landmark_set(name) for name in ("generated", "prefix", "remaining")])
    assert torch.equal(parts.sort().values, torch.arange(POINTS))
    assert [len(landmark_set(name)) for name in ("generated", "prefix", "remaining")] == [180, 103, 195]
