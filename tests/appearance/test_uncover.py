"""References lose what lies in front of them: it is filled from pictures that show what is behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from comfyui_mytalk.appearance.occlusion import Occlusion
from comfyui_mytalk.appearance.uncover import LIPS, covers, filled_in, uncover
from comfyui_mytalk.frames import TensorSource
from comfyui_mytalk.geometry import geometry
from comfyui_mytalk.landmarks.align import apply_transform
from comfyui_mytalk.landmarks.sets import AROUND
from comfyui_mytalk.landmarks.track import FaceTrack, load_face_landmarker, track_faces
from comfyui_mytalk.pipeline import select_references
from tests.support.mouths import face
from tests.support.tiny import moving_face

SIDE, FRAMES = 128, 8
CHIN = (..., slice(88, 120), slice(54, 74))
RED = torch.tensor([220, 10, 10], dtype=torch.uint8)[:, None, None]


def pictures(*covered: int, count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """The same smooth picture `count` times, red over the chin in some, with landmarks and what is covered."""
    at = torch.arange(SIDE)
    grey = (60 + at[:, None] + at[None] / 2).byte()
    crops, shares = grey.expand(count, 3, -1, -1).clone(), torch.zeros(count, 1, SIDE, SIDE)
    for number in covered:
        crops[number][CHIN] = RED
        shares[number][CHIN] = 1
    return crops, face(size=SIDE).expand(count, -1, -1), shares


def test_what_is_covered_comes_from_another_picture() -> None:
    crops, points, shares = pictures(1)
    filled, left = uncover(crops, points, shares)
    assert left.max() < 0.01 and torch.equal(filled[[0, 2]], crops[[0, 2]])
    assert (filled[1].int() - crops[0].int()).abs().max() <= 2


def test_pictures_whose_landmarks_lie_elsewhere_are_moved_first() -> None:
    crops, points, shares = pictures(1)
    shifted = points + torch.tensor([[[0.0, 0.0]], [[6.0, 0.0]], [[0.0, 0.0]]])
    filled, _ = uncover(crops, shifted, shares)
    rows, columns = slice(92, 100), slice(58, 70)
    expected = crops[0][:, rows, 52:64]
    assert (filled[1][:, rows, columns].int() - expected.int()).abs().max() <= 2


def test_what_no_picture_shows_is_left_and_told() -> None:
    crops, points, shares = pictures(0, 1, 2)
    filled, left = uncover(crops, points, shares)
    assert torch.equal(filled, crops) and left[CHIN].min() > 0.99
    assert covers(left, points, AROUND, 0.05).all() and not covers(left, points, LIPS, 0.02).any()


def test_larger_pictures_are_filled_alike() -> None:
    crops, points, shares = pictures(1)
    filled, _ = uncover(crops, points, shares)
    larger = crops.repeat_interleave(2, -1).repeat_interleave(2, -2)
    made = filled_in(larger, filled, shares)
    assert torch.equal(made[[0, 2]], larger[[0, 2]])
    inside = (
        made[1][:, 184:232, 114:142].int()
        - filled[1].repeat_interleave(2, -1).repeat_interleave(2, -2)[:, 184:232, 114:142].int()
    )
    assert inside.abs().max() <= 2


@pytest.fixture(scope="module")
def filmed() -> tuple[Tensor, FaceTrack]:
    frames = moving_face(FRAMES, 384)
    return frames, track_faces(TensorSource(frames, 25).chunks(8), load_face_landmarker("cpu"))


@pytest.mark.parametrize("clear", [2, 0])
def test_a_film_with_a_microphone_keeps_its_mouths(filmed: tuple[Tensor, FaceTrack], clear: int) -> None:
    """Red in front of the chin in all but `clear` frames: without a clear one there are references all the same."""
    frames, track = filmed[0].clone(), filmed[1]
    place, at = geometry(track), torch.arange(384) + 0.5
    maps = torch.zeros(FRAMES, SIDE, SIDE, dtype=torch.uint8)
    for frame in range(clear, FRAMES):
        chin = place.crop_points(track.points)[frame, 152]
        maps[frame][((torch.arange(SIDE) + 0.5) * 2 - chin[0]).abs()[None].lt(16) & _near(chin[1])] = 255
        x, y = apply_transform(place.transform[[frame]], chin[None, None])[0, 0]
        reach = 16 * place.transform[frame, 0, 0]
        frames[frame][((at - x).abs()[None] < reach) & ((at - y).abs()[:, None] < reach)] = RED[:, 0, 0] / 255
    occlusion = Occlusion(torch.arange(FRAMES), maps)
    bank = select_references(TensorSource(frames, 25), track, place, FRAMES, occlusion=occlusion)
    red = (bank.crops[:, 0].int() - bank.crops[:, 1].int()).flatten(1).gt(150).sum(1)
    assert len(bank.frames) > 2, "covered ones too"
    assert (red.max() < 20) == bool(clear)


def _near(y: Tensor) -> Tensor:
    return ((torch.arange(SIDE) + 0.5) * 2 - y).abs()[:, None].lt(16)
