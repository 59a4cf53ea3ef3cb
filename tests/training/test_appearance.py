"""The appearance trainer on a tiny synthetic set: it learns, resumes exactly, and never shows the answer."""

from __future__ import annotations

import csv
import json
import pickle
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.utils.data import DataLoader

from comfyui_mytalk.appearance.blend import RING_OUTSIDE
from comfyui_mytalk.appearance.layers import ResnetBlock, blur
from comfyui_mytalk.appearance.mask import dilate
from comfyui_mytalk.appearance.model import AppearanceModel, load_appearance, model_config
from comfyui_mytalk.appearance.params import AppearanceParams
from comfyui_mytalk.appearance.references import FIXED, reference_features
from comfyui_mytalk.appearance.render import window_mask
from comfyui_mytalk.checkpoints import save_checkpoint
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.pictures import ssim
from comfyui_mytalk.landmarks.canonical import mouth_opening
from comfyui_mytalk.training import appearance, appearance_gan, appearance_start, appearance_stream
from comfyui_mytalk.training.appearance_data import (
    DRIFT,
    NOISE,
    ClipView,
    allowed_references,
    choose,
    cut_sample,
    draw_raw,
    draw_references,
    landmark_noise,
    make_sample,
)
from comfyui_mytalk.training.appearance_gan import Trainer
from comfyui_mytalk.training.appearance_losses import (
    fidelity_loss,
    painted,
    reconstruction_loss,
    structure_loss,
    texture_loss,
)
from comfyui_mytalk.training.appearance_start import start_from
from comfyui_mytalk.training.appearance_stream import SampleStream, view_bytes
from comfyui_mytalk.training.appearance_validation import validation_samples
from comfyui_mytalk.training.clips import read_clip, read_clips
from comfyui_mytalk.training.loop import step_rng
from comfyui_mytalk.training.state import load_state
from tests.synthetic_clips import SIDE, write_clip, write_clips

TINY = AppearanceParams(
    size=64, channels=32, multipliers=(1, 1), encoder_blocks=1, decoder_blocks=1, latent=4, attention=False,
    fusion_channels=32, fusion_blocks=1, normalise=False, patch=4, aligned=True, skips=True, blend=True,
)  # fmt: skip
LIT = replace(TINY, relight=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("prepared"), identities=2, takes=1, frames=40)


def arguments(data: Path, run: Path, *options: str) -> Namespace:
    parser = ArgumentParser()
    appearance.add_arguments(parser)
    fixed = ("--data", str(data), "--run", str(run), "--save", str(run / "weights.safetensors"), "--batch", "2")
    return parser.parse_args([*fixed, *options])


def train(data: Path, run: Path, *options: str) -> AppearanceModel:
    args = arguments(data, run, "--preset", "tiny", "--validate-every", "3", "--gan-from", "0.5", *options)
    appearance.main(args)
    return load_appearance(str(run / "weights.safetensors"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(appearance.PRESETS, "tiny", TINY)
    monkeypatch.setattr(appearance, "validate", lambda model, clips: {"val_psnr": 0.0})
    monkeypatch.setattr(appearance, "save_sheet", lambda *_: None)


def test_resuming_gives_the_weights_of_an_uninterrupted_run(data, tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(appearance_gan, "anneal", lambda *_: 1.0)
    whole = train(data, tmp_path / "whole", "--steps", "6")
    train(data, tmp_path / "parts", "--steps", "4", "--gan-from", "0.75")  # from the same step on
    kept = load_state(tmp_path / "parts" / "state.safetensors")
    assert kept["discriminator"] and kept["discriminator_optimizer"]["state"], "it has learnt as well"
    parts = train(data, tmp_path / "parts", "--steps", "6", "--allow-changes")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, atol=1e-6, rtol=0, msg=name)


def test_training_lowers_the_error(data):
    args = arguments(data, data / "none", "--preset", "tiny", "--gan-from", "2", "--steps", "60", "--rate", "2e-3")
    torch.manual_seed(0)
    trainer = Trainer(TINY, args)
    stream = iter(SampleStream(read_clips(data, "train"), TINY, 4, seed=0))
    errors = [float(trainer.step(step, next(stream))["reconstruction"]) for step in range(60)]
    assert np.mean(errors[-10:]) < 0.7 * np.mean(errors[:5])


def test_every_loss_counts_as_much_as_it_is_told(data, monkeypatch):
    sample, lowered, divergence = next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0))), [], []
    monkeypatch.setattr(appearance_gan, "descend", lambda loss, *_: lowered.append(float(loss.detach())))
    names = ("texture", "fidelity", "structure", "kl")
    weights = [word for name, weight in zip(names, "2357", strict=True) for word in (f"--{name}-weight", weight)]

    def step(*options: str) -> dict[str, float]:
        torch.manual_seed(0)
        trainer = Trainer(TINY, arguments(data, data / "none", "--precision", "float32", *weights, *options))
        generate = trainer.model.generate
        monkeypatch.setattr(
            trainer.model, "generate", lambda *x, **how: divergence.append(generate(*x, **how)) or divergence[-1]
        )
        torch.nn.init.constant_(trainer.discriminator.out.bias, 50.0)  # it takes all pictures for real
        return {name: float(value) for name, value in trainer.step(0, sample).items()}

    without = step("--gan-from", "2")
    kl = divergence[0][1].item()
    told = without["reconstruction"] + 2 * without["texture"] + 3 * without["fidelity"] + 5 * without["structure"]
    assert kl > 0 and lowered == [pytest.approx(told + 7 * kl, rel=1e-4)]
    fooled = step("--gan-from", "0", "--matching-weight", "0")["gan"]
    matched = step("--gan-from", "0", "--gan-weight", "0")["gan"]
    assert fooled < 0 < matched, "what is taken for real costs less; features that differ cost more"
    assert step("--gan-from", "0", "--gan-weight", "0", "--matching-weight", "8")["gan"] == pytest.approx(2 * matched)
    assert len(lowered) == 7 and lowered[1] == pytest.approx(told + 7 * kl + fooled, rel=1e-4)


def test_the_precision_is_the_one_asked_for(data):
    sample, losses = next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0))), []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        trainer = Trainer(TINY, arguments(data, data / "none", "--precision", precision, "--gan-from", "2"))
        kinds = []
        trainer.model.decoder.conv_out.register_forward_hook(lambda _, __, made, kinds=kinds: kinds.append(made.dtype))
        losses.append(float(trainer.step(0, sample)["reconstruction"]))
        assert kinds == [getattr(torch, precision)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]


def test_workers_take_turns_and_make_what_one_would(data):
    stream = SampleStream(read_clips(data, "train"), TINY, 2, seed=3)
    alone = list(islice(stream, 3))
    pickle.dumps(stream)  # systems that start workers anew send it to them
    together = islice(DataLoader(SampleStream(stream.clips, TINY, 2, seed=3), None, num_workers=2), 3)
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.tensors(), other.tensors(), strict=True))


@pytest.fixture
def many(tmp_path, monkeypatch) -> SampleStream:
    """A stream of more clips than it may hold views of."""
    monkeypatch.setattr(appearance_stream, "FEWEST_HELD", 3)
    monkeypatch.setattr(appearance_stream, "VISIT", 4)
    monkeypatch.setattr(SampleStream, "held_bytes", 1.0)
    clips = read_clips(write_clips(tmp_path / "many", identities=4, takes=2, frames=20), "train")
    return SampleStream(clips, TINY, 2, seed=3)


def test_no_more_views_are_held_than_may_be_and_yet_every_clip_comes(many):
    seen = set()
    for step in range(60):
        drawn = list(many.draw(step, step_rng(3, step)))
        seen |= {clip for clip, _, _ in drawn}
        assert all(view.clip is many.clips[clip] for clip, view, _ in drawn) and len(many.views) <= 3
    assert seen == set(range(len(many.clips)))
    kept = [view.clip for _, _, view in many.views.values()]
    assert all(clip in kept or "pose" not in vars(clip) for clip in many.clips), "what went away left nothing behind"


def test_places_change_hands_one_after_the_other(many):
    """Else the network would wait for all views at once; and samples of a clip are as many as its view is worth."""
    turns = [[many.view(place, step) and many.views[place][0] for place in range(3)] for step in range(40)]
    changes = np.abs(np.diff(turns, axis=0))
    assert changes.sum(1).max() == 1
    assert changes.sum() == pytest.approx(40 * many.batch / appearance_stream.VISIT, abs=3)


def test_places_are_taken_by_weight(many):
    many.weight = np.array([0.5, 0.3, 0.2] + 5 * [0.0])
    visitors = [many._visitor(place, turn) for place in range(20) for turn in range(50)]
    np.testing.assert_allclose(np.bincount(visitors, minlength=8) / 1000, many.weight, atol=0.05)


def test_streams_of_many_clips_can_be_resumed_and_shared_out(many):
    whole = list(islice(many, 12))
    pickle.dumps(many)
    again = next(iter(SampleStream(many.clips, TINY, 2, seed=3, start=9)))
    together = islice(DataLoader(SampleStream(many.clips, TINY, 2, seed=3), None, num_workers=2), 12)
    for one, other in [(whole[9], again), *zip(whole, together, strict=True)]:
        assert all(torch.equal(a, b) for a, b in zip(one.tensors(), other.tensors(), strict=True))


def test_sets_that_fit_are_drawn_from_as_a_whole(data):
    stream = SampleStream(read_clips(data, "train"), appearance.design(TINY, "regression"), 8, seed=0)
    rng, wanted = step_rng(0, 5), step_rng(0, 5)
    for clip, view, frame in stream.draw(5, rng):
        assert clip == wanted.choice(len(stream.clips), p=stream.weight) and view is stream.view(clip, 77)[1]
        assert frame == wanted.choice(view.frames)
    size = view_bytes(stream.clips[0], True)
    view, pictures = stream.view(0)[1], 40 * 3 * SIDE**2
    view.know(view.frames)
    assert view.regression.pictures.nbytes == pictures
    assert size - pictures >= view.points.nbytes + view.opening.nbytes


def test_clips_of_which_none_can_be_trained_on_are_named(tmp_path):
    short = read_clip(write_clip(tmp_path, "train", 0, 0, frames=12))
    faceless = read_clip(write_clip(tmp_path, "train", 1, 0, frames=40))
    faceless.found[:] = False
    brief = read_clip(write_clip(tmp_path, "train", 2, 0, frames=40))
    brief.found[12:] = False
    with pytest.raises(InputError, match="no clip to train on: each of the 3"):
        SampleStream([short, faceless, brief], TINY, 2, seed=0)
    brief.found[12] = True
    view, params = ClipView(SampleStream([brief], TINY, 2, seed=0).clips[0]), appearance.design(TINY, "regression")
    assert all(len(allowed_references(view, frame)) for frame in view.frames)
    assert choose(view, 6, params, np.random.default_rng(0))[1].tolist() in ([0], [12], [0, 12])


@pytest.mark.parametrize(("fps", "frames"), [(25.0, 6), (24.0, 6), (60.0, 14), (15.0, 4), (1.0, 1)])
def test_references_keep_their_distance_in_time(fps, frames, tmp_path):
    """Frames that lie closer together in time look more alike: films of 60 a second gave the answer away."""
    view = ClipView(read_clip(write_clip(tmp_path, "train", 0, 0, frames=40, fps=fps)))
    assert view.gap == frames
    assert np.abs(allowed_references(view, 20) - 20).min() == frames


def test_the_last_step_is_validated_once_and_a_run_that_is_over_stays_over(data, tmp_path):
    train(data, tmp_path, "--steps", "3")
    with open(tmp_path / "log.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file) if row["val_psnr"]] == ["2"]
    (tmp_path / "weights.safetensors").unlink()
    train(data, tmp_path, "--steps", "3")
    with safe_open(tmp_path / "state.safetensors", "pt") as file:
        assert json.loads(file.metadata()["tree"])["dict"]["step"] == 3


def test_references_keep_their_distance_from_the_target(data):
    view = ClipView(read_clips(data, "train")[0])
    for frame in (0, 17, 39):
        for seed in range(20):
            rng = np.random.default_rng(seed)
            chosen = draw_references(view, frame, allowed_references(view, frame), 3, rng)
            assert min(abs(i - frame) for i in chosen) >= view.gap
            assert view.opening[chosen].diff().min() >= 0, "references are in order of opening"


def test_a_regression_is_told_nothing_near_the_target(data):
    view, params = ClipView(read_clips(data, "train")[0]), appearance.design(TINY, "regression")
    for frame in (0, 17, 39):
        for seed in range(20):
            told = {}
            view.raw = lambda _, near, allowed, told=told: told.update(near=near, allowed=allowed)
            draw_raw(view, frame, params, np.random.default_rng(seed))
            assert np.abs(told["allowed"] - frame).min() >= view.gap
            assert len(told["near"]) == params.references - 1 and set(told["near"]) <= set(told["allowed"])


def test_a_regression_is_followed_by_mouths_like_the_targets_the_nearest_first(data):
    view, params = ClipView(read_clips(data, "train")[0]), appearance.design(replace(TINY, references=4), "regression")
    features = reference_features(view.points, view.size)
    apart = (features - features[17]).norm(dim=1).numpy()
    for seed in range(40):
        shown, allowed = choose(view, 17, params, np.random.default_rng(seed))
        assert (np.diff(apart[shown]) >= 0).all()
        assert apart[shown[-1]] <= np.sort(apart[allowed])[: max(4, len(allowed) // 10)][-1]


def test_landmarks_tremble_and_stray_and_what_is_wanted_does_not(data):
    """As a detector's and a motion model's do."""
    view = ClipView(read_clips(data, "train")[0])
    one, other = (make_sample(TINY, [view.raw(5, [15, 20, 25])], np.random.default_rng(seed)) for seed in (0, 1))
    assert not torch.equal(one.inputs.landmarks, other.inputs.landmarks)
    for name in ("target", "mask", "mouth"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    points, elsewhere = torch.full((200, 478, 2), 50.0), torch.full((200, 1, 478, 2), 150.0)
    moved = landmark_noise(points, elsewhere, np.random.default_rng(0)) - points
    stray, tremble = moved.mean((1, 2)).std(), (moved - moved.mean((1, 2), keepdim=True)).std((1, 2))
    assert stray.item() == pytest.approx(100 * DRIFT, rel=0.15)
    assert tremble.max() < 1.1 * NOISE and tremble.mean().item() == pytest.approx(NOISE / 2, rel=0.15)


def test_a_regression_is_never_left_with_no_picture_but_the_answer(data):
    """Early and late in a long clip, no picture of the bank lies on that side."""
    view, params = ClipView(read_clips(data, "train")[0]), appearance.design(TINY, "regression")
    view.know(view.frames[14:])
    for seed in range(40):
        allowed = choose(view, 17, params, np.random.default_rng(seed))[1]
        assert np.isin(view.bank, allowed).any()
        assert view.shares(17, allowed)[0, np.abs(view.bank - 17) < view.gap].abs().max() < 1e-3


def test_what_is_drawn_does_not_depend_on_earlier_draws(data):
    """A resumed run meets its clips anew, and must draw from them what the whole run did."""
    clip, params = read_clips(data, "train")[0], appearance.design(TINY, "regression")
    used = ClipView(clip)
    used.raw(0, [20, 30], np.arange(40))
    used.bank = used.bank[::4]  # a bank smaller than the clip, as in long ones
    for seed in range(40):
        fresh = ClipView(clip)
        fresh.know = lambda _, fresh=fresh: vars(fresh).update(bank=used.bank, regression=used.regression)
        one, other = (choose(view, 17, params, np.random.default_rng(seed)) for view in (used, fresh))
        assert one[0] == other[0] and np.array_equal(one[1], other[1])


def test_pictures_left_out_do_not_reach_the_regression(data, monkeypatch):
    """The bank may hold the target itself: what it looks like must not matter."""
    clip, told = read_clips(data, "train")[0], np.arange(20, 40)
    before = ClipView(clip).raw(5, [25, 30], told)
    real = type(clip).crops

    def inverted(clip, frames):
        pictures, early = real(clip, frames), torch.tensor(frames) < told[0]
        return torch.where(early.view(-1, 1, 1, 1), 255 - pictures, pictures)

    monkeypatch.setattr(type(clip), "crops", inverted)
    after = ClipView(clip).raw(5, [25, 30], told)
    torch.testing.assert_close(after.images, before.images, atol=1e-4, rtol=0)
    assert not torch.equal(after.crop, before.crop)


def test_how_wide_a_clip_opens_is_asked_of_all_that_may_be_shown(data):
    """As at run time of the whole bank: else a mouth would be drawn wherever two references are nearly shut."""
    view, told = ClipView(read_clips(data, "train")[0]), np.arange(20, 40)
    openings = mouth_opening(view.points)
    assert view.raw(5, [25, 30], told).openings.tolist() == [openings[20:].min(), openings[20:].max()]
    assert view.raw(5, [25, 30]).openings.tolist() == [openings[[25, 30]].min(), openings[[25, 30]].max()]


@pytest.mark.parametrize("params", [TINY, LIT])
def test_the_hidden_mouth_does_not_reach_the_network(data, params):
    view = ClipView(read_clips(data, "train")[0])
    raw = view.raw(5, [15, 20, 25])
    before = make_sample(params, [raw])
    hole = window_mask(TINY, raw.mask[None])[0] == 1
    assert hole.any()
    raw.crop = torch.where(hole, 1 - raw.crop, raw.crop)
    after = make_sample(params, [raw])
    for shown, same in zip(before.inputs, after.inputs, strict=True):
        assert torch.equal(shown, same)
    assert not torch.equal(before.target, after.target)


def test_references_are_shown_in_the_frames_light(data):
    view = ClipView(read_clips(data, "train")[0])
    raw, darker = view.raw(5, [15, 20, 25]), view.raw(5, [15, 20, 25])
    darker.images = darker.images * 0.9

    def apart(params):
        one, other = (make_sample(params, [r]).inputs.references for r in (raw, darker))
        return (one - other).abs().mean()

    assert apart(LIT) < 0.5 * apart(TINY)


def test_training_goes_on_from_weights_without_a_refinement(data, tmp_path):
    save_checkpoint(tmp_path / "old.safetensors", AppearanceModel(TINY).state_dict(), "appearance", model_config(TINY))
    model = AppearanceModel(replace(TINY, refine=True))
    start_from(model, str(tmp_path / "old.safetensors"))
    old = load_appearance(str(tmp_path / "old.safetensors")).state_dict()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in old.items())
    with pytest.raises(InputError, match="another network"):
        start_from(AppearanceModel(replace(TINY, latent=8)), str(tmp_path / "old.safetensors"))


def test_training_goes_on_from_weights_with_another_choice_of_detail(tmp_path):
    """Weights that could choose among all three references: the choice starts anew, the rest goes on."""
    params = replace(TINY, regression=True, detail=1.0, detail_choice=True, refine=True)
    model, state = AppearanceModel(params), AppearanceModel(params).state_dict()
    state["refine.detail.weight"], state["refine.detail.bias"] = torch.zeros(3, 64, 3, 3), torch.zeros(3)
    save_checkpoint(tmp_path / "old.safetensors", state, "appearance", model_config(params))
    fresh = model.refine.detail.bias.clone()
    start_from(model, str(tmp_path / "old.safetensors"))
    assert torch.equal(model.refine.detail.bias, fresh)
    assert torch.equal(model.refine.flow.weight, state["refine.flow.weight"])


def test_weights_of_fewer_references_paint_alike_while_the_new_ones_are_doubted(tmp_path, monkeypatch):
    """Training goes on where it was: features are those of before, and the new reference is one more to choose."""
    params = replace(TINY, regression=True, detail=1.0, detail_choice=True, refine=True, blend=True, skips=True)
    old = AppearanceModel(params).eval()
    for parameter in old.parameters():  # heads begin at zero: what they read would not show
        torch.nn.init.normal_(parameter, std=0.05)
    save_checkpoint(tmp_path / "old.safetensors", old.state_dict(), "appearance", model_config(params))
    more = replace(params, references=params.references + 2)
    pictures = torch.rand(1, 2 + more.references, 3, 64, 64)
    shown = pictures[:, 0], pictures[:, 1], pictures[:, 2:]
    with torch.no_grad():
        wanted = old(shown[0], shown[1], shown[2][:, : params.references])
        given = []
        for doubt in (1e4, appearance_start.DOUBT):
            monkeypatch.setattr(appearance_start, "DOUBT", doubt)
            new = AppearanceModel(more).eval()
            start_from(new, str(tmp_path / "old.safetensors"))
            given.append(new(*shown))
    torch.testing.assert_close(given[0], wanted)
    assert (given[1] - wanted).abs().max() > 1e-3, "they are chosen from"
    for layer, own in ((new.decoder.conv_out, TINY.patch**2), (new.refine.detail, 1)):
        *_, last, copy, again = layer.weight.split(own)
        assert torch.equal(copy, last) and torch.equal(again, last)


@pytest.mark.parametrize(
    "old",
    [
        replace(TINY, references=5, regression=True),
        replace(TINY, channels=16, regression=True),  # a narrower network must not pass for one of fewer references
        replace(TINY, references=1),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, old):
    save_checkpoint(tmp_path / "old.safetensors", AppearanceModel(old).state_dict(), "appearance", model_config(old))
    with pytest.raises(InputError, match="another network; choose the --preset and --references"):
        start_from(AppearanceModel(replace(TINY, references=4, regression=True)), str(tmp_path / "old.safetensors"))


def test_frozen_encoders_stay_as_they_are(data):
    args = arguments(data, data / "none", "--preset", "tiny", "--gan-from", "2", "--freeze-encoders")
    trainer = Trainer(TINY, args)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.step(0, next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0))))
    changed = {
        name.split(".")[0] for name, value in trainer.model.state_dict().items() if not value.equal(before[name])
    }
    assert "decoder" in changed and not any("encoder" in name for name in changed)


@pytest.mark.parametrize("preset", ["paper", "small"])
def test_the_papers_network_keeps_blocks_inputs_alone(data, preset):
    """19 GB of activations a picture fit no card; other networks are small, and computing them twice takes time."""
    trainer = Trainer(TINY, arguments(data, data / "none", "--preset", preset))
    assert [block.recompute for block in blocks(trainer.model)] == [preset == "paper"] * len(blocks(trainer.model))


def test_recomputing_trains_the_same_weights_and_keeps_less(data, one_thread):
    sample, steps, kept = next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0))), [], []
    for option in ("--recompute", "--no-recompute"):
        torch.manual_seed(0)
        trainer = Trainer(replace(TINY, normalise=True), arguments(data, data / "none", "--gan-from", "0", option))
        kept.append(0)

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[-1] += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            torch.manual_seed(1)
            trainer.step(0, sample)
        steps.append(trainer.averaged().state_dict())
    assert all(torch.equal(value, steps[1][name]) for name, value in steps[0].items())
    assert kept[0] < 0.9 * kept[1]


def blocks(model: AppearanceModel) -> list[ResnetBlock]:
    return [block for block in model.modules() if isinstance(block, ResnetBlock)]


def test_what_counts_ends_where_the_network_sees_no_farther(data):
    params = replace(TINY, window=(16, 64, 8, 56))
    view = ClipView(read_clips(data, "train")[0])
    raw = draw_raw(view, 20, params, np.random.default_rng(0))
    mask = make_sample(params, [replace(raw, mask=torch.ones_like(raw.mask))]).mask[0, 0]
    assert mask.shape == (48, 48) and mask[24, 24] == 1
    assert max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) < 0.1


def test_parts_hold_the_whole_mouth(data):
    sample = next(iter(SampleStream(read_clips(data, "train"), TINY, 4, seed=0)))
    part = cut_sample(sample, (48, 52), np.random.default_rng(0))
    assert part.target.shape == part.inputs.masked.shape == (4, 3, 48, 52)
    assert part.inputs.references.shape == (4, 3, 3, 48, 52)
    assert torch.equal(part.mouth.sum((1, 2, 3)), sample.mouth.sum((1, 2, 3)))


def test_colours_and_edges_count_and_most_in_the_mouth(data):
    sample = next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0)))
    sample.mask, sample.mouth = torch.ones_like(sample.mask), torch.zeros_like(sample.mouth)
    sample.mouth[..., 32:] = 1
    sample.target = torch.rand(sample.target.shape, generator=torch.Generator().manual_seed(0))
    assert reconstruction_loss(sample.target, sample) == 0
    assert reconstruction_loss(sample.target + 0.1, sample).item() == pytest.approx(0.1, rel=1e-4), "no edge differs"
    left, right = sample.target.clone(), sample.target.clone()
    left[..., :32] += 0.1 * (torch.arange(32) % 2)
    right[..., 32:] += 0.1 * (torch.arange(32) % 2)
    stripes, in_mouth = (reconstruction_loss(picture, sample).item() for picture in (left, right))
    assert in_mouth > 1.5 * stripes > 0.03


def test_blur_costs_texture(data):
    sample = next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0)))
    sample.mask, sample.mouth = torch.ones_like(sample.mask), torch.ones_like(sample.mouth)
    sample.target = torch.rand(sample.target.shape, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(sample.target, 3, 1, 1)
    assert texture_loss(sample.target.roll(1, -1), sample) < 0.2 * texture_loss(blurred, sample)


def test_structure_is_ssim(data):
    """And a blurred picture costs more than one that is as far off in brightness."""
    sample = next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0)))
    sample.mask = torch.ones_like(sample.mask)
    sample.mouth = torch.zeros_like(sample.mouth)
    sample.target = 0.2 + 0.6 * torch.rand(sample.target.shape, generator=torch.Generator().manual_seed(0))
    blurred = blur(sample.target, 1.0)
    assert float(structure_loss(sample.target, sample)) == pytest.approx(0, abs=1e-5)
    assert float(1 - structure_loss(blurred, sample)) == pytest.approx(
        float(ssim(blurred, sample.target).mean()), abs=0.01
    )
    brighter = sample.target + (blurred - sample.target).square().mean().sqrt()
    assert structure_loss(blurred, sample) > 3 * structure_loss(brighter, sample)


def test_only_what_is_pasted_can_be_wrong(data):
    """Noise beyond the mask, and beyond the ring on which colours are compared, costs nothing and teaches nothing."""
    sample = next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0)))
    judged = dilate((sample.mask > 0).float(), RING_OUTSIDE) > 0
    assert judged.any() and not judged.all()
    noise = torch.rand(sample.target.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    picture = painted(noise, sample)
    assert torch.equal(picture, torch.where(judged, noise, sample.target))
    loss = reconstruction_loss(picture, sample) + texture_loss(picture, sample) + structure_loss(picture, sample)
    loss.backward()
    assert noise.grad[judged.expand_as(noise)].abs().min() > 0
    assert not noise.grad[~judged.expand_as(noise)].any()


def test_noise_around_the_face_does_not_train(data):
    """The trainer's own losses leave out what is not painted: weights that only make it get no gradient."""
    args = arguments(data, data / "none", "--preset", "tiny", "--gan-from", "2")
    trainer = Trainer(TINY, args)
    sample = next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0)))
    sample.mask, sample.mouth = torch.zeros_like(sample.mask), torch.zeros_like(sample.mouth)
    logs = trainer.step(0, sample)
    assert float(logs["reconstruction"]) == float(logs["texture"]) == 0.0


def test_the_discriminator_judges_the_picture_as_it_is_pasted(data):
    sample = next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0)))
    options = ("--gan-from", "0", "--gan-weight", "0", "--precision", "float32")
    apart = []
    for mask in (sample.mask, torch.full_like(sample.mask, 1e-6)):
        torch.manual_seed(0)
        trainer, sample.mask = Trainer(TINY, arguments(data, data / "none", *options)), mask
        apart.append(float(trainer.step(0, sample)["gan"]))
    assert 0 < apart[1] < 1e-3 * apart[0], "where next to nothing is pasted, its features are the target's"


def test_batches_made_on_the_device_train_without_any_validation(tmp_path, one_thread):
    write_clip(tmp_path, "train", 0, 0, frames=40)
    model = train(tmp_path, tmp_path, "--steps", "3", "--on-device", "--workers", "0", "--validate-clips", "0")
    fresh = AppearanceModel(TINY).state_dict()
    assert any(not torch.equal(value, fresh[name]) for name, value in model.state_dict().items())
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_fidelity_is_psnr_of_what_is_coarse(data):
    """Ten times the error costs 20 dB on every face; grain and what lies outside the mouth cost next to nothing."""
    sample = next(iter(SampleStream(read_clips(data, "train"), TINY, 2, seed=0)))
    scale = torch.tensor([0.02, 0.2])[:, None, None, None]
    there = (sample.target + scale).detach()
    loss = fidelity_loss(there, sample) - fidelity_loss(sample.target + 0.1 * scale + 0.02, sample)
    assert 0.0 < float(loss) < np.log(10)
    larger = fidelity_loss(sample.target + 10 * scale, sample) - fidelity_loss(there, sample)
    assert float(larger) == pytest.approx(np.log(10), abs=0.1)
    grain = 0.1 * torch.randn(sample.target.shape, generator=torch.Generator().manual_seed(0))
    assert fidelity_loss(sample.target + grain, sample) < fidelity_loss(sample.target + 0.05, sample)
    outside = sample.target + (1 - sample.mask * sample.mouth.amax())  # blurring lets a little of it in at the border
    assert fidelity_loss(outside, sample) < fidelity_loss(sample.target + 1, sample)


def test_the_stream_depends_on_seed_and_step_alone(data):
    clips = read_clips(data, "train")
    first = SampleStream(clips, TINY, 2, seed=1)
    later = SampleStream(clips, TINY, 2, seed=1, start=1)
    stream = iter(first)
    next(stream)
    assert torch.equal(next(stream).target, next(iter(later)).target)
    other = next(iter(SampleStream(clips, TINY, 2, seed=2, start=1)))
    assert not torch.equal(other.target, next(iter(later)).target)


@pytest.mark.parametrize("references", appearance.REFERENCE_DESIGNS)
def test_reference_designs_of_table_7(data, references):
    params = appearance.design(replace(TINY, references=4), references)
    assert params.references == {"regression": 4, "single-masked": 1, "single-full": 1}.get(references, FIXED)
    view = ClipView(read_clips(data, "train")[0])
    shown = make_sample(params, [view.raw(5, [15, 20, 25, 30][: params.references])]).inputs.references
    whole_picture = (shown.amax(2) > 0).float().mean() > 0.9
    assert whole_picture == (references == "single-full")


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("references", appearance.REFERENCE_DESIGNS)
def test_every_design_is_validated_on_references_of_the_first_half(data, monkeypatch, references, fixed):
    clips = read_clips(data)
    monkeypatch.setattr("comfyui_mytalk.training.appearance_validation.MIN_FACE", 0.0)
    params, asked, raw = appearance.design(TINY, references), [], ClipView.raw
    monkeypatch.setattr(ClipView, "raw", lambda *given: asked.append(given[1:]) or raw(*given))
    samples = list(validation_samples(clips[:1], params, 2, fixed))
    assert len(samples) == len(asked) == 2
    for frame, shown, *told in asked:
        known = told[0].tolist() if told else shown
        assert frame >= len(clips[0]) // 2 > max(known) and set(shown) <= set(known)
        assert len(known) == (params.references if not told else FIXED if fixed else len(clips[0]) // 2)
    assert all(len(raw.images) == len(raw.reference_points) == params.references for _, raw in samples)


@pytest.mark.parametrize("option", ["--echo", "--pool"])
def test_options_that_would_do_nothing_are_refused(option, data, tmp_path):
    with pytest.raises(InputError, match="leave out one of them"):
        train(data, tmp_path, "--steps", "1", "--on-device", option, "2")
