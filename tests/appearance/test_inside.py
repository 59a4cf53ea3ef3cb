"""A mouth that is drawn where a clip has none to show: only there, and in the face's own light."""

import pytest
import torch
from mouths import face

from comfyui_mytalk.appearance.inside import between, draw_unseen, inner_lips, keep_drawn
from comfyui_mytalk.appearance.references import MOUTH_BOX
from comfyui_mytalk.landmarks.canonical import mouth_opening

SKIN = torch.tensor([0.7, 0.55, 0.45])
SHUT, OPEN = face(0.0)[None], face(1.5)[None]


def still(count: int = 3) -> torch.Tensor:
    """References `(1, k, 3, 256, 256)` of one colour."""
    return SKIN.view(1, 1, 3, 1, 1).expand(1, count, 3, 256, 256)


def alone(opening: torch.Tensor) -> torch.Tensor:
    """The openings `(b, 2)` of clips that show one mouth only."""
    return torch.stack([opening, opening], 1)


def drawn(target: torch.Tensor, widest: torch.Tensor) -> torch.Tensor:
    return draw_unseen(still(), alone(widest), target, (0, 0), 256)


def test_only_what_is_between_the_lips_is_drawn():
    changed = (drawn(OPEN, mouth_opening(SHUT)) != still()).any(2)[0]
    inside = between(*inner_lips(OPEN, (0, 0), (256, 256)))[0] > 0
    assert torch.equal(changed[0], inside) and torch.equal(changed[0], changed[2])
    assert 500 < inside.sum() < 3000
    top, bottom, left, right = (round(edge * 256) for edge in MOUTH_BOX)
    assert inside[top:bottom, left:right].sum() == inside.sum()


@pytest.mark.parametrize(("target", "widest"), [(OPEN, 0.95 * mouth_opening(OPEN)), (SHUT, mouth_opening(SHUT))])
def test_a_mouth_that_the_clip_shows_and_a_closed_one_are_left_alone(target, widest):
    assert torch.equal(drawn(target, widest), still())


def test_teeth_are_above_and_bright_and_the_rest_is_dark_flesh():
    mouth = drawn(OPEN, mouth_opening(SHUT))[0, 0]
    column = round(OPEN[0, 13, 0].item())
    upper, lower = (round(OPEN[0, i, 1].item()) for i in (13, 14))
    line = mouth[:, upper:lower, column]
    teeth, throat, tongue = line[:, 3], line[:, len(line[0]) // 2], line[:, -3]
    assert teeth.mean() > 0.7 * SKIN.mean() > 1.4 * tongue.mean() > 2 * throat.mean()
    assert tongue[0] > 1.3 * tongue[1] and teeth.max() - teeth.min() < 0.25 * teeth.max()


def test_teeth_do_not_shine_at_night():
    night = still() * 0.1
    mouth = draw_unseen(night, alone(mouth_opening(SHUT)), OPEN, (0, 0), 256)[0, 0]
    assert 0.05 < mouth.max() < 1.8 * night.max()


def test_teeth_that_the_clip_shows_do_not_grow_when_the_mouth_opens_further():
    """They hang from the upper lip as high as they were; under them it is dark."""
    upper, lower, across = inner_lips(OPEN, (0, 0), (256, 256))
    teeth = ((upper / (upper + lower) < 0.5) & (upper > 0) & (across.abs() < 0.5))[:, None].float()
    aligned = still() * 0.5 + 0.4 * teeth[:, None]
    column = round(OPEN[0, 13, 0].item())

    def height(ratio: float) -> float:
        mouth = draw_unseen(aligned, alone(ratio * mouth_opening(OPEN)), OPEN, (0, 0), 256)[0, 0].mean(0)[:, column]
        return float((mouth > 0.55).sum())

    own = 0.5 * mouth_opening(OPEN).item()
    assert height(0.95) == pytest.approx(own, abs=1.5)
    assert height(0.5) == pytest.approx(0.5 * own, abs=1.5)
    heights = [height(ratio) for ratio in torch.linspace(0.5, 1, 26).tolist()]
    assert max(abs(b - a) for a, b in zip(heights[:-1], heights[1:], strict=True)) <= 2, "little by little"
    below = draw_unseen(aligned, alone(0.5 * mouth_opening(OPEN)), OPEN, (0, 0), 256)[0, 0].mean(0)
    assert below[round(OPEN[0, 14, 1].item() - 0.4 * own), column] < 0.5 * SKIN.mean() * 0.8


def test_the_inside_of_a_talking_mouth_is_stretched():
    """Only a smile is bound to its height, and only where it is all that the clip shows."""
    target, widest = face(1.2)[None], 0.6 * mouth_opening(face(1.2)[None])
    talks = torch.stack([0 * widest, widest], 1)
    assert torch.equal(draw_unseen(still(), talks, target, (0, 0), 256), still())
    assert not torch.equal(draw_unseen(still(), alone(widest), target, (0, 0), 256), still())
    laughs = face(2.0)[None]
    shown = alone(0.75 * mouth_opening(laughs))
    assert torch.equal(draw_unseen(still(), shown, laughs, (0, 0), 256), still()), "as wide as no smile is"
    mumbles = torch.stack([0 * widest, 0.3 * widest], 1)
    assert not torch.equal(draw_unseen(still(), mumbles, target, (0, 0), 256), still())


def test_single_teeth_stand_side_by_side():
    """The middle of a mouth is a gap, the middle of an incisor is brighter than its sides."""
    mouth = drawn(OPEN, mouth_opening(SHUT))[0, 0].mean(0)
    row, middle = round(OPEN[0, 13, 1].item()) + 3, round((OPEN[0, 78, 0] + OPEN[0, 308, 0]).item() / 2)
    for side in (-1, 1):
        gap, tooth, next_gap = (mouth[row, middle + side * away] for away in (0, 6, 11))
        assert tooth > 1.1 * gap and tooth > 1.1 * next_gap


def test_a_black_and_white_picture_stays_so():
    grey = torch.full((1, 3, 3, 256, 256), 0.5)
    mouth = draw_unseen(grey, alone(mouth_opening(SHUT)), OPEN, (0, 0), 256)
    assert (mouth != grey).any() and (mouth.amax(2) - mouth.amin(2)).max() < 1e-3


def test_a_mouth_that_opens_further_is_drawn_little_by_little():
    """No pixel jumps while a closed mouth opens by a sixth of a pixel at a time."""
    openings = torch.linspace(0, 1.0, 80)
    steps = torch.cat([drawn(face(float(opening))[None], mouth_opening(SHUT)) for opening in openings]).diff(dim=0)
    assert steps.abs().mean(2).flatten(1).topk(40).values.mean(1).max() < 0.3


def test_a_window_shows_a_part_and_frames_do_not_mix():
    targets, widest = torch.cat([SHUT, OPEN]), mouth_opening(SHUT).expand(2)
    together = draw_unseen(
        still().expand(2, -1, -1, -1, -1)[..., 96:250, 32:220], alone(widest), targets, (96, 32), 256
    )
    assert torch.equal(together[:1], still()[..., 96:250, 32:220])
    torch.testing.assert_close(together[1:], drawn(OPEN, widest[:1])[..., 96:250, 32:220], atol=1e-3, rtol=0)


def test_the_networks_weave_is_taken_out_of_a_drawn_mouth_but_not_off_the_lips():
    references = drawn(OPEN, mouth_opening(SHUT))
    weave = references[:, 0] + 0.1 * (torch.arange(256) % 2)
    kept = keep_drawn(weave, references, alone(mouth_opening(SHUT)), OPEN, (0, 0), 256)
    upper, lower, across = inner_lips(OPEN, (0, 0), (256, 256))
    deep = ((upper > 2) & (lower > 2) & (across.abs() < 1))[:, None]
    assert torch.allclose(kept[deep.expand_as(kept)], references[:, 0][deep.expand_as(kept)])
    rim = ((upper < 1) | (lower < 1))[:, None].expand_as(kept)
    assert torch.equal(kept[rim], weave[rim])
    assert torch.equal(keep_drawn(weave, references, alone(mouth_opening(OPEN)), OPEN, (0, 0), 256), weave)
