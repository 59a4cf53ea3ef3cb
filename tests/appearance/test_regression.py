"""The regression: pictures that depend on landmarks alone are found again, whatever else it is told or not told."""

import pytest
import torch
from mouths import face

from comfyui_mytalk.appearance.bank import ReferenceBank, Schedule
from comfyui_mytalk.appearance.params import PRESETS
from comfyui_mytalk.appearance.regression import PictureRegression, hidden_share
from comfyui_mytalk.appearance.warp import align_references
from comfyui_mytalk.landmarks.canonical import canonical_face

OPENINGS = torch.linspace(0.1, 1.5, 9)
WANTED = (0.3, 0.75, 1.2)


def shade(opening: float) -> float:
    """Of a face that gets brighter as its mouth opens, not in proportion."""
    return 0.3 + 0.2 * opening**1.5


def crops(openings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Faces of one grey `(m, 3, 256, 256)` uint8, and their landmarks."""
    grey = torch.tensor([shade(float(opening)) for opening in openings])
    pictures = (grey * 255).round().byte()[:, None, None, None].expand(-1, 3, 256, 256)
    return pictures, torch.stack([face(float(opening)) for opening in openings])


@pytest.fixture(scope="module")
def regression() -> PictureRegression:
    return PictureRegression.of(*crops(OPENINGS))


def picture(regression: PictureRegression, opening: float, **options) -> torch.Tensor:
    return regression.picture(regression.weights(face(opening)[None], **options))[0]


@pytest.mark.parametrize("opening", WANTED)
def test_what_changes_with_the_mouth_is_predicted(regression, opening):
    found = picture(regression, opening)
    assert (found - shade(opening)).abs().max() < 0.03
    nearest = OPENINGS[(OPENINGS - opening).abs().argmin()]
    assert (picture(regression, float(nearest)) - found).abs().max() < 0.1


def test_shares_add_up_to_one_and_change_smoothly(regression):
    points = torch.stack([face(float(opening)) for opening in torch.linspace(0, 2, 81)])
    weights = regression.weights(points)
    torch.testing.assert_close(weights.sum(1), torch.ones(81))
    assert weights.diff(dim=0).abs().max() < 0.06, "a fortieth of a centimetre may not change the picture much"


def test_pictures_that_are_left_out_have_no_share(regression):
    usable = torch.tensor([[True, False] * 4 + [True]])
    weights = regression.weights(face(0.6)[None], usable)
    assert weights[~usable].abs().max() < 1e-4
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))


def test_pictures_are_moved_onto_an_open_mouth_of_a_head_that_is_not_turned():
    """Onto a turned head, which hides a cheek, though its mouth be the likeliest otherwise."""
    pictures, points = crops(OPENINGS)
    wanted = points[7].clone()
    assert torch.equal(PictureRegression.of(pictures, points).base, wanted)
    points[7, :, 0] = 128 + 0.5 * (points[7, :, 0] - 128)
    base = PictureRegression.of(pictures, points).base
    assert torch.equal(base, points[6]) or torch.equal(base, points[8])


def test_pictures_are_moved_onto_a_face_that_shows_both_cheeks_though_most_do_not():
    """Moved from a head in profile on to a face in front, what is behind the head came out as stripes on the cheek."""
    pictures, points = crops(OPENINGS)
    depth = torch.full((478,), 0.0)
    depth[:468] = 9 * canonical_face()[:, 2]
    angle = torch.tensor(75.0).deg2rad()
    turned = points.clone()
    turned[..., 0] = 128 + angle.cos() * (points[..., 0] - 128) + angle.sin() * depth
    points = torch.cat([turned[:6], points[6:]])
    shares = hidden_share(points)
    assert shares[:6].min() > 0.15 and shares[6:].max() < 0.05
    base = PictureRegression.of(pictures, points).base
    assert any(torch.equal(base, each) for each in points[6:])


def test_stretched_pictures_say_less():
    """Of two pictures equally far from the wanted mouth the one that is open already counts more."""
    regression = PictureRegression.of(*crops(torch.tensor([0.05, 1.95])))
    shut, wide = regression.weights(face(1.0)[None])[0]
    assert wide > shut + 0.05


def test_frames_do_not_depend_on_their_neighbours(regression):
    points = torch.stack([face(float(opening)) for opening in torch.linspace(0, 2, 150)])
    alone = torch.cat([regression.weights(part) for part in points.split(7)])
    torch.testing.assert_close(regression.weights(points), alone, atol=1e-6, rtol=0)


def test_one_picture_is_the_picture():
    pictures, points = crops(torch.tensor([0.4]))
    noise = torch.randint(0, 256, (1, 3, 256, 256), generator=torch.Generator().manual_seed(0)).byte()
    regression = PictureRegression.of(noise, points)
    assert torch.equal(picture(regression, 1.0), noise[0] / 255)


def bank() -> ReferenceBank:
    pictures, points = crops(OPENINGS)
    return ReferenceBank(pictures, points, OPENINGS, torch.arange(len(OPENINGS)))


def test_the_first_reference_is_the_regression_and_the_others_are_near():
    params = PRESETS["small"]
    pictures = bank()
    schedule = pictures.schedule(face(0.75)[None].expand(4, -1, -1), params)
    references = pictures.gather(schedule[1:3])
    assert references.images.shape == (2, params.references, 3, 256, 256)
    assert (OPENINGS[schedule.index[0]] - 0.75).abs().max() < 0.4
    moved = align_references(references.images, references.points, face(0.75)[None].expand(2, -1, -1))
    assert (moved[:, 0] - shade(0.75)).abs().max() < 0.03
    assert torch.equal(pictures.gather(Schedule(schedule.index[1:3])).images, references.images[:, 1:])


def test_a_bank_smaller_than_the_references_repeats_itself():
    whole = bank()
    one = ReferenceBank(whole.crops[:1], whole.points[:1], whole.opening[:1], whole.frames[:1])
    references = one.gather(one.schedule(face(0.5)[None], PRESETS["small"]))
    assert len(references.images[0]) == PRESETS["small"].references
    assert (references.images[0] == references.images[0, 0]).all()


def test_of_two_pictures_the_nearer_is_the_first():
    whole, ends = bank(), torch.tensor([0, len(OPENINGS) - 1])
    two = ReferenceBank(whole.crops[ends], whole.points[ends], whole.opening[ends], whole.frames[ends])
    wanted = torch.stack([face(float(OPENINGS[end])) for end in ends])
    assert two.schedule(wanted, PRESETS["small"]).index.tolist() == [[0, 1, 0], [1, 0, 1]]
