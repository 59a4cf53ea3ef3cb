"""Landmark pictures show the right lines in the right colours."""

import pytest
import torch

from comfyui_mytalk.landmarks.align import apply_transform, crop_transform, invert
from comfyui_mytalk.landmarks.canonical import fit_pose
from comfyui_mytalk.landmarks.drawing import draw_lines, draw_over, render_landmarks
from comfyui_mytalk.landmarks.sets import landmark_set


@pytest.fixture(scope="module")
def points(stored):
    """Astronaut landmarks in crop pixels `(1, 478, 2)`."""
    still = torch.from_numpy(stored["still"])[None]
    return apply_transform(invert(crop_transform(fit_pose(still))), still[..., :2])


def at(picture, points):
    x, y = points.floor().long().clamp(0, picture.shape[-1] - 1).unbind(-1)
    return picture[0, :, y, x]


def test_colours_of_the_lines(points):
    picture = render_landmarks(points)
    assert picture.shape == (1, 3, 256, 256) and picture.min() == 0 and picture.max() == 1
    for channel, name in enumerate(("lips_outer", "jaw", "eye_left")):
        assert at(picture, points[0, landmark_set(name)])[channel].min() > 0.4


def test_only_the_mouth_moves_when_the_mouth_moves(points):
    moved = points.clone()
    moved[:, landmark_set("lips_inner")] += 4
    change = (render_landmarks(moved) - render_landmarks(points)).abs().amax((2, 3))[0]
    assert change[0] > 0.5 and change[1] == change[2] == 0


def test_lines_are_anti_aliased(points):
    shifted = (render_landmarks(points + 0.25) - render_landmarks(points)).abs()
    assert 0.1 < shifted.max() < 0.6


def test_frames_are_independent(points):
    far = points * 1.7 - 60
    assert torch.equal(render_landmarks(torch.cat([points, far]))[:1], render_landmarks(points))


def test_outside_the_picture_nothing_is_drawn(points):
    assert render_landmarks(points + 5000).max() == 0
    shifted = render_landmarks(points + torch.tensor([100.0, 0.0]))
    assert torch.allclose(shifted[..., 100:], render_landmarks(points)[..., :156], atol=1e-4)
    assert shifted[..., :40].max() == 0


def test_size_scales_the_picture(points):
    large = torch.nn.functional.avg_pool2d(render_landmarks(points * 2, size=512), 2)
    small = render_landmarks(points)
    assert (large - small).abs().mean() < 0.01
    assert large.sum().item() == pytest.approx(small.sum().item(), rel=0.1), "lines are as wide as the picture is large"


def test_lines_over_a_wide_picture_are_those_of_a_square_one(points):
    wide = draw_lines(points, (200, 256), 1.5)
    assert torch.equal(wide, render_landmarks(points)[:, :, :200])
    picture = torch.rand(1, 3, 200, 256)
    over = draw_over(picture, points, opacity=0.5, width=1.5)
    free = (wide.amax(1, keepdim=True) == 0).expand_as(over)
    assert torch.equal(over[free], picture[free])
    lips = at(over, points[0, landmark_set("lips_outer")]) - at(picture, points[0, landmark_set("lips_outer")]) / 2
    assert lips[0].min() > 0.2, "half of the line over half of the picture"
