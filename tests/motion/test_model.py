"""Parameter counts of the paper's Table 9, shapes, coordinates, and what the networks may and may not depend on."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from comfyui_mytalk.conformer import Attention, rotate
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.canonical import mouth_opening
from comfyui_mytalk.motion.identity import ArcFace, IdentityExtractor, resting_frames
from comfyui_mytalk.motion.model import MotionModel, Needs, check_needs
from comfyui_mytalk.motion.params import IDENTITY_PRESETS, PRESETS, IdentityParams, MotionParams

TINY = MotionParams(
    speech_in=6, speech_dim=8, speech_layers=1, speech_heads=2, speech_ffn=16, dim=16, layers=2, heads=2, ffn=16,
    identity_dim=4, frames=20, overlap=6,
)  # fmt: skip


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def paper() -> MotionModel:
    with torch.device("meta"):
        return MotionModel(PRESETS["paper"])


def test_audio_encoder_is_24_6_million(paper: MotionModel) -> None:
    encoder = paper.speech_encoder
    assert count(encoder) - count(encoder.downsample) == 24_599_040


def test_audio_downsample_is_786_thousand(paper: MotionModel) -> None:
    assert count(paper.speech_encoder.downsample) == 786_944


def test_conformer_backbone_is_188_million(paper: MotionModel) -> None:
    """With our 180 + 103 points, and with 200 + 211 of the paper's 411."""
    assert count(paper.denoiser) == 188_677_992
    with torch.device("meta"):
        assert count(MotionModel(replace(PRESETS["paper"], lower=200, upper=211)).denoiser) == 188_905_360


def test_identity_extractor_is_4_3_million_on_the_papers_669_points() -> None:
    with torch.device("meta"):
        assert count(IdentityExtractor(IdentityParams(points=669, coordinates=3, layers=5, dim=512))) == 4_298_240
        assert count(IdentityExtractor(IDENTITY_PRESETS["paper"])) == 3_097_344


def test_small_preset_ships() -> None:
    with torch.device("meta"):
        assert count(MotionModel(PRESETS["small"])) + count(IdentityExtractor(IDENTITY_PRESETS["small"])) < 8_000_000


@pytest.mark.parametrize("rotary", [False, True])
def test_shapes(rotary: bool) -> None:
    model = MotionModel(replace(TINY, rotary=rotary, components=5))
    speech = model.speech_encoder(torch.randn(2, 14, 6))
    upper = model.encode_upper(torch.randn(2, 7, 103, 2))
    x = model.encode(torch.randn(2, 7, 180, 2), torch.randn(2, 180, 2))
    out = model.denoiser(x, upper, torch.tensor([3, 900]), speech, torch.randn(2, 3, 4))
    assert speech.shape == (2, 7, 8)
    assert out.shape == x.shape == (2, 7, 5)
    assert model.decode(out, torch.randn(2, 180, 2)).shape == (2, 7, 180, 2)


def test_every_condition_reaches_the_output() -> None:
    torch.manual_seed(0)
    model = MotionModel(TINY).eval()
    given = {
        "x": torch.randn(1, 7, 360), "upper": torch.randn(1, 7, 206), "step": torch.tensor([10]),
        "speech": torch.randn(1, 7, 8), "identity": torch.randn(1, 3, 4),
    }  # fmt: skip
    before = model.denoiser(**given)
    for name, value in given.items():
        other = value + 500 if name == "step" else torch.randn_like(value)
        assert (model.denoiser(**{**given, name: other}) - before).abs().max() > 1e-3, name


def test_zero_init_starts_at_the_mean_face() -> None:
    model = MotionModel(replace(TINY, zero_init=True))
    torch.nn.init.zeros_(model.denoiser.out.bias)
    x = model.denoiser(
        torch.randn(1, 7, 360), torch.randn(1, 7, 206), torch.tensor([1]), torch.randn(1, 7, 8), torch.randn(1, 3, 4)
    )
    assert not x.any()


def test_rotary_attention_does_not_depend_on_the_place() -> None:
    torch.manual_seed(0)
    query, key = rotate(torch.randn(8).expand(1, 1, 9, 8)), rotate(torch.randn(8).expand(1, 1, 9, 8))
    score = (query @ key.mT)[0, 0]
    for offset in range(-8, 9):
        diagonal = score.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)
    assert score[0].std() > 1e-3


def test_attention_over_one_token_is_a_constant() -> None:
    """Why several reference frames are given: one token cannot be attended to, only added."""
    attention = Attention(8, 2, 0.0)
    mixed = attention(torch.randn(1, 5, 8), torch.randn(1, 1, 8))
    torch.testing.assert_close(mixed, mixed[:, :1].expand_as(mixed))


@pytest.mark.parametrize("relative", [False, True])
def test_decode_inverts_encode(relative: bool) -> None:
    model = MotionModel(replace(TINY, relative=relative))
    model.lower_mean.copy_(torch.randn(360))
    lower, rest = torch.randn(2, 5, 180, 2), torch.randn(2, 180, 2)
    torch.testing.assert_close(model.decode(model.encode(lower, rest), rest), lower)


def test_relative_motion_does_not_know_the_face_shape() -> None:
    model = MotionModel(replace(TINY, relative=True))
    lower, rest, shape = torch.randn(1, 5, 180, 2), torch.randn(1, 180, 2), torch.randn(180, 2)
    torch.testing.assert_close(
        model.encode(lower + shape, rest + shape), model.encode(lower, rest), atol=1e-5, rtol=1e-4
    )


def test_identity_is_a_unit_vector_and_arcface_has_a_margin() -> None:
    torch.manual_seed(0)
    embedding = IdentityExtractor(IdentityParams(width=16, dim=8))(torch.randn(4, 478, 3))
    torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(4))
    label = torch.arange(4)
    strict, loose = ArcFace(8, 4, margin=0.5), ArcFace(8, 4, margin=0.0)
    loose.load_state_dict(strict.state_dict())
    assert strict(embedding, label) > loose(embedding, label)


def test_arcface_does_not_reward_faces_opposite_to_every_class() -> None:
    head = ArcFace(8, 4)
    direction = torch.nn.functional.normalize(torch.randn(8), dim=0)
    head.weight.data = -direction.expand(4, 8).clone()
    assert head(direction.expand(6, 8), torch.zeros(6, dtype=torch.long)) > torch.tensor(4.0).log()


def test_resting_frames_are_closed_usable_and_spread() -> None:
    frames = 160
    canonical = torch.zeros(frames, 478, 3)
    canonical[:, 13, 1] = 1 + torch.arange(frames).mul(0.3).sin()
    usable = torch.ones(frames, dtype=torch.bool)
    usable[:40] = False
    chosen = resting_frames(canonical, usable, 8)
    assert len(chosen) == 8 and chosen.min() >= 40
    assert chosen.max() - chosen.min() > 60
    assert mouth_opening(canonical)[chosen].max() < mouth_opening(canonical)[40:].median()
    with pytest.raises(InputError, match="no usable face"):
        resting_frames(canonical, torch.zeros(frames, dtype=torch.bool))


def test_a_mouth_that_rests_is_still() -> None:
    canonical, usable = torch.zeros(20, 478, 3), torch.ones(20, dtype=torch.bool)
    canonical[:, 13, 1] = 1
    canonical[3:5, 13, 1] = torch.tensor([0.1, 0.0])  # it closes in passing
    canonical[13:16, 13, 1] = 0.2
    assert resting_frames(canonical, usable, 1).tolist() == [14]


def test_mismatched_networks_are_named() -> None:
    model = MotionModel(TINY, Needs("voice", "aaa", "who", "bbb"))
    speech = SimpleNamespace(name="voice", dim=6, sha256="aaa")
    identity = SimpleNamespace(params=IdentityParams(dim=4), sha256="bbb")
    check_needs(model, speech, identity)
    with pytest.raises(InputError, match="need speech features of voice.*got other"):
        check_needs(model, SimpleNamespace(name="other", dim=6, sha256="ccc"), identity)
    with pytest.raises(InputError, match="need the identity extractor who"):
        check_needs(model, speech, SimpleNamespace(params=IdentityParams(dim=4), sha256="ccc"))
