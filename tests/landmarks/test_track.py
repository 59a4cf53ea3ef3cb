"""Following faces: the same whatever the chunks, through gaps, cuts, crowds and wide shots."""

import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.track import FaceTrack, choose_face, first_place, parse_choice, track_faces
from comfyui_mytalk.landmarks.tracker import Face, Tracker, smoothing_weights


def chunks(frames, size=5, fps=25):
    times = torch.arange(len(frames), dtype=torch.float64) / fps
    return zip(frames.split(size), times.split(size), strict=True)


def resized(picture, side):
    return torch.from_numpy(np.array(Image.fromarray(picture.numpy()).resize((side, side), Image.Resampling.LANCZOS)))


def shake(points):
    return (points[2:] - 2 * points[1:-1] + points[:-2])[..., :2].norm(dim=-1).mean()


@pytest.fixture(scope="module")
def face(astronaut):
    """The head alone, `(192, 192, 3)`."""
    return astronaut[30:222, 128:320]


@pytest.fixture(scope="module")
def pair(face):
    """A large face on the right, a smaller one on the left."""
    scene = torch.full((240, 480, 3), 90, dtype=torch.uint8)
    scene[20:212, 270:462] = face
    scene[60:190, 20:150] = resized(face, 130)
    return scene


@pytest.fixture(scope="module")
def track(landmarker, moving):
    return track_faces(chunks(moving, 8), landmarker)


@pytest.mark.parametrize("size", [3, 16])
def test_chunk_size_changes_nothing(landmarker, moving, track, size):
    assert torch.equal(track_faces(chunks(moving, size), landmarker).points, track.points)


def test_no_more_shake_than_mediapipes_tracker(track, stored):
    assert track.found.all()
    assert shake(track.points) <= shake(torch.from_numpy(stored["tracked"]))
    assert np.abs(track.points.numpy() - stored["moving"])[..., :2].mean() < 1.0


def test_points_are_those_of_both_looks_at_the_smooth_region(landmarker, moving):
    tracker = Tracker(landmarker)
    tracker.push(moving[:8])
    tracker.finish()
    face = max(tracker.faces, key=lambda face: face.area)
    regions = torch.stack([face.smooth_region(i) for i in range(8)])
    with torch.inference_mode():
        expected, _ = landmarker.mesh.both_ways(moving[:8], torch.arange(8), regions)
    torch.testing.assert_close(torch.stack([face.points[i] for i in range(8)]), expected)


def test_smoothing_follows_a_moving_face_to_the_end():
    for offset in (torch.arange(-6, 7), torch.arange(0, 7), torch.arange(-6, 1), torch.tensor([-2, 0, 5])):
        weight = smoothing_weights(offset)
        assert weight.sum() == pytest.approx(1, abs=1e-5) and weight @ offset.float() == pytest.approx(0, abs=1e-5)


def test_one_frame(landmarker, astronaut):
    track = track_faces([(astronaut[None].numpy(), np.array([3.5]))], landmarker)
    assert track.found.tolist() == [True] and track.times.tolist() == [3.5] and track.size == (512, 512)
    assert track.transform.shape == (1, 2, 3)


def test_no_face_says_what_to_do(landmarker):
    with pytest.raises(InputError, match="no face found"):
        track_faces(chunks(torch.full((3, 96, 96, 3), 128, dtype=torch.uint8)), landmarker)
    with pytest.raises(InputError, match="without frames"):
        track_faces([], landmarker)


def test_choice_among_two_faces(landmarker, pair):
    frames = pair.repeat(3, 1, 1, 1)
    middle = {
        choice: track_faces(chunks(frames), landmarker, choice).points[0, :, 0].mean().item()
        for choice in ("largest", 0, 1, (60.0, 120.0))
    }
    assert middle["largest"] == middle[1] > 300
    assert middle[0] == middle[(60.0, 120.0)] < 150
    with pytest.raises(InputError, match="got face 2, but the video shows 2"):
        track_faces(chunks(frames), landmarker, 2)


def test_people_are_counted_as_they_appear():
    """Then from left to right: the one on the right is the first who was there."""
    places = [(10, 400.0), (10, 100.0), (0, 700.0)]  # first frame, x
    faces = [
        Face(torch.zeros(4), 0, points={first + i: torch.full((478, 3), x) for i in range(9)}) for first, x in places
    ]
    assert [first_place(choose_face(list(faces), index))[0] for index in range(3)] == [700.0, 100.0, 400.0]


def test_faces_that_pass_keep_their_names(landmarker, face):
    small, scenes = resized(face, 150), []
    for i in range(10):
        scene = torch.full((350, 480, 3), 90, dtype=torch.uint8)
        scene[8:158, 10 + 24 * i : 160 + 24 * i] = small
        scene[158:350, 280 - 24 * i : 472 - 24 * i] = face
        scenes.append(scene)
    x = track_faces(chunks(torch.stack(scenes)), landmarker, 0).points[:, :, 0].mean(1)
    assert torch.allclose(x.diff(), torch.tensor(24.0), atol=1.5)


def test_cut_is_not_smoothed_over(landmarker, face):
    left, right = (torch.full((8, 256, 640, 3), 90, dtype=torch.uint8) for _ in range(2))
    left[:, 30:222, 20:212], right[:, 30:222, 420:612] = face, face
    track = track_faces(chunks(torch.cat([left, right])), landmarker)
    assert track.found.all() and track.shots.tolist() == [0] * 8 + [1] * 8
    assert (track.points[7] - track.points[0]).abs().max() < 0.1
    assert (track.points[8] - track.points[15]).abs().max() < 0.1
    assert (track.transform[7] - track.transform[0]).abs().max() < 0.1


def test_frames_without_the_face(landmarker, moving):
    frames = moving.clone()
    frames[5:8, 80:220, 80:230] = 128
    track = track_faces(chunks(frames), landmarker)
    assert track.found.tolist() == [i not in (5, 6, 7) for i in range(16)]
    assert track.usable.all()
    assert not track.fill_gaps(max_seconds=0.1).usable[5:8].any()


@pytest.mark.parametrize("shown", [1, 3])
def test_a_picture_of_something_else_is_no_gap_in_a_face(landmarker, moving, shown):
    frames = moving.clone()
    frames[5 : 5 + shown] = 0
    track = track_faces(chunks(frames), landmarker)
    assert track.usable.tolist() == [not 5 <= i < 5 + shown for i in range(16)]


def test_a_frame_without_a_face_takes_as_long_as_the_one_before(landmarker, moving, monkeypatch):
    tracker = Tracker(landmarker)
    tracker.push(moving[:8])
    asked = []  # the area is a sum over all that was seen of a face so far
    monkeypatch.setattr(Face, "area", property(lambda face: asked.append(face) or 0.0))
    tracker.push(torch.zeros_like(moving[:8]))
    assert tracker.faces and not asked


def test_long_gap_stays_unusable():
    still = torch.rand(1, 478, 3, generator=torch.Generator().manual_seed(0)) * 100
    points = still + torch.arange(20.0)[:, None, None]
    found = torch.ones(20, dtype=torch.bool)
    found[3:6], found[8:17] = False, False
    broken = torch.where(found[:, None, None], points, torch.zeros(()))
    track = FaceTrack(broken, found, torch.arange(20, dtype=torch.float64) / 25, (100, 100)).fill_gaps()
    assert track.usable.tolist() == [not 8 <= i < 17 for i in range(20)]
    assert torch.allclose(track.points[3:6], points[3:6], atol=1e-4)
    assert torch.equal(track.points[8], points[7]) and torch.equal(track.points[16], points[17])


def test_the_longest_gap_is_filled_but_none_across_a_cut():
    points = torch.rand(1, 478, 3, generator=torch.Generator().manual_seed(0)).repeat(30, 1, 1) * 100
    points[20:] += 200
    found = torch.ones(30, dtype=torch.bool)
    found[3:11], found[19:21] = False, False  # 0.3 s, and a cut
    track = FaceTrack(points, found, torch.arange(30, dtype=torch.float64) / 30, (300, 300)).fill_gaps()
    assert track.filled.nonzero()[:, 0].tolist() == list(range(3, 11))


def test_gaps_of_a_long_film_are_filled_in_little_memory():
    frames = 100_000  # every frame against every other would be 80 GB
    found = torch.ones(frames, dtype=torch.bool)
    found[500:502] = False
    points = torch.arange(frames, dtype=torch.float32)[:, None, None].expand(-1, 2, 3).contiguous()
    points[:, 1] += 1000.0
    track = FaceTrack(points.clone(), found, torch.arange(frames, dtype=torch.float64) / 25, (100, 100))
    filled = track.fill_gaps()
    assert filled.filled.nonzero()[:, 0].tolist() == [500, 501]
    assert torch.allclose(filled.points, points)


def test_small_face_of_a_wide_shot(landmarker, face):
    wide = torch.full((6, 720, 1280, 3), 90, dtype=torch.uint8)
    wide[:, 400:480, 900:980] = resized(face, 80)
    with torch.inference_mode():
        assert not len(landmarker.detector(wide[:1])[0])
    track = track_faces(chunks(wide), landmarker)
    assert track.found.all()
    assert track.points[..., 0].min() > 900 and track.points[..., 0].max() < 980


def test_face_cut_by_the_border(landmarker, astronaut):
    frames = torch.stack([astronaut[60:300, 200 - i : 440 - i] for i in range(0, 12, 3)])
    track = track_faces(chunks(frames), landmarker)
    assert track.found.all() and track.points[..., 0].min() < 0


def test_progress_counts_frames_and_can_cancel(landmarker, moving):
    seen = []

    def stop(done, total):
        seen.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        track_faces(chunks(moving), landmarker, progress=stop, total=16)
    assert seen == [(8, 16)]


def test_choices_as_typed():
    assert [parse_choice(text) for text in ("largest", "2", "320,180.5")] == ["largest", 2, (320.0, 180.5)]
    for text in ("biggest", "1.5", "1,2,3", ""):
        with pytest.raises(InputError, match="expected largest"):
            parse_choice(text)
