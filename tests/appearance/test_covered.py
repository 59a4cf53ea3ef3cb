"""Pictures with a hand in front of the chin are found; other mouths, other light and turned heads are not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from comfyui_mytalk import pipeline
from comfyui_mytalk.appearance.covered import covered_pictures
from comfyui_mytalk.appearance.mask import soft_hull
from comfyui_mytalk.frames import TensorSource
from comfyui_mytalk.geometry import geometry
from comfyui_mytalk.landmarks.canonical import Pose, from_canonical
from comfyui_mytalk.landmarks.sets import contour
from comfyui_mytalk.landmarks.track import FaceTrack
from tests.synthetic_clips import face, talking

COUNT, SIDE = 40, 256
TIMES = torch.arange(COUNT).double() / 10


def points(yaw: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Landmarks `(f, 478, 3)` of a talking mouth in the middle of the picture, and the head's rotations."""
    opening = 0.6 - 0.6 * torch.cos(torch.arange(COUNT) * 1.7)
    yaw = torch.zeros(COUNT) if yaw is None else yaw
    zero, one = torch.zeros(COUNT), torch.ones(COUNT)
    rotation = torch.stack([yaw.cos(), zero, yaw.sin(), zero, one, zero, -yaw.sin(), zero, yaw.cos()], 1)
    pose = Pose(12 * one, rotation.view(-1, 3, 3), torch.tensor([128.0, -100.0, 0.0]).repeat(COUNT, 1))
    return from_canonical(talking(face(), opening), pose), pose.rotation


def drawn(at: Tensor) -> Tensor:
    """Pictures `(f, 3, s, s)` uint8: skin before a dark room, red lips, dark between them."""
    picture = torch.full((COUNT, 3, SIDE, SIDE), 0.2)
    colours = {"face_oval_ring": (0.8, 0.6, 0.5), "lips_outer_ring": (0.7, 0.3, 0.3), "lips_inner_ring": (0.1,) * 3}
    for name, colour in colours.items():
        share = soft_hull(at[:, contour(name), :2], SIDE, 6.0)
        picture = torch.lerp(picture, torch.tensor(colour)[:, None, None].expand_as(picture), share)
    return (picture * 255).round().byte()


def with_hand(crops: Tensor, frames: slice) -> Tensor:
    """A broad thing of another colour over the chin."""
    crops = crops.clone()
    crops[frames, :, 170:240, 110:190] = torch.tensor([40, 70, 30], dtype=torch.uint8)[:, None, None]
    return crops


def test_a_hand_before_the_chin_is_found() -> None:
    """Also where it rests, so that the frames beside show it too."""
    at, rotation = points()
    plain = drawn(at)
    assert not covered_pictures(plain, at[..., :2], rotation, TIMES).any()
    found = covered_pictures(with_hand(plain, slice(20, 29)), at[..., :2], rotation, TIMES)
    assert torch.equal(found.nonzero()[:, 0], torch.arange(20, 29))


def test_other_light_is_nothing_that_covers() -> None:
    at, rotation = points()
    light = torch.linspace(0.7, 1.1, SIDE) * torch.linspace(0.8, 1.0, COUNT)[:, None]
    crops = (drawn(at) * light[:, None, None, :]).clamp(0, 255).byte()
    assert not covered_pictures(crops, at[..., :2], rotation, TIMES).any()


def test_a_shadow_that_stays_is_nothing_that_covers() -> None:
    """Nor a beard: all other pictures foretell it."""
    at, rotation = points()
    crops = drawn(at)
    crops[..., : SIDE // 2] //= 2
    assert not covered_pictures(crops, at[..., :2], rotation, TIMES).any()


def test_turned_heads_are_let_be() -> None:
    """Their pictures are all that there is of them, and the mesh errs there."""
    yaw = torch.zeros(COUNT)
    yaw[30:36] = math.radians(35)
    at, rotation = points(yaw)
    crops = with_hand(drawn(at), slice(30, 36))
    assert not covered_pictures(crops, at[..., :2], rotation, TIMES).any()


@pytest.mark.parametrize("count", [1, 5, 11])
def test_a_few_pictures_tell_nothing(count: int) -> None:
    at, rotation = points()
    crops = with_hand(drawn(at), slice(0, 3))
    assert not covered_pictures(crops[:count], at[:count, :, :2], rotation[:count], TIMES[:count]).any()


def test_a_quarter_is_always_left() -> None:
    at, rotation = points()
    crops = torch.randint(0, 255, (COUNT, 3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    crops = crops.repeat_interleave(SIDE // 4, 2).repeat_interleave(SIDE // 4, 3)
    found = covered_pictures(crops, at[..., :2], rotation, TIMES)
    assert COUNT / 2 < found.sum() <= COUNT * 3 / 4


def test_no_reference_shows_the_hand() -> None:
    at, _ = points()
    frames = with_hand(drawn(at), slice(20, 29)).permute(0, 2, 3, 1)
    track = FaceTrack(at, torch.ones(COUNT, dtype=torch.bool), TIMES, (SIDE, SIDE))
    source = TensorSource(frames, 10)
    bank = pipeline.select_references(source, track, geometry(track), 32)
    assert len(bank.frames) > 15 and not ((bank.frames >= 20) & (bank.frames < 29)).any()
