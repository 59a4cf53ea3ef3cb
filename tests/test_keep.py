"""What lies over the mouth stays as filmed, and no mouth is painted from pictures in which it is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_mytalk import pipeline
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.frames import TensorSource
from comfyui_mytalk.geometry import Geometry
from comfyui_mytalk.keep import MaskFile, covers_lips, either, told_occlusion
from comfyui_mytalk.landmarks.align import CROP_SIZE
from comfyui_mytalk.landmarks.track import FaceTrack, load_face_landmarker, track_faces
from comfyui_mytalk.options import SyncOptions
from comfyui_mytalk.sync import sync_video
from comfyui_mytalk.video.reader import VideoReader
from comfyui_mytalk.video.writer import VideoWriter
from tests.support.mouths import face

DEMO = Path(__file__).parents[1] / "demo"
SIDE = 96
TURN = torch.tensor([[[SIDE / CROP_SIZE, 0, 0], [0, SIDE / CROP_SIZE, 0]]])  # the crop is the whole frame


def points(count: int) -> torch.Tensor:
    return (face() * (SIDE / CROP_SIZE)).expand(count, -1, -1)


def mouth() -> tuple[slice, slice]:
    """Rows and columns of the lips in the frame."""
    lips = points(1)[0, [0, 17, 61, 291]]
    low, high = lips.amin(0).long().tolist(), lips.amax(0).ceil().long().tolist()
    return slice(low[1], high[1]), slice(low[0], high[0])


def film(path: Path, pictures: list[np.ndarray]) -> Path:
    with VideoWriter(path, SIDE, SIDE, 25) as writer:
        writer.write(np.stack(pictures))
    return path


def masks(*numbers: int, count: int = 6) -> list[np.ndarray]:
    """Dark pictures; those with the given numbers are light over the lips."""
    pictures = [np.zeros((SIDE, SIDE, 3), np.uint8) for _ in range(count)]
    for number in numbers:
        pictures[number][mouth()] = 255
    return pictures


class Crops(FaceTrack):
    """A track whose crops are the whole frames."""

    transform = property(lambda self: TURN.expand(len(self), -1, -1))


def track(count: int) -> Crops:
    face = torch.nn.functional.pad(points(count), (0, 1))
    return Crops(face, torch.ones(count, dtype=torch.bool), torch.arange(count) / 25, (SIDE, SIDE))


def hidden(masks: Iterator[torch.Tensor], count: int) -> list[bool]:
    told = told_occlusion(masks, track(count), 4)
    return covers_lips(told, Geometry(None, TURN.expand(count, -1, -1), None, track(count).points)).tolist()


def test_a_hidden_mouth_is_one_whose_lips_are_covered():
    hand, cheek = torch.zeros(2, SIDE, SIDE), torch.zeros(1, SIDE, SIDE)
    hand[1][mouth()] = 1
    cheek[:, :, :4] = 1
    masks = torch.cat([hand, cheek])
    assert hidden(iter(masks.split(4)), 3) == [False, True, False]
    assert (told_occlusion(iter(masks.split(4)), track(3), 4).rows >= 0).tolist() == [False, True, True]


def test_what_is_found_and_what_is_told_count_alike():
    left, right = torch.zeros(4, SIDE, SIDE), torch.zeros(4, SIDE, SIDE)
    left[1:3, :, : SIDE // 2] = 1
    right[2:, :, SIDE // 2 :] = 1
    first, second = (told_occlusion(iter([masks]), track(4), 4) for masks in (left, right))
    both = either(first, second)
    assert (both.rows >= 0).tolist() == [False, True, True, True]
    expected = torch.maximum(first.shares(32), second.shares(32))
    assert (both.shares(32) - expected).abs().max() < 0.01 and both.shares(32)[2].min() > 0.4
    assert either(first, None) is first and either(None, second) is second and either(None, None) is None


def test_masks_come_in_the_order_of_the_film(tmp_path):
    source = VideoReader(film(tmp_path / "film.mp4", masks()))
    given = MaskFile(film(tmp_path / "masks.mp4", masks(2, 3)), source)
    assert hidden(given.chunks(4), 6) == [False, False, True, True, False, False]
    looped, (rows, columns) = torch.cat(list(given.chunks(4, torch.tensor([3, 4, 5, 0, 1, 2, 3])))), mouth()
    assert looped[:, rows, columns].mean((1, 2)).gt(0.9).tolist() == [True, False, False, False, False, True, True]
    assert looped.min() == 0 and looped.max() == 1


def test_a_picture_holds_for_all_frames(tmp_path):
    Image.fromarray(masks(0)[0]).save(tmp_path / "mask.png")
    source = VideoReader(film(tmp_path / "film.mp4", masks()))
    given = MaskFile(tmp_path / "mask.png", source)
    assert all(hidden(given.chunks(4), 6))
    assert [part.shape for part in given.chunks(4, torch.arange(6))] == [(4, SIDE, SIDE), (2, SIDE, SIDE)]


def test_masks_of_another_film_are_refused(tmp_path):
    source = VideoReader(film(tmp_path / "film.mp4", masks()))
    Image.new("L", (64, 48)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="got masks of 64x48 pixels, expected those of the video, 96x96"):
        MaskFile(tmp_path / "small.png", source)
    with pytest.raises(InputError, match="got 3 masks, expected one picture, or as many"):
        MaskFile(film(tmp_path / "short.mp4", masks(count=3)), source)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_what_is_kept_stays_bit_for_bit(kind):
    frames = torch.randint(0, 256, (2, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0)).to(kind)
    frames = frames / 255 if kind == torch.float32 else frames
    place = Geometry(None, TURN.expand(2, -1, -1), None, points(2))
    keep, mask, made = torch.zeros(2, SIDE, SIDE), torch.ones(2, 1, 64, 64), frames.clone()
    keep[:, :10] = 0.5
    keep[:, :, 40:] = 1
    new = torch.zeros(2, SIDE, SIDE)
    pipeline.lay_back(made, torch.arange(2), torch.full((2, 3, 64, 64), 0.5), mask, place, new, keep)
    assert torch.equal(made[:, :, 40:], frames[:, :, 40:]) and new[:, :, 40:].max() == 0
    unit = 255 if kind == torch.uint8 else 1
    assert (made[:, 20:60, 10:30].float() / unit - 0.5).abs().max() < 0.01 and new[:, 20:60, 10:30].min() == 1
    half = (frames[:, 4:8, 10:30].float() / unit + 0.5) / 2
    assert (made[:, 4:8, 10:30].float() / unit - half).abs().max() < 0.01


def test_sync_leaves_the_film_under_the_mask(tmp_path):
    """A mask over everything: what comes out is the film, up to the encoding, which a painted mouth is not."""
    source = VideoReader(DEMO / "actor.mp4", 1.4, 0.3)
    Image.new("L", (source.info.width, source.info.height), 255).save(tmp_path / "all.png")
    film = torch.cat([frames for frames, _ in source.chunks(8)]).float()
    apart = []
    for mask in (None, tmp_path / "all.png"):
        options = SyncOptions(steps=1, start=1.4, duration=0.3, length_mode="trim", keep_mask=mask)
        sync_video(DEMO / "actor.mp4", DEMO / "speech.wav", tmp_path / "out.mp4", options)
        made = torch.cat([frames for frames, _ in VideoReader(tmp_path / "out.mp4").chunks(8)]).float()
        apart.append((made - film).abs().flatten(1).topk(1000).values.mean())
    assert apart[1] < 0.5 * apart[0]


def clip_of(path: Path, frames: torch.Tensor) -> Path:
    with VideoWriter(path, frames.shape[2], frames.shape[1], 25, crf=4) as writer:
        writer.write(frames.numpy())
    return path


@pytest.fixture(scope="module")
def actor() -> tuple[torch.Tensor, FaceTrack]:
    frames = torch.cat([part for part, _ in VideoReader(DEMO / "actor.mp4", 1.4, 0.32).chunks(8)])
    return frames, track_faces(TensorSource(frames, 25).chunks(8), load_face_landmarker("cpu"))


def test_sync_does_not_paint_from_frames_with_masked_lips(tmp_path, actor):
    frames, masks = actor[0], torch.zeros_like(actor[0])
    masks[:4] = 255
    mask = clip_of(tmp_path / "masks.mp4", masks)
    options = SyncOptions(steps=1, length_mode="trim", keep_mask=mask, keep_occlusions=False)
    report = sync_video(clip_of(tmp_path / "film.mp4", frames), DEMO / "speech.wav", tmp_path / "out.mp4", options)
    assert min(report["references"]) >= 4


def test_sync_sees_a_microphone_and_leaves_it(tmp_path, actor):
    """Dark in front of the chin: it stays, up to the encoding, unless it is to be painted over."""
    frames, ball = actor[0].clone(), torch.zeros(actor[0].shape[:3], dtype=torch.bool)
    rows, columns = (torch.arange(n) + 0.5 for n in frames.shape[1:3])
    for frame, points in enumerate(actor[1].points):
        x, y = points[152, :2]
        reach = 0.3 * (points[454, 0] - points[234, 0])
        ball[frame] = (columns - x) ** 2 + (rows[:, None] - y) ** 2 < reach**2
    frames[ball] = 20
    film, apart, covered = clip_of(tmp_path / "film.mp4", frames), {}, {}
    for keep in (True, False):
        options = SyncOptions(steps=1, length_mode="trim", keep_occlusions=keep)
        report = sync_video(film, DEMO / "speech.wav", tmp_path / "out.mp4", options)
        made = torch.cat([part for part, _ in VideoReader(tmp_path / "out.mp4").chunks(8)])
        apart[keep] = (made.int() - frames.int())[ball].abs().float().mean()
        covered[keep] = report["face"]["covered"]
    assert apart[True] < 0.2 * apart[False]
    assert covered == {True: [[0, len(frames) - 1]], False: []}
