"""Faces made into other faces: pictures, masks and landmarks stay together."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from comfyui_mytalk.landmarks.canonical import mouth_opening
from comfyui_mytalk.training import augment_faces
from comfyui_mytalk.training.appearance_data import ClipView, RawSample
from comfyui_mytalk.training.augment_faces import colour_jitter, mirror, reshape_face
from comfyui_mytalk.training.clips import read_clips
from tests.synthetic_clips import write_clips

SIZE = 128
MARKED = (13, 61, 152, 234, 454)  # lips, a corner, the chin, both sides of the face


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawSample:
    folder = write_clips(tmp_path_factory.mktemp("prepared"), identities=1, takes=1, frames=30)
    return RawSample.stack([ClipView(read_clips(folder, "train")[0]).raw(3, [12, 20])])


def spots(points: Tensor) -> Tensor:
    """Pictures `(..., 5, s, s)` with a spot at each marked landmark of `points (..., 478, 2)`."""
    at = torch.arange(SIZE) + 0.5
    x, y = (points[..., list(MARKED), axis][..., None, None] for axis in (0, 1))
    return torch.exp(-((at - x) ** 2 + (at[:, None] - y) ** 2) / (2 * 2.0**2))


def centres(pictures: Tensor) -> Tensor:
    """Where the spots of `(..., 5, s, s)` are `(..., 5, 2)`."""
    at, weight = torch.arange(SIZE) + 0.5, pictures / pictures.sum((-2, -1), keepdim=True)
    return torch.stack([(weight.sum(-2) * at).sum(-1), (weight.sum(-1) * at).sum(-1)], -1)


def spotted(points: Tensor, others: Tensor) -> RawSample:
    """A batch whose pictures show nothing but where the landmarks `(b, 478, 2)` and `(b, k, 478, 2)` are."""
    own, shown = spots(points), spots(others)
    openings = torch.tensor([1.0, 9.0]).expand(len(points), -1)
    return RawSample(own, points, own[:, :1], shown, others, shown[:, :, :1], openings)


def test_mirror_is_its_own_inverse(raw: RawSample) -> None:
    whole, none = torch.tensor([True]), torch.tensor([False])
    back = mirror(mirror(raw, whole), whole)
    assert torch.equal(back.crop, raw.crop)
    torch.testing.assert_close(back.points, raw.points, atol=1e-4, rtol=0)
    assert not torch.equal(mirror(raw, whole).points, raw.points)
    assert all(torch.equal(getattr(mirror(raw, none), f.name), getattr(raw, f.name)) for f in fields(raw))


def test_a_mirrored_picture_shows_its_landmarks(raw: RawSample) -> None:
    scale, middle = SIZE / raw.crop.shape[-1], [MARKED.index(point) for point in (13, 152)]
    flipped = mirror(spotted(raw.points * scale, raw.reference_points * scale), torch.tensor([True]))
    for pictures, points in ((flipped.crop, flipped.points), (flipped.images, flipped.reference_points)):
        found, wanted = centres(pictures)[..., middle, :], points[..., [13, 152], :]
        torch.testing.assert_close(found, wanted, atol=0.05, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_landmarks_of_another_face_lie_where_its_picture_shows_them(raw: RawSample, seed: int) -> None:
    scale = SIZE / raw.crop.shape[-1]
    drawn = spotted(raw.points * scale, raw.reference_points * scale)
    changed = reshape_face(drawn, np.random.default_rng(seed))
    for points, pictures in ((changed.points, changed.crop), (changed.reference_points, changed.images)):
        wanted = points[..., list(MARKED), :]
        inside = ((wanted > 10) & (wanted < SIZE - 10)).all(-1)
        assert inside.sum() >= 3
        assert (centres(pictures) - wanted)[inside].norm(dim=-1).max() < 0.7
    moved = (changed.points - drawn.points).norm(dim=-1)
    assert moved.max() > 2, "it is another face"
    torch.testing.assert_close(changed.mask, changed.crop[:, :1], atol=0.05, rtol=0)
    torch.testing.assert_close(changed.reference_masks, changed.images[:, :, :1], atol=0.05, rtol=0)


@pytest.mark.parametrize("bend", [True, False])
def test_all_frames_become_the_same_person(raw: RawSample, bend: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same landmark in two frames goes to the same place; mouths open as far as the face is stretched."""
    if not bend:
        monkeypatch.setattr(augment_faces, "BEND", 0.0)
        monkeypatch.setattr(augment_faces, "TURN", 0.0)
    points = raw.points * (SIZE / raw.crop.shape[-1])
    twice = spotted(points, points[:, None].expand(-1, 2, -1, -1))
    for seed in range(3):
        changed = reshape_face(twice, np.random.default_rng(seed))
        torch.testing.assert_close(changed.reference_points, changed.points[:, None].expand(-1, 2, -1, -1))
        if not bend:
            grown = (mouth_opening(changed.points) / mouth_opening(points))[:, None].expand(-1, 2)
            torch.testing.assert_close(changed.openings / twice.openings, grown, atol=1e-3, rtol=0)


@pytest.mark.parametrize("change", [reshape_face, colour_jitter])
def test_samples_of_a_batch_become_different_people(raw: RawSample, change) -> None:
    two = RawSample(*(torch.cat([getattr(raw, f.name)] * 2) for f in fields(raw)))
    changed = change(two, np.random.default_rng(0))
    apart = (getattr(changed, name) for name in ("crop", "points"))
    assert max(float((x[0] - x[1]).abs().mean()) for x in apart) > 1e-3


def test_what_lies_beyond_the_frame_stays_black(raw: RawSample) -> None:
    """Light is compared where frames show something: a black border must not become nearly black."""
    black = replace(raw, crop=raw.crop.clone(), images=raw.images.clone())
    black.crop[..., :9], black.images[..., :9] = 0, 0
    changed = colour_jitter(black, np.random.default_rng(1))
    assert not changed.crop[..., :9].any() and not changed.images[..., :9].any()
    assert not torch.equal(changed.crop, black.crop)


@pytest.mark.parametrize("change", [reshape_face, colour_jitter])
def test_a_seed_gives_one_face_and_the_sample_stays_as_it_was(raw: RawSample, change) -> None:
    before = {f.name: getattr(raw, f.name).clone() for f in fields(raw)}
    first, again, other = (change(raw, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(getattr(first, f.name), getattr(again, f.name)) for f in fields(raw))
    assert not torch.equal(first.crop, other.crop)
    assert all(torch.equal(getattr(raw, name), value) for name, value in before.items())
