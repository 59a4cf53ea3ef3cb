"""Contact sheets show the right frames at the right place."""

from __future__ import annotations

import numpy as np
import torch

from comfyui_mytalk.evaluation.sheet import contact_sheet, crop, face_box, mouth_boxes, pick_frames, pick_moments
from comfyui_mytalk.landmarks.canonical import canonical_face

SIZE = 200


def face_points(moments: int) -> torch.Tensor:
    """A frontal face in the middle of the picture, 10 px per centimetre."""
    face = torch.cat([canonical_face(), torch.zeros(10, 3)]) * torch.tensor([10.0, -10.0, -10.0])
    return (face + torch.tensor([100.0, 90.0, 0.0])).repeat(moments, 1, 1)


def test_picked_frames_do_not_depend_on_chunks() -> None:
    video = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    moments = pick_moments(10, 4)
    assert moments == [1, 3, 6, 8]
    for size in (1, 3, 10):
        chunks = [(video[start : start + size], None) for start in range(0, 10, size)]
        assert pick_frames(chunks, moments)[:, 0, 0, 0].tolist() == moments


def test_mouth_box_is_centred_on_the_lips() -> None:
    points = face_points(1)
    left, top, right, bottom = mouth_boxes(points)[0]
    lips = points[0, [61, 291]].mean(0)
    assert abs((left + right) / 2 - lips[0]) < 0.5
    assert top < points[0, 0, 1] < points[0, 17, 1] < bottom


def test_rows_show_input_above_output() -> None:
    source = np.full((2, SIZE, SIZE, 3), 40, np.uint8)
    output = np.full((2, SIZE, SIZE, 3), 200, np.uint8)
    sheet = np.asarray(contact_sheet(source, output, face_points(2), ["0 s", "1 s"], side=64))
    assert sheet.shape == (18 + 5 * 64, 2 * 64, 3)
    middle = [int(sheet[18 + 64 * row + 32, 96].max()) for row in (0, 2, 3, 4)]
    assert middle == [40, 200, 40, 200]
    landmarks = sheet[18 + 64 : 18 + 128, 64:]
    assert landmarks[..., 0].max() > 100, "red lips"


def test_large_pictures_are_reduced_without_a_shift() -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    picture[200:, 200:] = 255
    cell = np.asarray(crop(picture, (0, 0, 400, 400), 50))
    assert cell[24, 24].max() < 60
    assert cell[26, 26].min() > 195


def test_face_box_is_one_square_for_all_moments() -> None:
    points = face_points(2)
    points[1] += 20
    left, top, right, bottom = face_box(points)
    assert right - left == bottom - top
    assert left < points[..., 0].min() and right > points[..., 0].max()
