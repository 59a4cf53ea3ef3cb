"""What lies in front of the face is found, stays for as long as it is there, and a face is never taken for a thing."""

from __future__ import annotations

import pytest
import torch

from comfyui_mytalk.appearance.occlusion import Occlusion, load_occlusion, reaching_in, settle
from comfyui_mytalk.frames import TensorSource
from comfyui_mytalk.keep import find_occlusion
from comfyui_mytalk.landmarks.track import FaceTrack, load_face_landmarker, track_faces
from tests.support.mouths import face
from tests.support.tiny import moving_face

CHIN, NOSE, LEFT_CHEEK = 152, 1, 425
FRAMES, SIZE = 7, 384


def chance(value: float) -> torch.Tensor:
    return torch.full((16, 16), value)


def test_a_chance_that_comes_and_goes_is_nothing() -> None:
    assert settle(chance(0), chance(0.7), chance(0)).max() == 0
    assert settle(chance(0.1), chance(0.1), chance(0.9)).max() == 0
    assert settle(chance(0), chance(0.7), chance(0.7)).min() > 0.7
    assert settle(chance(0.9), chance(0.3), chance(0.9)).min() == 1, "nor does what is there go for a frame"


def test_what_is_sure_stays_in_a_single_frame() -> None:
    assert settle(chance(0), chance(0.99), chance(0)).min() == 1


def test_the_edge_of_what_is_certain_is_there_too():
    likely = torch.full((32, 32), 0.4)
    likely[:, :8] = 1.0
    found = settle(likely, likely, likely)
    assert found[:, :12].min() == 1, "an edge is not certain"
    assert found[:, 13:].max() == 0, "nor is what is merely likely, farther off"


@pytest.mark.parametrize(
    ("rows", "columns", "stays"),
    [
        (slice(80, 120), slice(60, 70), True),  # from below, over the chin
        (slice(88, 92), slice(20, 66), True),  # from the side
        (slice(60, 66), slice(60, 68), False),  # inside: a nose that shines
        (slice(66, 76), slice(52, 76), False),  # inside: an open mouth
        (slice(4, 40), slice(0, 20), False),  # beside: hair, a wall
        (slice(107, 128), slice(56, 70), True),  # from below, up to the neck under the chin, which is painted too
        (slice(112, 128), slice(0, 128), False),  # below: a collar
    ],
)
def test_a_hand_comes_from_somewhere(rows: slice, columns: slice, stays: bool) -> None:
    seen = torch.zeros(128, 128)
    seen[rows, columns] = 1
    kept = reaching_in(seen, face(size=128))
    assert torch.equal(kept, seen if stays else torch.zeros_like(seen))


def test_parts_are_judged_each_by_itself_and_letters_together() -> None:
    seen = torch.zeros(128, 128)
    seen[60:66, 60:68] = 1
    hand = seen.clone()
    hand[80:120, 60:70] = 1
    assert torch.equal(reaching_in(hand, face(size=128)), hand - seen)
    letters = torch.zeros(128, 128)
    letters[90:96, 10:118:4] = letters[90:96, 11:118:4] = 1
    assert torch.equal(reaching_in(letters, face(size=128)), letters)


def test_frames_with_nothing_take_no_memory() -> None:
    maps = torch.tensor([[[0, 255], [0, 255]]], dtype=torch.uint8)
    found = Occlusion(torch.tensor([-1, 0, -1]), maps)
    assert found.shares(4).amax((1, 2, 3)).tolist() == [0, 1, 0]
    assert found[torch.tensor([1, 1, 2])].shares(2).flatten(1).tolist() == [[0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert len(found[:2]) == 2 and found[:2].shares(2).shape == (2, 1, 2, 2)


@pytest.fixture(scope="module")
def film() -> torch.Tensor:
    return moving_face(FRAMES, SIZE)


@pytest.fixture(scope="module")
def track(film: torch.Tensor) -> FaceTrack:
    found = track_faces(TensorSource(film, 25).chunks(8), load_face_landmarker("cpu"))
    return found.replace(filled=None)


def with_ball(film: torch.Tensor, track: FaceTrack, point: int) -> torch.Tensor:
    """A dark microphone over a landmark in all frames but the first two."""
    at, made = torch.arange(SIZE) + 0.5, film.clone()
    for frame in range(2, len(film)):
        x, y = track.points[frame, point, :2]
        width = track.points[frame, 454, 0] - track.points[frame, 234, 0]
        ball = (at - x) ** 2 + (at[:, None] - y) ** 2 < (0.3 * width) ** 2
        made[frame][ball] = 0.08
    return made


def in_crop(track: FaceTrack, frame: int, point: int) -> tuple[int, int]:
    from comfyui_mytalk.landmarks.align import apply_transform, invert

    at = apply_transform(invert(track.transform[[frame]]), track.points[[frame], point : point + 1, :2])[0, 0]
    return int(at[1]), int(at[0])


def test_a_bare_face_has_nothing_before_it(film: torch.Tensor, track: FaceTrack) -> None:
    found = find_occlusion(load_occlusion(), TensorSource(film, 25), track)
    assert len(found) == FRAMES and (found.rows < 0).all() and len(found.maps) == 0


def test_a_microphone_is_found_where_it_is(film: torch.Tensor, track: FaceTrack) -> None:
    found = find_occlusion(load_occlusion(), TensorSource(with_ball(film, track, CHIN), 25), track)
    assert (found.rows >= 0).tolist() == [False] * 2 + [True] * 5
    shares = found.shares(256)
    for frame in range(2, FRAMES):
        assert shares[frame, 0][in_crop(track, frame, CHIN)] > 0.9
        for bare in (NOSE, LEFT_CHEEK):
            assert shares[frame, 0][in_crop(track, frame, bare)] < 0.1


def test_any_chunk_gives_the_same_and_faceless_frames_nothing(film: torch.Tensor, track: FaceTrack) -> None:
    covered, net = with_ball(film, track, CHIN), load_occlusion()
    lost = track.replace(found=torch.tensor([True] * 5 + [False] * 2))
    whole, parts = (find_occlusion(net, TensorSource(covered, 25), lost, chunk) for chunk in (8, 3))
    assert torch.equal(whole.rows, parts.rows) and (whole.rows >= 0).tolist() == [False] * 2 + [True] * 3 + [False] * 2
    assert (whole.maps.int() - parts.maps.int()).abs().max() <= 1


def test_a_clip_without_a_face_has_nothing_before_it(film: torch.Tensor, track: FaceTrack) -> None:
    lost = track.replace(found=torch.zeros(FRAMES, dtype=torch.bool))
    found = find_occlusion(load_occlusion(), TensorSource(film, 25), lost)
    assert len(found) == FRAMES and (found.rows < 0).all()
