"""The fixed references: from which few pictures all others are predicted best."""

from itertools import combinations

import pytest
import torch
from mouths import face

from comfyui_mytalk.appearance.fixed import telling_pictures
from comfyui_mytalk.appearance.regression import PictureRegression

OPENINGS = torch.linspace(0.1, 1.5, 9)


def filmed(look: torch.Tensor) -> PictureRegression:
    """Faces of one grey each, `look (m,)` 0..1, whose mouths open wider and wider."""
    points = torch.stack([face(float(opening)) for opening in OPENINGS[: len(look)]])
    return PictureRegression.of((look * 255).byte()[:, None, None, None].expand(-1, 3, 256, 256).clone(), points)


def error(regression: PictureRegression, chosen: list[int]) -> float:
    """Mean squared error of what the regression expects of every face, shown the `chosen` alone; of the lips' grey."""
    points = torch.stack([face(float(opening)) for opening in OPENINGS])
    usable = torch.zeros(len(points), len(points), dtype=torch.bool)
    usable[:, chosen] = True
    grey = regression.pictures[:, 0, 170, 128].float()
    return float((regression.weights(points, usable) @ grey - grey).square().mean())


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_no_exchange_makes_them_tell_more(turns):
    regression = filmed(0.5 + 0.4 * (turns * OPENINGS).sin())
    chosen = telling_pictures(regression, 3).tolist()
    mine, others = error(regression, chosen), [i for i in range(9) if i not in chosen]
    for kept in chosen[1:]:
        assert min(error(regression, [0, kept, other]) for other in others) > 0.999 * mine
    every = sorted(error(regression, [0, *trial]) for trial in combinations(range(1, 9), 2))
    assert mine <= every[len(every) // 5], "local optimum, but a good one"


def test_they_lie_where_pictures_change_and_not_where_mouths_do():
    change = torch.tensor([0.1, 0.5, 0.9])
    assert (telling_pictures(filmed(torch.cat([change, torch.full((6,), 0.7)])), 3) < 3).sum() == 2
    assert (telling_pictures(filmed(torch.cat([torch.full((6,), 0.7), change])), 3) > 5).sum() == 2


def test_one_shows_a_closed_mouth():
    same = torch.tensor([0.75, *[0.7] * 5, 0.1, 0.5, 0.9])
    assert 0 in telling_pictures(filmed(same), 3) and 0 in telling_pictures(filmed(same), 1)


def test_they_come_from_the_most_closed_mouth_to_the_widest():
    chosen = telling_pictures(filmed(0.3 + 0.2 * OPENINGS**1.5), 3)
    assert chosen.tolist() == chosen.unique().tolist() and len(chosen) == 3


@pytest.mark.parametrize("pictures", [1, 2])
def test_where_there_are_too_few_all_are_taken(pictures):
    assert telling_pictures(filmed(torch.full((pictures,), 0.5)), 3).tolist() == list(range(pictures))
