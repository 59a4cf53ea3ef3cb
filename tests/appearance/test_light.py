import torch

from comfyui_mytalk.appearance.light import GAIN_LIMIT, face_oval, light_references, shared_skin
from comfyui_mytalk.landmarks.align import CROP_SIZE
from comfyui_mytalk.landmarks.canonical import canonical_face
from comfyui_mytalk.landmarks.sets import landmark_set

HEIGHT, WIDTH = 48, 64


def picture(seed: int = 0) -> torch.Tensor:
    """Smooth skin `(1, 3, h, w)` between 0.3 and 0.7."""
    y, x = torch.arange(HEIGHT)[:, None] / 9 + seed, torch.arange(WIDTH) / 11
    return 0.5 + 0.2 * torch.stack([x.sin() * y.cos(), (x + y).sin(), (x - y).cos()])[None]


def skin(hidden: slice) -> torch.Tensor:
    shown = torch.ones(1, 1, HEIGHT, WIDTH)
    shown[..., hidden, 16:48] = 0
    return shown


def frontal_face() -> torch.Tensor:
    """Landmarks `(1, 478, 2)` of a face in the middle of a crop."""
    face = torch.full((1, 478, 2), CROP_SIZE / 2)
    face[0, :468] += canonical_face()[:468, :2] * torch.tensor([9.0, -9.0])
    return face


def light(strength: float) -> torch.Tensor:
    """A gain for each channel, and a slope to the right."""
    slope = torch.linspace(-strength, strength, WIDTH)
    return 1 + strength * torch.tensor([1.0, 0.0, -1.0])[:, None, None] + slope


def test_each_reference_gets_the_light_of_the_frame_also_where_that_is_hidden() -> None:
    crop, shown = picture(), skin(slice(20, 48))
    references = torch.stack([crop * light(0.1), crop * light(-0.06), crop], 1)
    lit = light_references(references, crop, shown)
    hidden = (shown == 0).expand_as(crop)
    for k in range(3):
        assert (lit[:, k] - crop)[hidden].abs().max() < 0.015
    assert (references[:, 0] - crop)[hidden].abs().max() > 0.08
    assert torch.equal(lit[:, 2], crop)


def test_what_is_hidden_of_the_frame_takes_no_part() -> None:
    crop, shown = picture(), skin(slice(21, 43))  # no multiple of the cells that are compared
    references = torch.stack([crop * light(0.1), picture(1)], 1)
    other = torch.where(shown == 0, 1.0, crop)
    assert torch.equal(light_references(references, crop, shown), light_references(references, other, shown))


def test_what_lies_beyond_the_frame_takes_no_part() -> None:
    """Crops are black there, those of frames in which the face is at the border."""
    crop, shown = picture(), skin(slice(20, 48))
    beyond = torch.ones(1, 1, HEIGHT, WIDTH)
    beyond[..., 50:] = 0
    references = torch.stack([crop * light(0.1), crop * light(0.1) * beyond], 1)
    for target in (crop, crop * beyond):
        lit = light_references(references, target, shown)
        seen = (beyond > 0).expand_as(crop)
        assert (lit[:, 0] - crop)[seen].abs().max() < 0.03
        assert (lit[:, 1] - crop)[seen].abs().max() < 0.03


def test_each_frame_has_its_own_light() -> None:
    crops, shown = torch.cat([picture(), picture() * light(0.1)]), skin(slice(20, 48)).expand(2, -1, -1, -1)
    references = picture()[:, None].expand(2, 2, -1, -1, -1)
    both = light_references(references, crops, shown)
    for i in range(2):
        assert torch.equal(both[i], light_references(references[i : i + 1], crops[i : i + 1], shown[:1])[0])
    assert (both[1, 0] - crops[1]).abs().max() < 0.025 and (both[0, 0] - crops[0]).abs().max() < 1e-6


def test_nothing_seen_changes_nothing_and_gains_are_bounded() -> None:
    crop, references = picture(), 0.5 * picture()[:, None]
    assert torch.equal(light_references(references, crop, torch.zeros(1, 1, HEIGHT, WIDTH)), references)
    lit = light_references(references, 4 * references[:, 0] + 0.1, torch.ones(1, 1, HEIGHT, WIDTH))
    assert (lit <= references * (1 + GAIN_LIMIT) + 1e-6).all() and (lit > 1.1 * references).all()
    black = light_references(references * 0.001, crop, torch.ones(1, 1, HEIGHT, WIDTH))
    assert (black <= references * 0.001 * (1 + GAIN_LIMIT) + 1e-6).all()


def test_the_face_ends_at_its_oval() -> None:
    face = frontal_face()
    mask = face_oval(face)[0, 0]
    chin, top = face[0, 152], face[0, 10]
    at = lambda x, y: float(mask[int(y), int(x)])  # noqa: E731
    assert at(chin[0], chin[1] - 12) == 1 and at(chin[0], chin[1] + 3) == 0
    assert at(top[0], top[1] + 12) == 1 and at(top[0], top[1] - 3) == 0


def test_skin_that_both_faces_show_is_away_from_both_mouths() -> None:
    closed = frontal_face()
    opened = closed.clone()
    opened[0, landmark_set("lips_outer"), 1] += torch.where(closed[0, landmark_set("lips_outer"), 1] > 190, 20.0, 0.0)
    alone, both = shared_skin(closed, closed)[0, 0], shared_skin(closed, opened)[0, 0]
    chin, lip, cheek = closed[0, 152], closed[0, 17], closed[0, 50]
    at = lambda mask, point, down=0: float(mask[int(point[1]) + down, int(point[0])])  # noqa: E731
    assert at(alone, lip) == 0 and at(alone, chin, -13) == 1 and at(alone, chin, 3) == 0 and at(alone, cheek) == 1
    assert at(both, opened[0, 17]) == 0 and at(both, cheek) == 1 and (both <= alone).all()
    assert torch.equal(both, shared_skin(opened, closed)[0, 0])


def test_a_band_above_the_mouth_says_little_of_the_light_below_it() -> None:
    """Skin there that differs a little from row to row made chins grey: the gain is not drawn on to the chin."""
    crop, shown = picture(), skin(slice(0, 12))
    reference = crop * torch.where(torch.arange(HEIGHT) < 6, 0.93, 1.0)[:, None]
    lit = light_references(reference[:, None], crop, shown)[:, 0]
    assert (lit[..., 12:, :] / crop[..., 12:, :] - 1).abs().max() < 0.06
