"""Whose face it is after a cut."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from comfyui_mytalk.landmarks.canonical import Pose, from_canonical
from comfyui_mytalk.landmarks.people import CutFinder, signatures, tell_apart
from comfyui_mytalk.landmarks.track import FaceTrack, people_of, track_faces
from comfyui_mytalk.landmarks.tracker import Face
from tests.synthetic_clips import face


def chunks(frames: Tensor, size: int):
    times = torch.arange(len(frames), dtype=torch.float64) / 25
    return zip(frames.split(size), times.split(size), strict=True)


@pytest.fixture(scope="module")
def two_people(landmarker, astronaut: Tensor) -> tuple[Tensor, Tensor]:
    """The astronaut, and somebody with her bones, another skin and thick glasses; `(192, 192, 3)`."""
    head = astronaut[30:222, 128:320]
    points = track_faces(chunks(scene(head, 8), 8), landmarker).points[0, :, :2] - torch.tensor([60.0, 30.0])
    other, at = head.flip(2), torch.arange(192)
    for x, y in points[[468, 473]]:
        ring = ((at - x) ** 2 + (at[:, None] - y) ** 2).sqrt()
        other = torch.where(((ring > 8) & (ring < 12))[..., None], torch.tensor(10, dtype=torch.uint8), other)
    return head, other


def scene(head: Tensor, frames: int, place: int = 60, room: int = 90) -> Tensor:
    picture = torch.full((frames, 256, 400, 3), room, dtype=torch.uint8)
    picture[:, 30:222, place : place + 192] = head
    return picture


def test_a_cut_to_somebody_else_at_the_same_place(landmarker, two_people) -> None:
    head, other = two_people
    film = torch.cat([scene(head, 40), scene(other, 40, room=150), scene(head, 40, place=80)])
    whole = track_faces(chunks(film, 5), landmarker)
    assert whole.found.all() and whole.people.tolist() == [0] * 40 + [1] * 40 + [0] * 40
    assert whole.count == 2
    again = track_faces(chunks(film, 32), landmarker)
    assert torch.equal(again.people, whole.people)
    assert track_faces(chunks(torch.cat([scene(head, 40), scene(head, 40, place=150)]), 8), landmarker).people is None


def test_light_does_not_make_another_person(astronaut: Tensor) -> None:
    pose = Pose(torch.tensor([9.0]), torch.eye(3)[None], torch.tensor([[128.0, -128.0, 0.0]]))
    points = from_canonical(face()[None], pose)
    picture = astronaut[:256, 100:356][None]
    light = torch.linspace(0.6, 1.0, 256)[:, None] * torch.tensor([1.0, 0.9, 0.8])
    lit = (picture * light).round().byte()
    one, same, other = (signatures(x, points)[0] for x in (picture, lit, picture.flip(1)))
    assert one.norm() == pytest.approx(1, abs=1e-5)
    assert one @ same > 0.9 > 0.6 > one @ other


def test_cuts_are_sudden_and_do_not_depend_on_chunks() -> None:
    draw = torch.Generator().manual_seed(0)
    wide = torch.randint(0, 255, (48, 900, 3), generator=draw).byte()
    pan = torch.stack([wide[:, 8 * i : 8 * i + 64] for i in range(40)])
    still = torch.full((20, 48, 64, 3), 40, dtype=torch.uint8)
    film = torch.cat([still, still + 60, pan])
    for size in (1, 7, 80):
        finder, found = CutFinder(), []
        for start in range(0, len(film), size):
            found += [start + cut for cut in finder.push(film[start : start + size])]
        assert found == [20, 40], "not in the pan, and not in the first frame"


def direction(angle: float) -> Tensor:
    return torch.stack([torch.tensor(angle).cos(), torch.tensor(angle).sin()])


def test_shots_go_to_whom_they_look_like() -> None:
    first, second, third = (torch.stack([direction(a), direction(a + 0.1)]) for a in (0.0, 1.2, 0.3))
    assert tell_apart([first, second, third, second], [50] * 4) == [0, 1, 0, 1]
    between = torch.stack([direction(0.9)])
    assert tell_apart([first, between], [50, 50]) == [0, 1]
    assert tell_apart([first, between], [50, 20]) == [0, 0], "so short a shot is somebody else's only if it must be"
    assert tell_apart([], []) == []


def test_a_shot_that_goes_on_is_no_other_shot() -> None:
    """Fast movement looks like a cut; what is seen right before and after it is the same face."""
    looks = {0: direction(0.0), 49: direction(0.8), 50: direction(0.9), 99: direction(1.5), 100: direction(0.1)}
    follows = Face(torch.zeros(4), 0, signatures=looks)
    assert people_of(follows, [0, 50], 100) is None
    assert people_of(follows, [0, 50, 100], 150) is None, "the last is like the first"
    alone = Face(torch.zeros(4), 0, signatures={0: direction(0.0), 50: direction(1.5)})
    assert people_of(alone, [0, 50, 70], 100).tolist() == [0] * 50 + [1] * 50
    assert people_of(Face(torch.zeros(4), 0), [0, 50], 100) is None


def test_gaps_between_people_are_not_filled_and_each_has_a_track() -> None:
    pose = Pose(torch.full((6,), 9.0), torch.eye(3).repeat(6, 1, 1), torch.tensor([128.0, -128.0, 0.0]).repeat(6, 1))
    points, found = from_canonical(face().repeat(6, 1, 1), pose), torch.tensor([1, 1, 0, 1, 0, 1]).bool()
    people = torch.tensor([0, 0, 0, 1, 1, 1])
    track = FaceTrack(points, found, torch.arange(6).double() / 25, (256, 256), people=people).fill_gaps()
    assert track.usable.tolist() == [True, True, False, True, True, True]
    (one, first), (two, second) = track.each_person()
    assert first.tolist() == [True] * 3 + [False] * 3 and torch.equal(second, ~first)
    assert one.usable.tolist() == [True, True] + [False] * 4 and two.usable.tolist() == [False] * 3 + [True] * 3
    assert track.count == 2 and one.count == 1 and track.replace(people=None).count == 1
    assert one.people is None and [own.all().item() for _, own in track.replace(people=None).each_person()] == [True]


def test_some_frames_of_a_track_keep_what_belongs_to_them() -> None:
    points = torch.arange(5.0)[:, None, None].expand(5, 478, 3)
    flags, times = torch.tensor([1, 0, 1, 1, 0]).bool(), torch.arange(5).double()
    track = FaceTrack(points, flags, times, (4, 6), ~flags, torch.tensor([0, 0, 0, 1, 1]))
    index = torch.tensor([3, 0, 0])
    for chosen, places in (
        (track[index], index),
        (track[2:], torch.arange(2, 5)),
        (track[flags], torch.tensor([0, 2, 3])),
    ):
        assert torch.equal(chosen.points[:, 0, 0], places.float()) and torch.equal(chosen.times, places.double())
        for name in ("found", "filled", "people"):
            assert torch.equal(getattr(chosen, name), getattr(track, name)[places])
        assert chosen.size == (4, 6)
    plain = FaceTrack(points, flags, times, (4, 6))[:2]
    assert plain.filled is None and plain.people is None and len(plain) == 2
