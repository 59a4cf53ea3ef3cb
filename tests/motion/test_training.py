"""The trainers on a tiny synthetic set: they resume exactly, are seeded, save what loads, and erase what they must."""

from __future__ import annotations

import csv
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from comfyui_mytalk.checkpoints import load_checkpoint
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.motion import params
from comfyui_mytalk.motion.identity import IdentityExtractor, load_identity
from comfyui_mytalk.motion.model import MotionModel, Needs, load_motion
from comfyui_mytalk.motion.params import IdentityParams, MotionParams
from comfyui_mytalk.training import identity, motion
from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.motion_data import CLEAN, Batch, Sampler, Take, Version, load_takes
from comfyui_mytalk.training.motion_fit import LIP_WEIGHT, eraser, fit_coordinates, point_weights
from comfyui_mytalk.training.run import Run
from tests.synthetic_clips import write_clip, write_clips

TINY = MotionParams(
    speech_in=2, speech_dim=8, speech_layers=1, speech_heads=2, speech_ffn=16, dim=16, layers=1, heads=2, ffn=16,
    identity_dim=4, relative=True, components=4, rotary=True, erase_mouth=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("prepared"), identities=3, takes=2, frames=60)


def loudness(speech: Tensor) -> Tensor:
    """Stand-in speech features `(s, 2)`: loudness and its change, 20 ms at a time."""
    level = speech[: len(speech) // 640 * 640].view(-1, 320).std(1)
    return torch.stack([level, level.diff(append=level[-1:])], 1) * 20


def arguments(trainer, *options: str) -> Namespace:
    parser = ArgumentParser()
    trainer.add_arguments(parser)
    return parser.parse_args(options)


def train_motion(data: Path, run: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> MotionModel:
    monkeypatch.setitem(params.PRESETS, "small", TINY)
    args = arguments(
        motion, "--data", str(data), "--run", str(run), "--cache", str(data / "cache"), "--tokens", "100",
        "--validate-every", "3", "--versions", "1", *options,
    )  # fmt: skip
    torch.manual_seed(0)
    extractor = IdentityExtractor(IdentityParams(width=8, layers=1, dim=4))
    return motion.train(args, loudness, Needs(), extractor)


def test_motion_resumes_to_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr(Run, "rate", lambda self, step, stop, warmup, floor=0.0: (step + 1) / warmup)
    whole = train_motion(data, tmp_path / "whole", monkeypatch, "--steps", "6")
    train_motion(data, tmp_path / "parts", monkeypatch, "--steps", "3")
    parts = train_motion(data, tmp_path / "parts", monkeypatch, "--steps", "6")
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name
    rows = list(csv.DictReader((tmp_path / "parts" / "log.csv").open()))
    assert {"x0", "velocity", "identity", "corr", "same_person", "closure", "lmd"} <= set(rows[-1])
    assert (tmp_path / "parts" / "sheet_000006.png").stat().st_size > 1000


def test_the_end_is_validated_and_validation_changes_no_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """A recipe of fewer steps than lie between two validations would else end without a figure."""
    file = tmp_path / "weights.safetensors"
    often = train_motion(data, tmp_path / "often", monkeypatch, "--steps", "2", "--validate-every", "1")
    once = train_motion(data, tmp_path / "once", monkeypatch, "--steps", "2", "--save", str(file))
    rows = list(csv.DictReader((tmp_path / "once" / "log.csv").open()))
    assert [bool(row["corr"]) for row in rows] == [False, True] and rows[-1]["step"] == "1"
    assert (tmp_path / "once" / "sheet_000002.png").is_file()
    info = load_checkpoint(file, "motion").info
    assert info["steps"] == "2" and float(info["corr"]) == pytest.approx(float(rows[-1]["corr"]), abs=1e-3)
    for name, value in often.state_dict().items():
        assert torch.equal(once.state_dict()[name], value), name


def test_a_run_does_not_go_on_with_another_extractor_of_the_same_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights trained with the one were taken for such that were trained with the other."""
    monkeypatch.setitem(params.PRESETS, "small", TINY)
    monkeypatch.setitem(params.IDENTITY_PRESETS, "small", IdentityParams(width=8, layers=1, dim=4))
    encoder = SimpleNamespace(name="loudness", sha256="0" * 64, dim=2)
    monkeypatch.setattr(motion, "load_speech_encoder", lambda *_: encoder)
    load_splits = motion.load_splits
    monkeypatch.setattr(motion, "load_splits", lambda args, _: load_splits(args, loudness))
    who, how = ("--data", str(data), "--device", "cpu", "--run"), ("--steps", "1")
    identity.main(arguments(identity, *who, str(tmp_path / "who"), *how, "--batch", "8"))
    file, cache = str(tmp_path / "who" / "identity_small.safetensors"), str(tmp_path / "cache")
    args = (*who, str(tmp_path / "run"), "--identity", file, "--cache", cache, "--tokens", "50", "--versions", "1")
    motion.main(arguments(motion, *args, *how))
    identity.main(arguments(identity, *who, str(tmp_path / "who"), "--steps", "2", "--batch", "8"))
    with pytest.raises(InputError, match="was started with --identity-sha256 .*, now .*; name another --run"):
        motion.main(arguments(motion, *args, "--steps", "2"))


def test_another_seed_trains_other_weights(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (
        train_motion(data, tmp_path / seed, monkeypatch, "--steps", "1", "--seed", seed, "--identity-weight", "0")
        for seed in "01"
    )
    assert not torch.equal(first.denoiser.out.weight, second.denoiser.out.weight)


@pytest.mark.parametrize("condition", ["concat", "add", "cross"])
def test_key_landmarks_can_take_the_place_of_the_embedding(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    """Table 5: what the model generates depends on the key frames, whichever way they enter."""
    model = train_motion(data, tmp_path, monkeypatch, "--steps", "2", "--condition", condition)
    assert model.params.condition == condition and model.params.identity_dim == 2 * 478
    torch.manual_seed(1)
    torch.nn.init.normal_(model.denoiser.out.weight)
    given = torch.randn(1, 9, 4), torch.randn(1, 9, 206), torch.tensor([5]), torch.randn(1, 9, 8)
    one, other = (model.denoiser(*given, torch.randn(1, 3, 956)) for _ in range(2))
    assert not torch.allclose(one, other, atol=1e-3)


def test_the_papers_preset_trains_with_any_encoder_and_extractor(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Widths of speech and identity are those of what is used; weights are there as soon as they were validated."""
    plain = {"relative": False, "components": 0, "rotary": False, "erase_mouth": False}
    monkeypatch.setitem(params.PRESETS, "paper", replace(TINY, speech_in=768, identity_dim=768, **plain))
    options = ("--preset", "paper", "--steps", "4", "--save", str(tmp_path / "weights.safetensors"))
    model = train_motion(data, tmp_path, monkeypatch, *options)
    assert (model.params.speech_in, model.params.identity_dim, model.params.components) == (2, 4, 0)
    assert load_motion(str(tmp_path / "weights.safetensors")).params == model.params


def test_identity_trains_resumes_and_loads(data: Path, tmp_path: Path, one_thread: None) -> None:
    options = ("--data", str(data), "--batch", "16", "--validate-every", "5")
    saved = [tmp_path / name for name in ("whole.safetensors", "parts.safetensors")]
    identity.main(arguments(identity, *options, "--run", str(tmp_path / "a"), "--steps", "10", "--save", str(saved[0])))
    for steps in ("5", "10"):
        args = arguments(identity, *options, "--run", str(tmp_path / "b"), "--steps", steps, "--save", str(saved[1]))
        identity.main(args)
    whole, parts = (load_identity(str(path)) for path in saved)
    assert whole.params == params.IDENTITY_PRESETS["small"] and len(whole.sha256) == 64
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name


def test_verification_scores_known_embeddings() -> None:
    who, clip = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 2])
    faces = identity.FaceSet(torch.zeros(4, 478, 3), who, clip, torch.tensor([0.0, 0.0, 0.0, 5.0]))
    right, wrong = torch.eye(2)[who], torch.eye(2)[[0, 1, 0, 1]]
    assert identity.verification(right, faces) == {"auc_apart": 1.0, "auc_clips": 1.0}
    assert identity.verification(wrong + 1e-3 * torch.randn(4, 2), faces)["auc_clips"] <= 0.5
    near = identity.FaceSet(
        torch.zeros(4, 478, 3),
        torch.tensor([0, 0, 0, 1]),
        torch.tensor([0, 0, 0, 1]),
        torch.tensor([0.0, 1.0, 5.0, 0.0]),
    )
    changed = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])  # alike for a second, the other between
    assert identity.verification(changed, near) == {"auc_apart": 0.0}, "neighbours are no evidence"


def test_erased_prefix_tells_nothing_of_the_mouth() -> None:
    torch.manual_seed(0)
    mouth = torch.randn(4000, 3)
    given = torch.randn(4000, 10) @ torch.randn(10, 10) + mouth @ torch.randn(3, 10)
    given, mouth = (x.double() - x.double().mean(0) for x in (given, mouth))
    erased = given @ eraser(given.T @ mouth / 4000)
    covariance = erased.T @ mouth / 4000
    assert covariance.abs().max() < 1e-6
    assert torch.linalg.matrix_rank(erased, rtol=1e-6) == 7


def test_coordinates_fit_the_data_and_weigh_the_lips(data: Path) -> None:
    takes = load_takes(read_clips(data, "train"), loudness, data / "cache")
    model = MotionModel(TINY)
    fit_coordinates(model, takes)
    lower = takes[0].landmarks[None, :, landmark_set("generated")]
    rest = lower[:, takes[0].rest].mean(1)
    x = model.encode(lower, rest)
    assert (model.decode(x, rest) - lower).abs().max() < 0.03
    assert model.encode_upper(takes[0].landmarks[None, :, landmark_set("prefix")]).std() < 5
    weight = point_weights()
    assert weight.mean() == pytest.approx(1)
    assert weight.max() / weight.min() == pytest.approx(LIP_WEIGHT)


def test_versions_keep_speech_and_motion_together(data: Path) -> None:
    """Loudness follows the mouth in every version, and not any more after a wrong offset."""
    clips = read_clips(data, "train")[:1]
    agreement = {}
    for version in (CLEAN, Version(speed=0.8), Version(noise=True)):
        (take,) = load_takes(clips, loudness, data / "cache", (version,))
        agreement[version.name] = loudness_follows(take)
        assert len(take.features) == 2 * len(take)
        assert len(take) == pytest.approx(60 / version.speed, abs=1)
    late = load_takes(clips, loudness, data / "cache", offsets={clips[0].path.stem: 0.16})[0]
    assert min(agreement.values()) > 0.8
    assert loudness_follows(late) < 0.6


def loudness_follows(take: Take) -> float:
    opening = (take.landmarks[:, 13] - take.landmarks[:, 14]).norm(dim=-1)
    level = take.features[:, 0].float().view(-1, 2).mean(1)
    return torch.corrcoef(torch.stack([opening, level]))[0, 1].item()


def test_offset_moves_speech_the_right_way(data: Path, tmp_path: Path) -> None:
    """A clip whose sound comes 0.16 s late is in time again when told so."""
    path = write_clip(tmp_path, "train", 0, 0, frames=60)
    clip = read_clips(tmp_path)[0]
    clip.speech = torch.roll(clip.speech, round(0.16 * 16_000))
    late, mended = (
        load_takes([clip], loudness, tmp_path / "cache", offsets={path.stem: offset})[0] for offset in (0.0, 0.16)
    )
    assert loudness_follows(mended) > 0.8 > loudness_follows(late)


def test_sampler_crops_without_padding_and_repeats_by_seed(data: Path) -> None:
    takes = load_takes(read_clips(data, "train"), loudness, data / "cache")
    sampler = Sampler(takes, tokens=100, lengths=(25, 50))
    first, again, other = (sampler.draw(np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert isinstance(first, Batch) and first.landmarks.shape == (2, 50, 478, 2)
    assert first.features.shape == (2, 100, 2) and first.rest.shape == (2, 8, 478, 2)
    assert torch.equal(first.landmarks, again.landmarks) and not torch.equal(first.landmarks, other.landmarks)
