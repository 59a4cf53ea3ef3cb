"""The occlusion trainer: what it draws lies where it says, it resumes exactly, and it learns."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import torch

from comfyui_mytalk.appearance.occlusion import OcclusionNet, OcclusionParams, load_occlusion
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training import occluders, occlusion, occlusion_data
from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.occluders import blend
from comfyui_mytalk.training.occlusion_data import OcclusionBatches
from comfyui_mytalk.training.surfaces import Occluder, Scene
from tests.synthetic_clips import write_clips

SIDE = 96
KINDS = ("draw_hand", "_microphone", "_object", "_cloth", "_strands", "_writing")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("prepared"), identities=2, takes=1, frames=12)


def scene() -> Scene:
    grey = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    return Scene(grey, np.array([0.5, 0.7]), np.array([0.7, 0.5, 0.4]), grey)


@pytest.mark.parametrize("kind", KINDS)
def test_occluders_are_pictures_that_cover_something_near_the_target(kind: str) -> None:
    near = []
    for seed in range(8):
        drawn = getattr(occluders, kind)(scene(), np.random.default_rng(seed))
        assert drawn.picture.shape == (SIDE, SIDE, 3) and drawn.cover.shape == (SIDE, SIDE)
        for values in (drawn.picture, drawn.cover):
            assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1.001
        rows, columns = (slice(int(c * SIDE) - 16, int(c * SIDE) + 16) for c in (0.7, 0.5))
        near.append(drawn.cover[rows, columns].max() > 0.5)
    assert np.mean(near) > 0.7


def test_a_blend_is_the_face_where_nothing_covers_it_but_for_the_shadow() -> None:
    cover = np.zeros((SIDE, SIDE), np.float32)
    cover[20:40, 20:40] = 1
    red = Occluder(np.tile(np.array([1, 0, 0], np.float32), (SIDE, SIDE, 1)), cover)
    made, seen = blend(scene().face, red, np.random.default_rng(1))
    assert seen[60:].max() < 0.01 and np.allclose(made[85:], 0.5, atol=0.02)
    assert np.allclose(made[30, 30], [1, 0, 0], atol=0.05) and seen[30, 30] > 0.95


def test_batches_depend_on_seed_and_step_alone(data: Path) -> None:
    clips = read_clips(data, "train")
    first, second = OcclusionBatches(clips, 64, 3, seed=5, start=0, stop=2)
    later = next(iter(OcclusionBatches(clips, 64, 3, seed=5, start=1, stop=2)))
    for name, value in vars(second).items():
        assert torch.equal(value, getattr(later, name)) and not torch.equal(value, getattr(first, name))
    assert first.crops.shape == (3, 3, 64, 64) and first.marks.shape == (3, 2, 64, 64)
    assert first.cover.shape == first.judged.shape == (3, 1, 64, 64)


def train(data: Path, run: Path, *options: str) -> None:
    parser = ArgumentParser()
    occlusion.add_arguments(parser)
    fixed = ("--data", str(data), "--run", str(run), "--save", str(run / "w.safetensors"), "--batch", "2")
    occlusion.main(parser.parse_args([*fixed, "--validate-every", "2", *options]))


def test_landmarks_are_those_of_the_face_also_when_it_is_mirrored(data: Path, monkeypatch) -> None:
    shown, judged = [], []
    marks, hull = occlusion_data.landmark_marks, occlusion_data.soft_hull
    monkeypatch.setattr(occlusion_data, "CLEAR", 1.0)
    monkeypatch.setattr(occlusion_data, "ASTRAY", 0.0)
    monkeypatch.setattr(occlusion_data, "landmark_marks", lambda at, size: shown.append(at) or marks(at, size))
    monkeypatch.setattr(
        occlusion_data, "soft_hull", lambda at, *more, **how: judged.append(at) or hull(at, *more, **how)
    )
    next(iter(OcclusionBatches(read_clips(data, "train"), 64, 8, seed=5, start=0, stop=1)))
    oval = occlusion_data.contour("face_oval_ring")
    assert len(shown) == len(judged) == 8
    for points, outline in zip(shown, judged, strict=True):
        assert torch.equal(points[:, oval], outline)
    leaning = [float((at[0, 234, 1] - at[0, 454, 1]).sign()) for at in shown]
    assert len(set(leaning)) == 2, "some are mirrored, some are not"


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(data: Path, tmp_path: Path, monkeypatch, one_thread) -> None:
    monkeypatch.setattr(occlusion, "VALIDATION", 2)
    monkeypatch.setitem(occlusion.OCCLUSION_PRESETS, "small", OcclusionParams(32, (8, 16)))
    train(data, tmp_path / "whole", "--steps", "4")
    monkeypatch.setattr(occlusion.Run, "out_of_time", lambda run: run.bar.n >= 2)
    train(data, tmp_path / "parts", "--steps", "4")
    monkeypatch.undo()
    monkeypatch.setattr(occlusion, "VALIDATION", 2)
    monkeypatch.setitem(occlusion.OCCLUSION_PRESETS, "small", OcclusionParams(32, (8, 16)))
    train(data, tmp_path / "parts", "--steps", "4")
    whole, parts = (load_occlusion(str(tmp_path / name / "w.safetensors")) for name in ("whole", "parts"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_it_learns_to_tell_a_bright_ball_from_a_face(data: Path, monkeypatch) -> None:
    """A small network, sixty steps: covered pixels of the validation person get the higher chances."""

    def ball(scene: Scene, rng: np.random.Generator) -> Occluder:
        at = (np.arange(len(scene.face)) + 0.5) / len(scene.face)
        cover = np.hypot(at - scene.target[0], at[:, None] - scene.target[1]) < 0.15
        return Occluder(np.tile(np.array([0, 1, 0], np.float32), (*cover.shape, 1)), cover.astype(np.float32))

    monkeypatch.setattr(occlusion_data, "draw_occluder", ball)
    torch.manual_seed(0)
    net = OcclusionNet(OcclusionParams(32, (8, 16, 24)))
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for sample in OcclusionBatches(read_clips(data, "train"), 32, 8, seed=0, start=0, stop=60):
        loss = occlusion.occlusion_loss(net(sample.crops, sample.marks), sample)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    checks = list(OcclusionBatches(read_clips(data, "val"), 32, 8, seed=1, start=0, stop=4))
    found = occlusion.validate(net, checks)
    assert found["recall"] > 0.5 and found["iou"] > 0.35 and found["false"] < 0.05


def test_skipping_everything_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leaves no clips"):
        train(data, tmp_path / "run", "--skip", "*")
