"""The audio-aware style reference: what it may depend on, whom it believes, and that training adds to a model only."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.canonical import canonical_face
from comfyui_mytalk.landmarks.sets import landmark_set, mirror_canonical
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion import reference
from comfyui_mytalk.motion.generate import MotionOptions, generate_motion
from comfyui_mytalk.motion.identity import IdentityExtractor
from comfyui_mytalk.motion.model import MotionModel
from comfyui_mytalk.motion.params import FPS, IdentityParams, MotionParams
from comfyui_mytalk.motion.reference import (
    SEVERAL,
    UNHEARD,
    UNKNOWN,
    UNWANTED,
    Seen,
    StyleReference,
    in_sync,
    memorise,
    remember,
    unheard_reference,
)
from comfyui_mytalk.motion.style import StyleAttention, StyleMemory
from comfyui_mytalk.training import style
from comfyui_mytalk.training.motion_data import Take
from comfyui_mytalk.training.motion_loss import MotionLoss
from comfyui_mytalk.training.run import Run
from comfyui_mytalk.training.style_data import APART, PIECE, StyleSampler, _places
from tests.synthetic_clips import talking_points

PARAMS = MotionParams(
    speech_in=6, speech_dim=8, speech_layers=1, speech_heads=2, speech_ffn=16, dim=16, layers=2, heads=2, ffn=16,
    identity_dim=4, frames=20, overlap=6, relative=True, components=5, rotary=True, style_heads=2,
)  # fmt: skip
LOWER, UPPER = landmark_set("generated"), landmark_set("prefix")
LIPS = (13, 14)


@pytest.fixture(scope="module")
def model() -> MotionModel:
    """Random, also where training starts from zero."""
    torch.manual_seed(0)
    model = MotionModel(PARAMS).eval()
    for block in model.denoiser.blocks:
        torch.nn.init.normal_(block.style.weight, std=0.5)
    return model


def memory(frames: int = 30, seed: int = 1) -> StyleMemory:
    draw = torch.Generator().manual_seed(seed)
    heard, shown = torch.randn(1, frames, 8, generator=draw), torch.randn(1, frames, 5, generator=draw)
    return StyleMemory(heard, shown, torch.ones(1, frames, dtype=torch.bool))


def generated(
    model: MotionModel, remembered: StyleMemory | None, strength: float = 1.0, guidance: float = 1.5
) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    rest = torch.randn(2, 180, 2, generator=draw)
    features, upper = torch.randn(60, 6, generator=draw), torch.randn(30, 103, 2, generator=draw)
    options = MotionOptions(steps=3, style_strength=strength, guidance=guidance)
    return generate_motion(model, features, upper, torch.zeros(1, 4), rest, options, memory=remembered)


def test_a_reference_changes_the_motion_as_far_as_it_is_wanted(model: MotionModel) -> None:
    plain, full = generated(model, None), generated(model, memory())
    assert (full - plain).abs().max() > 1e-3
    assert torch.equal(generated(model, memory(), strength=0.0), plain)
    assert not torch.equal(generated(model, memory(), strength=0.5), full)
    deaf = generated(model, memory(), guidance=0.0)
    assert torch.equal(deaf, generated(model, None, guidance=0.0)), "guidance leads away from what knows no style"


def test_places_in_the_reference_play_no_part_and_unknown_frames_none(model: MotionModel) -> None:
    known = memory()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(5))
    shuffled = StyleMemory(known.heard[:, order], known.shown[:, order], known.known)
    assert torch.allclose(generated(model, shuffled), generated(model, known), atol=1e-4)
    strange = memory(30, seed=9)
    both = StyleMemory(*(torch.cat(pair, 1) for pair in zip(known, strange, strict=True)))
    both.known[:, 30:] = False
    assert torch.allclose(generated(model, both), generated(model, known), atol=1e-4)
    nobody = StyleMemory(known.heard, known.shown, torch.zeros_like(known.known))
    assert torch.equal(generated(model, nobody), generated(model, None))


def test_lips_of_like_sounds_count_and_more_of_a_longer_clip() -> None:
    attention = StyleAttention(replace(PARAMS, speech_dim=16, components=16))
    for layer in (attention.ask, attention.show):
        layer.weight.data, layer.bias.data = torch.eye(16), torch.zeros(16)
    attention.sharpness.data.fill_(6.0)
    known = StyleMemory(torch.randn(1, 40, 16), torch.randn(1, 40, 16), torch.ones(1, 40, dtype=torch.bool))
    with torch.no_grad():
        found = attention(known.heard[:, 7:8], known)
        share = 40 / (40 + attention.enough.exp())
        assert torch.allclose(found[0, 0], share * known.shown[0, 7], atol=0.05)
        twice = StyleMemory(*(torch.cat([x, x], 1) for x in known))
        assert attention(known.heard[:, 7:8], twice).norm() > 1.2 * found.norm()


def clip(seconds: float = 4.0, late: int = 0) -> Seen:
    """A mouth that opens and closes as its speech's first feature says, `late` motion frames after it."""
    frames = round(seconds * FPS)
    wave = torch.randn(frames, generator=torch.Generator().manual_seed(2)).cumsum(0)
    wave = (wave - wave.mean()) / wave.std()
    face = canonical_face()[:, :2]
    face = torch.cat([face, face.new_zeros(10, 2)])
    rest = face[LOWER][None].clone()
    lower = rest.repeat(frames, 1, 1)
    lower[:, LIPS[1] == LOWER, 1] -= (1 + 0.3 * wave.roll(late))[:, None]
    return Seen(
        lower,
        face[UPPER].repeat(frames, 1, 1),
        rest,
        wave.repeat_interleave(2)[:, None].repeat(1, 6),
        torch.ones(frames) > 0,
    )


def hearing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model hears perfectly what a mouth does."""

    def mouths(model, features, upper, identity, rest, *more) -> Tensor:
        lower = rest.mean(0).repeat(len(upper), 1, 1)
        lower[:, LIPS[1] == LOWER, 1] -= (1 + 0.3 * features[::2, 0])[:, None]
        return lower

    monkeypatch.setattr(reference, "generate_motion", mouths)


@pytest.mark.parametrize("late", [0, 3, -2])
def test_sound_that_is_off_is_moved_to_where_it_fits(model, monkeypatch, late: int) -> None:
    hearing(monkeypatch)
    seen, sees = clip(late=late), deepcopy(model)
    sees.to_channels[:] = 0  # by itself it sees the first points alone, which stand still
    sees.to_channels[2 * LOWER.tolist().index(LIPS[1]) + 1] = 1
    assert in_sync(sees, seen, torch.zeros(1, 4))[0] == late
    shifted, straight = (memorise(sees, heard, torch.zeros(1, 4)).memory for heard in (seen, clip()))
    both = (shifted.known & straight.known)[0]
    assert straight.shown.std(1).min() > 0.1
    assert (~shifted.known).sum() == abs(late) and straight.known.all()
    assert torch.allclose(shifted.shown[0, both], straight.shown[0, both], atol=1e-5)


def test_the_upper_face_does_not_tell_what_the_mouth_does(model, monkeypatch) -> None:
    seen, given = clip(), []
    seen = seen._replace(upper=torch.randn(seen.upper.shape, generator=torch.Generator().manual_seed(4)))
    monkeypatch.setattr(reference, "generate_motion", lambda *told: given.append(told[2]) or seen.lower)
    in_sync(model, seen, torch.zeros(1, 4))
    assert torch.equal(given[0], seen.upper.flip(0)), "that of other moments"


def test_sound_that_the_lips_do_not_say_is_no_reference(model, monkeypatch) -> None:
    hearing(monkeypatch)
    seen = clip()
    strange = torch.randn(len(seen.features) // 2, 1, generator=torch.Generator().manual_seed(8))
    other = seen._replace(features=strange.repeat_interleave(2, 0).repeat(1, 6))
    refused = memorise(model, other, torch.zeros(1, 4))
    assert refused.memory is None and "something else than the clip's sound (correlation" in refused.why
    silent = seen._replace(features=torch.zeros_like(seen.features))
    assert memorise(model, silent, torch.zeros(1, 4)).memory is None
    assert "the lips say what the clip's sound says (correlation 1.00)" in memorise(model, seen, torch.zeros(1, 4)).why


def test_who_cannot_be_told_gives_no_reference(model) -> None:
    points, times = talking_points(80)
    track = FaceTrack(points, torch.ones(80) > 0, times, (256, 256))
    features, tokens = torch.zeros(160, 6), torch.zeros(1, 4)
    several = remember(model, track.replace(people=torch.arange(80) // 40), features, tokens)
    short = remember(model, track[:20], features[:40], tokens)
    assert several == StyleReference(None, "the clip shows several people")
    assert short == StyleReference(None, "the clip shows its face with sound for less than 1 s")


def test_a_clip_is_listened_to_only_where_that_is_of_use(model) -> None:
    points, times = talking_points(80)
    track = FaceTrack(points, torch.ones(80) > 0, times, (256, 256))
    assert unheard_reference(model, track, 1.0) is UNHEARD and unheard_reference(model, track, 0.0) is UNWANTED
    assert unheard_reference(MotionModel(replace(PARAMS, style_heads=0)), track, 1.0) is UNKNOWN
    assert unheard_reference(model, track.replace(people=torch.arange(80) // 40), 1.0) is SEVERAL


def take(name: str, frames: int, identity: str = "a") -> Take:
    draw = torch.Generator().manual_seed(len(name) + frames)
    landmarks = torch.randn(frames, 478, 2, generator=draw)
    landmarks[:, 0, 0] = torch.arange(frames)  # tells the frame
    return Take(name, identity, "own", landmarks, torch.randn(2 * frames, 6, generator=draw), torch.arange(4))


def test_references_lie_apart_from_what_they_are_for() -> None:
    used = (60, 90)
    for at in _places(take("x", 200), used):
        assert at + PIECE <= used[0] - APART or at >= used[1] + APART
    sampler = StyleSampler([take("x", 200), take("y", 40), take("z", 300, "b")], 100)
    counts = set()
    for step in range(20):
        batch, found = sampler.draw(np.random.default_rng(step))
        counts |= set(found.known.sum(1).tolist())
        assert batch.landmarks.shape[1] * len(batch.landmarks) <= 250 and found.lower.shape[3] == 180
        assert (found.features[~found.known] == 0).all()
    assert {1, 3, 6} <= counts


def test_clips_that_show_no_other_moment_are_refused() -> None:
    """All steps would be without a reference: minutes of training that change nothing."""
    alone = [take("x", 79), take("z", 60, "b"), take("z", 66, "b")]
    with pytest.raises(InputError, match=r"shorter than 3\.2 s, and the person's only one"):
        StyleSampler(alone, 100)
    for more in (take("y", 30), take("w", 80, "c")):
        StyleSampler([*alone, more], 100).draw(np.random.default_rng(0))


def test_references_are_mirrored_with_what_they_are_for() -> None:
    shape, rest = torch.rand(2, 478, 2, generator=torch.Generator().manual_seed(0))
    landmarks = shape.repeat(200, 1, 1)
    landmarks[:4] = rest
    talk, seen = Take("x", "a", "own", landmarks, torch.zeros(400, 6), torch.arange(4)), set()
    for step in range(4):
        batch, found = StyleSampler([talk], 100).draw(np.random.default_rng(step))
        for stretch, lower, known in zip(batch.landmarks, found.lower, found.known, strict=True):
            mirrored = not torch.equal(stretch[-1], shape)
            mine, own = (mirror_canonical(x) if mirrored else x for x in (shape, rest))
            wanted = (mine - own)[LOWER].expand(int(known.sum()), -1, -1)
            torch.testing.assert_close(lower[known, -1], wanted)
            seen.add(mirrored)
    assert seen == {True, False}


def test_some_stretches_are_shown_no_reference(model: MotionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the model goes without one too."""
    _, found = StyleSampler([take("x", 200)], 500).draw(np.random.default_rng(0))
    given, known = arguments(Path("-"), 1), {}
    for share in (0.0, 1.0):
        given.style_dropout = share
        monkeypatch.setattr(model.style, "forward", lambda _, memory, of=share: known.update({of: memory.known}))
        style.looked_up(model, found, given)(None)
    assert torch.equal(known[0.0], found.known.repeat_interleave(PIECE, 1)) and not known[1.0].any()


def arguments(folder: Path, steps: int) -> Namespace:
    parser = ArgumentParser()
    style.add_arguments(parser)
    given = ["--data", "-", "--run", str(folder), "--steps", str(steps), "--tokens", "60", "--device", "cpu"]
    return parser.parse_args([*given, "--save-every", "2", "--heads", "2"])


def test_training_adds_to_a_model_and_resumes_to_the_same_weights(tmp_path: Path, monkeypatch, one_thread) -> None:
    monkeypatch.setattr(Run, "rate", lambda *_: 1.0)
    torch.manual_seed(0)
    base = MotionModel(replace(PARAMS, style_heads=0)).eval()
    extractor = IdentityExtractor(IdentityParams(width=8, layers=1, dim=4))
    takes = [take("x", 200), take("y", 120), take("z", 150, "b")]
    whole = style.train(base, takes, extractor, arguments(tmp_path / "whole", 4))
    style.train(base, takes, extractor, arguments(tmp_path / "parts", 2))
    parts = style.train(base, takes, extractor, arguments(tmp_path / "parts", 4))
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name
        if "style" not in name:
            assert torch.equal(value, base.state_dict()[name]), name
    assert any(block.style.weight.abs().max() > 0 for block in whole.denoiser.blocks)
    assert torch.equal(generated(whole, None), generated(base, None))


@pytest.mark.parametrize(("before", "heads", "expected"), [(2, 4, "--start has 2"), (0, 3, "a divisor of .* width 16")])
def test_heads_that_cannot_be_are_refused_before_any_clip_is_read(
    tmp_path: Path, monkeypatch, before: int, heads: int, expected: str
) -> None:
    """Other heads than those of --start were ignored."""
    given = arguments(tmp_path, 1)
    given.heads, given.save = heads, tmp_path / "weights.safetensors"
    base = MotionModel(replace(PARAMS, style_heads=before))
    for name, result in (("load_motion", base), ("load_speech_encoder", None), ("load_identity", None)):
        monkeypatch.setattr(style, name, lambda *_, of=result: of)
    monkeypatch.setattr(style, "check_needs", lambda *_: None)
    with pytest.raises(InputError, match=f"got --heads {heads}, .*{expected}"):
        style.main(given)


def test_of_a_long_film_a_minute_is_looked_at(model, monkeypatch) -> None:
    monkeypatch.setattr(reference, "LONGEST", 50)
    looked = []
    monkeypatch.setattr(reference, "memorise", lambda model, seen, identity: looked.append(seen))
    points, times = talking_points(80)
    track = FaceTrack(points, torch.ones(80) > 0, times, (256, 256))
    remember(model, track, torch.zeros(160, 6), torch.zeros(1, 4))
    assert len(looked[0].lower) == len(looked[0].known) == 51 and looked[0].known.all()
    dark = track.replace(found=torch.arange(80) >= 30)
    remember(model, dark, torch.zeros(160, 6), torch.zeros(1, 4))
    assert len(looked) == 1, "too few faces in it"


def test_errors_count_more_where_lips_are_closed() -> None:
    given = arguments(Path("-"), 1)
    assert given.closure_weight > 0
    model = MotionModel(PARAMS)
    model.from_channels.normal_()
    loss = MotionLoss(model, IdentityExtractor(IdentityParams(width=8, layers=1, dim=4)), given)
    landmarks = torch.zeros(1, 4, 478, 2)
    landmarks[:, 2:, 14, 1] = 1.0  # open in the last two frames
    batch = SimpleNamespace(landmarks=landmarks)
    error = torch.zeros(1, 4, model.params.channels)
    error[:, 2:] = 1.0
    assert loss.closure_loss(error, batch) == 0
    error[:, 0] = 1.0
    assert loss.closure_loss(error, batch) > 0
    given.closure_weight = 0.0
    assert loss.closure_loss(error, batch) == 0
