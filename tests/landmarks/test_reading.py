"""Mouths are read back from landmark pictures."""

import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.align import apply_transform, crop_transform, invert
from comfyui_mytalk.landmarks.canonical import fit_pose, to_canonical
from comfyui_mytalk.landmarks.drawing import LINE_WIDTH, LIP_RINGS, draw_lines, render_landmarks
from comfyui_mytalk.landmarks.reading import DrawingReader
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.motion.edit import inner_distance

LIPS = torch.tensor(sorted({point for ring in LIP_RINGS for point in ring}))
LOWER = torch.tensor([point for ring in LIP_RINGS for point in ring[1:10]])


class Face:
    """A face of which one frame is known, and pictures of it in crop pixels."""

    def __init__(self, points: torch.Tensor) -> None:
        self.points, self.pose = points[None], fit_pose(points[None])
        self.transform = crop_transform(self.pose)
        self.crop = apply_transform(invert(self.transform), self.points[..., :2])
        self.reader = DrawingReader(to_canonical(self.points, self.pose))

    def opened(self, pixels: float) -> torch.Tensor:
        """The lower lip `pixels` lower in its middle, less towards the corners."""
        crop = self.crop.clone()
        right, left = crop[0, 61, 0], crop[0, 291, 0]
        across = (2 * crop[0, LOWER, 0] - right - left) / (left - right)
        crop[:, LOWER, 1] += pixels * (1 - across**2).clamp(min=0)
        return crop

    def read(self, drawings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = (x.expand(len(drawings), *x.shape[1:]) for x in (self.points, self.transform))
        points, transform = given
        points, edited = self.reader.read(drawings, points, self.pose[torch.zeros(len(drawings)).long()], transform)
        return points, edited

    def error(self, points: torch.Tensor, truth: torch.Tensor) -> float:
        found = apply_transform(invert(self.transform), points[..., :2])
        return (found - truth)[:, LIPS].norm(dim=-1).mean().item()


@pytest.fixture(scope="module")
def face(stored):
    return Face(torch.from_numpy(stored["still"]))


def test_mouths_to_start_from_open_farther_than_any_that_is_known(face):
    openings = inner_distance(face.reader.mouths.starts)
    assert (openings.diff() > 0.4).all() and openings[-1] > openings[0] + 2


@pytest.mark.parametrize("width", [1.0, LINE_WIDTH, 3.0])
def test_an_opened_mouth_is_found(face, width):
    truth = face.opened(14)
    points, edited = face.read(draw_lines(truth, (256, 256), width))
    assert edited.all() and face.error(face.points, truth) > 3
    assert face.error(points, truth) < 2
    others = torch.ones(478, dtype=torch.bool)
    others[landmark_set("generated")] = False
    assert torch.equal(points[:, others], face.points[:, others])


def test_lines_of_another_width_show_the_same_mouth(face):
    drawings = torch.cat(
        [render_landmarks(face.crop), draw_lines(face.crop, (256, 256), 3.0), torch.zeros(1, 3, 256, 256)]
    )
    points, edited = face.read(drawings)
    assert not edited.any() and torch.equal(points, face.points.expand(3, -1, -1))


def test_frames_do_not_depend_on_each_other(face):
    drawings = torch.cat([render_landmarks(face.opened(pixels)) for pixels in (0, 8, 14)])
    points, edited = face.read(drawings)
    assert edited.tolist() == [False, True, True]
    for i in range(3):
        assert torch.equal(points[i : i + 1], face.read(drawings[i : i + 1])[0])


@pytest.mark.parametrize("kind", ["noise", "stroke"])
def test_red_that_is_no_mouth_is_refused(face, kind):
    picture = torch.zeros(1, 3, 256, 256)
    picture[0, 0] = torch.rand(256, 256, generator=torch.Generator().manual_seed(0)) if kind == "noise" else 0
    picture[0, 0, 20:24] = 1.0
    with pytest.raises(InputError, match="no mouth on this face"):
        face.read(picture)
