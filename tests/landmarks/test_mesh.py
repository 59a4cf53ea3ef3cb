"""Detector and mesh give what MediaPipe gives."""

import numpy as np
import pytest
import torch

from comfyui_mytalk.checkpoints import find_weights, load_checkpoint
from comfyui_mytalk.landmarks import crop
from comfyui_mytalk.landmarks.crop import crop_regions
from comfyui_mytalk.landmarks.detector import tiles
from comfyui_mytalk.landmarks.sets import mirror_index


def mesh_each(landmarker, frames):
    with torch.inference_mode():
        regions = torch.stack([faces[0, :4] for faces in landmarker.detector(frames)])
        return landmarker.mesh(frames, torch.arange(len(frames)), regions)


def distance(points, stored):
    return np.linalg.norm(points.numpy()[..., :2] - stored[..., :2], axis=-1)


def test_still_face_is_where_mediapipe_puts_it(landmarker, astronaut, stored):
    points, presence = mesh_each(landmarker, astronaut[None])
    error = distance(points[0], stored["still"])
    assert error.mean() < 0.01 and error.max() < 0.05
    assert np.abs(points[0, :, 2].numpy() - stored["still"][:, 2]).mean() < 0.05
    assert presence[0] > 0.99


def test_moving_face_is_where_mediapipe_puts_it(landmarker, moving, stored):
    points, _ = mesh_each(landmarker, moving)
    assert distance(points, stored["moving"]).mean() < 0.05


def test_half_a_batch_gives_the_same_points(landmarker, moving):
    whole, _ = mesh_each(landmarker, moving[:4])
    half, _ = mesh_each(landmarker, moving[2:4])
    assert (whole[2:] - half).abs().max() < 1e-3


def test_weights_are_stored_as_in_the_original():
    checkpoint = load_checkpoint(find_weights("face_landmarks", "face"), "face")
    assert {value.dtype for value in checkpoint.state.values()} == {torch.float16}
    assert sum(value.numel() for key, value in checkpoint.state.items() if key.startswith("detector.")) > 100_000
    assert checkpoint.info["licence"] == "Apache-2.0"


def test_whole_pixel_crop_is_the_picture(astronaut):
    region = torch.tensor([[100.0, 80.0, 64.0, 0.0]])
    found = crop_regions(astronaut[None], torch.tensor([0]), region, 64, "edge")
    assert torch.equal(found[0].permute(1, 2, 0).byte(), astronaut[48:112, 68:132])


def test_outside_is_black_or_the_border(astronaut):
    region = torch.tensor([[0.0, 256.0, 64.0, 0.0]])
    black, edge = (crop_regions(astronaut[None], torch.tensor([0]), region, 64, o)[0] for o in ("black", "edge"))
    assert black[:, :, :32].max() == 0
    assert torch.equal(edge[:, :, 0], edge[:, :, 32]) and torch.equal(black[:, :, 32:], edge[:, :, 32:])


@pytest.mark.parametrize("outside", ["edge", "black"])
@pytest.mark.parametrize("side", [300.0, 700.0])
def test_of_a_large_part_the_same_pixels_are_read_one_by_one(astronaut, outside, side, monkeypatch):
    regions = torch.tensor([[256.0, 256.0, side, 0.0], [60.0, 470.0, side, 0.4], [500.0, 20.0, side, -1.2]])
    frames, cut = torch.stack([astronaut // 2, astronaut]), {}
    for sparse in (0.0, 1e9):
        monkeypatch.setattr(crop, "SPARSE", sparse)
        cut[sparse] = crop_regions(frames, torch.tensor([1, 0, 1]), regions, 64, outside)
    apart = (cut[0.0] - cut[1e9]).abs()
    assert apart.max() <= 1 and apart.mean() < 0.01, "where single precision rounds another way"
    assert cut[0.0].std() > 20


def test_a_space_suit_is_no_face(landmarker, astronaut):
    assert [len(faces) for faces in landmarker.detector(astronaut[None, 330:490, 40:200])] == [0]


def test_tiles_cover_the_frame():
    windows = tiles(720, 1280)
    for x, y in ((1, 1), (1279, 1), (640, 719), (1279, 719), (500, 300)):
        reach = (windows[:, :2] - torch.tensor([x, y])).abs().amax(1)
        assert all((reach[windows[:, 2] == side] <= side / 2).any() for side in windows[:, 2].unique())


def flipped_regions(regions, width):
    return torch.stack([width - regions[:, 0], regions[:, 1], regions[:, 2], -regions[:, 3]], 1)


def flipped_points(points, width):
    return points[:, mirror_index()] * torch.tensor([-1.0, 1, 1]) + torch.tensor([width, 0.0, 0.0])


def test_mirrored_look_is_the_look_at_a_flipped_film(landmarker, moving):
    frames, width, index = moving[:4], moving.shape[2], torch.arange(4)
    with torch.inference_mode():
        regions = torch.stack([faces[0, :4] for faces in landmarker.detector(frames)])
        regions[:, 3] += torch.tensor([0.0, 0.2, -0.3, 0.1])
        mine, _ = landmarker.mesh(frames, index, regions, mirrored=True)
        theirs, _ = landmarker.mesh(frames.flip(2), index, flipped_regions(regions, width))
    assert (mine - flipped_points(theirs, width))[..., :2].norm(dim=-1).mean() < 0.02


def test_mean_of_both_ways_does_not_favour_a_side(landmarker, moving):
    frames, width, index = moving[:4], moving.shape[2], torch.arange(4)
    with torch.inference_mode():
        regions = torch.stack([faces[0, :4] for faces in landmarker.detector(frames)])
        found = [
            (look(frames, index, regions)[0], look(frames.flip(2), index, flipped_regions(regions, width))[0])
            for look in (landmarker.mesh, landmarker.mesh.both_ways)
        ]
    plain, both = ((one - flipped_points(other, width))[..., :2].norm(dim=-1).mean() for one, other in found)
    assert plain > 0.2 and both < 0.02
