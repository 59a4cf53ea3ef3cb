"""The appearance networks: the paper's sizes, the small preset's cost, and what the forward pass promises."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from comfyui_mytalk.appearance.discriminator import PatchDiscriminator
from comfyui_mytalk.appearance.layers import blur
from comfyui_mytalk.appearance.model import AppearanceModel, Posterior, model_config, params_from_config
from comfyui_mytalk.appearance.params import PRESETS
from comfyui_mytalk.errors import InputError

# Table 9 of the paper, read with the rounding of PyTorch Lightning's model summary (docs/models.md).
PAPER_COUNTS = {
    "lip_encoder": 237_999_878,
    "nonlip_encoder": 237_999_878,
    "landmark_encoder": 237_999_878,
    "fusion": 4_794_630,
    "quant_appearance": 42,
    "quant_landmark": 42,
    "quant": 21,
    "post_quant": 12,
    "decoder": 280_452_611,
}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("name", "expected"), PAPER_COUNTS.items())
def test_paper_preset_has_the_papers_parameter_counts(name, expected):
    with torch.device("meta"):
        model = AppearanceModel(PRESETS["paper"])
    assert count(getattr(model, name)) == expected


def test_discriminator_is_the_three_layer_patch_gan():
    with torch.device("meta"):
        assert count(PatchDiscriminator()) == 2_765_633


@pytest.fixture(scope="module")
def small() -> AppearanceModel:
    torch.manual_seed(0)
    return AppearanceModel(PRESETS["small"]).eval()


def pictures(seed: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    top, bottom, left, right = PRESETS["small"].window
    shape = (bottom - top, right - left)
    return tuple(torch.rand(batch, *n, *shape, generator=generator) for n in ((3,), (3,), (3, 3)))


def test_an_untrained_refinement_changes_no_picture(small):
    plain = AppearanceModel(replace(PRESETS["small"], refine=False)).eval()
    plain.load_state_dict({k: v for k, v in small.state_dict().items() if not k.startswith("refine.")})
    given = pictures(0)
    torch.testing.assert_close(small(*given), plain(*given), atol=2e-5, rtol=0)


def test_what_is_finer_than_the_network_paints_is_that_of_the_nearest_mouth(small):
    """The first reference is the regression, which is soft; the second is the nearest mouth's picture."""
    plain = AppearanceModel(replace(PRESETS["small"], detail=0.0)).eval()
    plain.load_state_dict(small.state_dict())
    given = pictures(4)
    with torch.no_grad():
        coarse, picture = plain.generate(*given)[0], small.generate(*given)[0]
    near, sigma = given[2][:, 1], PRESETS["small"].detail
    torch.testing.assert_close(picture, near + blur(coarse, sigma) - blur(near, sigma), atol=1e-5, rtol=0)


def test_blur_is_a_gaussian():
    spot = torch.zeros(1, 2, 41, 41)
    spot[..., 20, 20] = 1
    spread = blur(spot, 2.5)
    at = torch.arange(41.0) - 20
    torch.testing.assert_close(spread.sum((2, 3)), torch.ones(1, 2))
    variance = (spread.sum(2) * at.square()).sum(-1)
    assert (variance.sqrt() - 2.5).abs().max() < 0.05
    torch.testing.assert_close(blur(torch.full((1, 1, 9, 9), 0.3), 1.0), torch.full((1, 1, 9, 9), 0.3))


def test_small_preset_costs_at_most_40_gflop_per_frame(small):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        small(*pictures(0, batch=1))
    assert counter.get_total_flops() <= 40e9


def test_output_is_a_picture_and_does_not_depend_on_the_batch(small):
    inputs = pictures(1)
    with torch.no_grad():
        both = small(*inputs)
        one = small(*(tensor[1:] for tensor in inputs))
    assert both.shape == inputs[0].shape
    assert both.min() >= 0 and both.max() <= 1
    torch.testing.assert_close(both[1:], one, atol=2e-5, rtol=0)


@pytest.mark.parametrize("changed", range(3), ids=["masked", "landmarks", "references"])
def test_every_input_reaches_the_output(small, changed):
    inputs = list(pictures(2, batch=1))
    with torch.no_grad():
        before = small(*inputs)
        inputs[changed] = 1 - inputs[changed]
        assert (small(*inputs) - before).abs().max() > 1e-3


def test_wrong_number_of_references_is_named(small):
    masked, landmarks, references = pictures(3)
    with pytest.raises(InputError, match="got 2 references, expected 3"):
        small(masked, landmarks, references[:, :2])


def test_config_round_trip():
    for params in PRESETS.values():
        assert params_from_config(model_config(params)) == params


def test_kl_of_the_standard_normal_is_zero():
    assert Posterior.from_moments(torch.zeros(2, 6, 4, 4)).kl() == 0
    assert Posterior.from_moments(torch.ones(2, 6, 4, 4)).kl() > 0
