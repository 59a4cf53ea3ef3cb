"""The appearance networks: the paper's sizes, the small preset's cost, and what the forward pass promises."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from comfyui_mytalk.appearance.discriminator import PatchDiscriminator
from comfyui_mytalk.appearance.layers import blur
from comfyui_mytalk.appearance.model import AppearanceModel, Posterior, held, model_config, within
from comfyui_mytalk.appearance.params import PRESETS, AppearanceParams
from comfyui_mytalk.checkpoints import params_from
from comfyui_mytalk.errors import InputError

# Nothing limits what the network paints.
FREE = replace(PRESETS["small"], detail=0.0, detail_choice=False, sharpen=0.0, bound=0.0, hold=0.0, reach=0.0)

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
    shape, shown = (bottom - top, right - left), PRESETS["small"].references
    return tuple(torch.rand(batch, *n, *shape, generator=generator) for n in ((3,), (3,), (shown, 3)))


def test_an_untrained_refinement_changes_no_picture(small):
    plain = AppearanceModel(
        replace(PRESETS["small"], refine=False, detail=0.0, detail_choice=False, bound=0.0, hold=0.0)
    ).eval()
    plain.load_state_dict({k: v for k, v in small.state_dict().items() if not k.startswith("refine.")})
    refined = AppearanceModel(FREE).eval()
    refined.load_state_dict({k: v for k, v in small.state_dict().items() if not k.startswith("refine.detail.")})
    given = pictures(0)
    torch.testing.assert_close(refined(*given), plain(*given), atol=2e-5, rtol=0)


def test_what_is_finer_than_the_network_paints_is_that_of_the_nearest_mouth(small):
    """The first reference is the regression, which is soft; the second is the nearest mouth's picture."""
    coarse, picture, given = with_detail(small, None)
    near, sigma = given[2][:, 1], PRESETS["small"].detail
    torch.testing.assert_close(picture, near + blur(coarse, sigma) - blur(near, sigma), atol=1e-5, rtol=0)


def with_detail(small: AppearanceModel, bias: list[float] | None) -> tuple[torch.Tensor, torch.Tensor, tuple]:
    """The picture without fine detail of the film, the one with it, and the inputs; `bias` chooses its source."""
    state = {k: v for k, v in small.state_dict().items() if not k.startswith("refine.detail.")}
    plain = AppearanceModel(FREE).eval()
    plain.load_state_dict(state)
    model = AppearanceModel(
        replace(PRESETS["small"], detail_choice=bias is not None, sharpen=0.0, bound=0.0, hold=0.0)
    ).eval()
    model.load_state_dict(state, strict=False)
    if bias is not None:
        model.refine.detail.bias.data = torch.tensor(bias)
    given = pictures(4)
    with torch.no_grad():
        return plain.generate(*given)[0], model.generate(*given)[0], given


def test_fine_detail_is_laid_on_stronger_and_the_rest_is_not(small):
    _, picture, given = with_detail(small, [25.0, -25.0, -25.0])
    model = AppearanceModel(replace(PRESETS["small"], sharpen=0.2, bound=0.0, hold=0.0)).eval()
    model.load_state_dict(small.state_dict())
    model.refine.detail.bias.data = torch.tensor([25.0, -25.0, -25.0])
    with torch.no_grad():
        sharper = model.generate(*given)[0]
    torch.testing.assert_close(sharper, picture + 0.2 * (picture - blur(picture, 1.0)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_the_source_of_fine_detail_can_be_chosen(small, chosen):
    """Any of the mouths shown, but not the regression, which comes first."""
    coarse, picture, given = with_detail(small, [50.0 * (i == chosen) - 25 for i in range(3)])
    source, sigma = given[2][:, 1 + chosen], PRESETS["small"].detail
    torch.testing.assert_close(picture, source + blur(coarse, sigma) - blur(source, sigma), atol=1e-5, rtol=0)


def test_pictures_stay_near_what_the_references_show(small):
    """Untrained colours are anything; within the bound of some reference they are not, except where all are hidden."""
    masked, landmarks, references = pictures(5)
    references = 0.4 + 0.2 * references
    references[..., :20, :] = 0
    wild = AppearanceModel(FREE).eval()
    state = {k: v for k, v in small.state_dict().items() if not k.startswith("refine.detail.")}
    state["refine.colour.bias"] = torch.full_like(state["refine.colour.bias"], -0.5)
    wild.load_state_dict(state)
    free = wild.generate(masked, landmarks, references)[0]
    bounded = within(free, references, 0.05)
    assert (free < 0.3).float().mean() > 0.5
    assert bounded[..., 20:, :].min() > 0.35 - 1e-6 and bounded[..., 20:, :].max() < 0.65 + 1e-6
    assert torch.equal(bounded[..., :20, :], free[..., :20, :])
    tame = AppearanceModel(replace(wild.params, bound=0.05)).eval()
    tame.load_state_dict(state)
    torch.testing.assert_close(tame.generate(masked, landmarks, references)[0], bounded)


def test_broad_differences_from_the_regression_are_limited_and_edges_are_not():
    """A blot where the regression is dark goes; a line that is a pixel off stays."""
    regression = torch.full((1, 3, 48, 48), 0.1)
    blot, line = regression.clone(), regression.clone()
    blot[..., 8:40, 8:40] = 0.6
    line[..., 24, :] = 0.2
    assert (held(blot, regression, 0.05)[..., 16:32, 16:32] - 0.15).abs().max() < 0.01
    torch.testing.assert_close(held(line, regression, 0.05), line)


def test_the_broad_look_is_the_regressions_even_when_the_network_moves_it(small):
    masked, landmarks, references = pictures(5)
    references = references * 0.1
    references[..., :40, :] += 0.8
    model = AppearanceModel(replace(FREE, hold=0.05)).eval()
    state = {k: v for k, v in small.state_dict().items() if not k.startswith("refine.detail.")}
    state["refine.flow.bias"] = torch.full_like(state["refine.flow.bias"], -30.0)  # the light part over the dark one
    model.load_state_dict(state)
    free = AppearanceModel(FREE).eval()
    free.load_state_dict(state)
    with torch.no_grad():
        strays, stays = (m.generate(masked, landmarks, references)[0] for m in (free, model))
    dark = (Ellipsis, slice(46, 64), slice(40, 100))
    assert (blur(strays - references[:, 0], 2.0)[dark]).abs().max() > 0.2
    assert (blur(stays - references[:, 0], 2.0)[dark]).abs().max() < 0.1


def test_references_are_moved_no_farther_than_they_may(small):
    features = torch.randn(1, 64, 4, 5)
    reach = small.params.reach
    assert reach > 0
    small.refine.flow.bias.data.copy_(reach * torch.tensor([-4.5, 4.5, 0.5, 0.0, 1.25, -0.25, 0.75, -2.0]))
    flow, _ = small.refine(features)
    small.refine.flow.bias.data.zero_()
    found = (flow / reach).mean((0, 3, 4)).flatten().tolist()
    assert found == pytest.approx([-1.0, 1.0, 0.5, 0.0, 1.0, -0.25, 0.75, -1.0])


def test_before_training_nearly_all_fine_detail_is_the_nearest_mouths(small):
    shares = small.refine.detail_shares(torch.randn(1, 64, 4, 5))
    assert shares.shape == (1, 3, 16, 20)
    assert 0.94 < shares[:, 0].min() < 1
    torch.testing.assert_close(shares.sum(1), torch.ones(1, 16, 20))


def test_pictures_keep_their_precision_when_layers_run_in_less(small):
    """What the film shows comes through as finely as it went in: shades of 1/512, which bfloat16 has not."""
    masked, landmarks, references = pictures(6)
    rough = copy.deepcopy(small).bfloat16()
    rough.params = replace(rough.params, hold=0.0, sharpen=0.0)
    rough.decoder.conv_out.bias.data[-(rough.params.patch**2) :] = 100.0  # all of the last reference
    rough.refine.detail.bias.data.copy_(torch.tensor([-50.0, -50.0, 50.0]))
    with torch.no_grad():
        shown = rough(masked, landmarks, references)
    assert shown.dtype == torch.float32
    assert (shown - references[:, -1]).abs().max() < 1e-3


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
    with pytest.raises(InputError, match="got 2 references, expected 4"):
        small(masked, landmarks, references[:, :2])


def test_config_round_trip():
    for params in PRESETS.values():
        assert params_from(AppearanceParams, model_config(params)) == params


def test_kl_of_the_standard_normal_is_zero():
    assert Posterior.from_moments(torch.zeros(2, 6, 4, 4)).kl() == 0
    assert Posterior.from_moments(torch.ones(2, 6, 4, 4)).kl() > 0
