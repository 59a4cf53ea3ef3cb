import pytest
import torch
import torch.nn.functional as F

from comfyui_mytalk.appearance.references import (
    canonical_opening,
    reference_bank,
    reference_features,
    retrieve_references,
    sharpness,
)
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.canonical import canonical_face


def talking(frames: int = 200, seed: int = 0) -> torch.Tensor:
    """Features `(f, 3)` of somebody talking, cm; the first is the opening."""
    noise = torch.randn(frames, 3, generator=torch.Generator().manual_seed(seed))
    time = torch.arange(frames)
    waves = torch.stack([(time / 4).sin() + 1, (time / 9).cos() * 0.4 + 5, (time / 7).sin() * 0.2 + 1], -1)
    return waves + 0.02 * noise


def test_openings_are_centimetres():
    points = F.pad(canonical_face(), (0, 0, 0, 10))[None].repeat(2, 1, 1)
    points[1, 14, 1] -= 1.0
    closed, opened = canonical_opening(points)
    assert (opened - closed).item() == pytest.approx(1.0, abs=0.1)


def test_sharpness_falls_with_blur_and_ignores_brightness_and_type():
    crop = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(crop, 3, 1, 1)
    assert sharpness(blurred) < 0.5 * sharpness(crop)
    assert torch.allclose(sharpness(crop * 0.5 + 0.1), sharpness(crop), rtol=1e-3)
    assert torch.allclose(sharpness((crop * 255).byte()), sharpness(crop), rtol=1e-2)


def test_the_bank_spreads_over_the_clip():
    features = torch.cat([talking(400), torch.linspace(-0.6, 0.6, 400)[:, None]], 1)
    usable = torch.ones(400, dtype=torch.bool)
    usable[100:120] = False
    sharp = torch.rand(400, generator=torch.Generator().manual_seed(1))
    bank = reference_bank(features, features[:, 0], sharp, usable, size=24)
    assert len(bank) == 24 == len(bank.unique())
    assert usable[bank].all()
    assert torch.cdist(features, features[bank]).min(1).values.max() < 0.5
    assert torch.cdist(features, features[:24]).min(1).values.max() > 0.8


def test_a_bank_needs_a_frame_with_a_face():
    with pytest.raises(InputError, match="face"):
        reference_bank(talking(), talking()[:, 0], torch.ones(200), torch.zeros(200, dtype=torch.bool))


def test_no_frame_is_left_out_as_blurred_where_all_are_equally_sharp():
    shape, sharp = talking(), torch.ones(200)
    assert reference_bank(shape, shape[:, 0], sharp, sharp > 0, size=200).tolist() == list(range(200))


def test_retrieval_finds_the_frame_itself_when_switching_is_free():
    shape = talking(40)
    assert retrieve_references(shape, shape, smooth=0.0)[:, 0].tolist() == list(range(40))


def test_retrieval_does_not_flicker_between_near_equals():
    bank = torch.tensor([[0.5, 5.0, 1.0], [0.6, 5.0, 1.0], [2.0, 5.0, 1.0]])
    noise = 0.01 * torch.randn(100, generator=torch.Generator().manual_seed(0))
    shape = torch.tensor([[0.55, 5.0, 1.0]]).repeat(100, 1)
    shape[:, 0] += noise
    shape[50:, 0] += 1.4  # the mouth opens: that switch must happen
    free, calm = (retrieve_references(bank, shape, 1, smooth)[:, 0] for smooth in (0.0, 0.03))
    assert (free.diff() != 0).sum() > 10
    assert (calm.diff() != 0).sum() == 1
    assert (calm[50:] == 2).all()


def test_the_slots_of_a_frame_differ():
    shape = talking()
    found = retrieve_references(shape[::5], shape)
    assert found.shape == (200, 3)
    assert all(len(set(row)) == 3 for row in found.tolist())


def test_features_are_centimetres_of_lip_movement_in_any_crop():
    points = 256 * torch.rand(2, 478, 2, generator=torch.Generator().manual_seed(0))
    points[1] = points[0] + points.new_tensor([3.0, -4.0])  # pixels; a crop of 256 shows 19 cm
    for scale in (1, 0.5):
        features = reference_features(points * scale, round(256 * scale))
        assert (features[0] - features[1]).norm().item() == pytest.approx(5 * 19 / 256, rel=1e-4)
    opened = points[:1].clone()
    opened[:, 14, 1] += 10
    assert not torch.equal(reference_features(opened), reference_features(points[:1]))


def test_a_portrait_is_its_own_bank():
    bank = reference_bank(talking(1), torch.zeros(1), torch.ones(1), torch.ones(1, dtype=torch.bool))
    assert bank.tolist() == [0]
    assert retrieve_references(talking(1), talking(20)).eq(0).all()
