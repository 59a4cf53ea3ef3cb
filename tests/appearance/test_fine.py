"""Fine detail of close-ups: comes back where the network agrees with the film, and nowhere else."""

import pytest
import torch
import torch.nn.functional as F
from mouths import face

from comfyui_mytalk.appearance.fine import Fine, add_fine_detail, fine_size
from comfyui_mytalk.evaluation.pictures import psnr
from comfyui_mytalk.landmarks.align import crop_transform
from tests.synthetic_clips import pose

WINDOW, WHOLE = (96, 256, 32, 224), (0, 256, 0, 256)


def larger(crops: torch.Tensor, full: int) -> torch.Tensor:
    return F.interpolate(crops, size=full, mode="bicubic")


def skin(full: int) -> torch.Tensor:
    """A picture `(1, 3, full, full)` with pores."""
    draw = torch.Generator().manual_seed(0)
    light = F.interpolate(torch.rand(1, 3, 8, 8, generator=draw), size=full, mode="bicubic").clamp(0, 1)
    return (0.3 + 0.3 * light + 0.05 * torch.randn(1, 3, full, full, generator=draw)).clamp(0, 1)


@pytest.mark.parametrize("full", [512, 768])
def test_what_a_small_crop_lost_comes_back(full):
    """The network painted the nearest picture itself, at its own resolution."""
    film, points = skin(full), face(0.5)[None]
    crops = F.avg_pool2d(film, full // 256)
    result = add_fine_detail(crops, points, Fine(film, points), WINDOW)
    top, bottom, left, right = (edge * full // 256 for edge in WINDOW)
    inside = (Ellipsis, slice(top, bottom), slice(left, right))
    assert psnr(result, film[inside]) > psnr(larger(crops, full)[inside], film[inside]) + 12


def test_where_they_disagree_the_networks_picture_stays():
    film, points = skin(512), face(0.5)[None]
    crops = F.avg_pool2d(film, 2)
    crops[..., 150:200, 100:150] = (crops[..., 150:200, 100:150] + 0.4).clamp(0, 1)  # teeth, say
    change = add_fine_detail(crops, points, Fine(film, points), WHOLE) - larger(crops, 512)
    assert change[..., 310:390, 210:290].abs().max() < 0.01
    assert change[..., 420:480, 100:400].abs().max() > 0.05


def test_detail_moves_with_the_mouth():
    film, closed, opened = torch.full((1, 3, 512, 512), 0.5), face(0.2)[None], face(0.8)[None]
    chin = (closed[0, 152] * 2).round().int().tolist()
    film[..., chin[1] - 3 : chin[1] + 3, chin[0] - 3 : chin[0] + 3] = 0.65  # a mole
    crops = torch.full((1, 3, 256, 256), 0.5)
    change = (add_fine_detail(crops, opened, Fine(film, closed), WHOLE) - 0.5)[0].mean(0)
    row, column = divmod(int(change.argmax()), 512)
    wanted = opened[0, 152] * 2
    assert abs(column - wanted[0]) < 6 and abs(row - wanted[1]) < 6


@pytest.mark.parametrize(("pixels_per_cm", "size"), [(5.0, 256), (16.0, 256), (18.0, 512), (32.0, 768), (90.0, 768)])
def test_crops_are_as_large_as_the_film_allows(pixels_per_cm, size):
    assert fine_size(crop_transform(pose(5, pixels_per_cm))) == size
