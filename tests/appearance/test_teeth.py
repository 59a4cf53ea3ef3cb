"""Teeth of one mouth: sharp, between the lips only, in the light of the picture, and without a jump."""

import torch
from mouths import face

from comfyui_mytalk.appearance.inside import between, inner_lips
from comfyui_mytalk.appearance.layers import blur
from comfyui_mytalk.appearance.teeth import show_teeth

TARGET = face(1.0)[None]
NEAR, FAR = face(0.9), face(0.4)
SIGMA = 4.0


def stripes(phase: float) -> torch.Tensor:
    """Something fine `(1, 3, 256, 256)`: bright and dark columns, six pixels apart."""
    columns = 0.5 + 0.3 * torch.sin(torch.arange(256) * (2 * torch.pi / 6) + phase)
    return columns.expand(1, 3, 256, 256)


def shown(picture: torch.Tensor, points: list[torch.Tensor], phases: tuple[float, float] = (0.0, 1.5)) -> torch.Tensor:
    mouths = torch.stack([stripes(phase) for phase in phases], 1)
    return show_teeth(picture, mouths, torch.stack(points)[None], TARGET, (0, 0), 256, SIGMA)


def inside() -> torch.Tensor:
    return between(*inner_lips(TARGET, (0, 0), (256, 256)))[0] == 1


def test_only_what_is_between_the_lips_changes() -> None:
    picture = torch.full((1, 3, 256, 256), 0.4)
    changed = (shown(picture, [NEAR, FAR]) != picture).any(1)[0]
    rows, columns = inside().nonzero().unbind(1)
    box = torch.zeros_like(changed)
    box[rows.min() - 4 : rows.max() + 5, columns.min() - 4 : columns.max() + 5] = True
    assert (changed & ~box).sum() == 0 and (changed & inside()).sum() > 0.95 * inside().sum()


def test_detail_is_that_of_the_nearest_mouth_whichever_comes_first() -> None:
    picture, core = torch.full((1, 3, 256, 256), 0.4), inside()
    detail = stripes(0.0) - blur(stripes(0.0), SIGMA)
    for points, phases in (([NEAR, FAR], (0.0, 1.5)), ([FAR, NEAR], (1.5, 0.0))):
        made = (shown(picture, points, phases) - picture)[0, 0]
        apart = (made - detail[0, 0])[core].abs().median()
        assert apart < 0.05 * detail.abs().amax()


def test_how_light_the_mouth_is_stays() -> None:
    for light in (0.2, 0.6):
        picture = torch.full((1, 3, 256, 256), light)
        assert abs(float(shown(picture, [NEAR, FAR])[0, 0][inside()].mean()) - light) < 0.02


def test_teeth_do_not_jump_when_another_mouth_becomes_the_nearest() -> None:
    picture = torch.full((1, 3, 256, 256), 0.4)
    made = torch.cat(
        [shown(picture, [face(0.8 + shift), face(1.2 + shift)]) for shift in torch.linspace(-0.06, 0.06, 13)]
    )
    steps = made.diff(dim=0).abs().amax((1, 2, 3))
    assert steps.max() < 0.5 * (made[0] - made[-1]).abs().max(), "no step may be most of the way"
