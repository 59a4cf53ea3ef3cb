"""Frames for the identity extractor: as many as fit, of every clip, and as many compared as fit."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.motion.identity import IdentityExtractor
from comfyui_mytalk.motion.params import IdentityParams
from comfyui_mytalk.training import identity
from comfyui_mytalk.training.clips import PreparedClip, read_clip
from comfyui_mytalk.training.identity import FaceSet, frames_by_clip, gather, validate
from tests.synthetic_clips import write_clip


@pytest.fixture
def clips(tmp_path: Path) -> list[PreparedClip]:
    """Two clips of one person around one of somebody else, who is not seen all the time."""
    sizes = {(1, 0): 40, (0, 0): 30, (1, 1): 8}
    clips = [read_clip(write_clip(tmp_path, "train", *who, frames=frames)) for who, frames in sizes.items()]
    clips[1].found[3:5] = False
    return clips


def test_frames_are_those_with_a_face_and_belong_to_their_clip(clips: list[PreparedClip]) -> None:
    faces = gather(clips, every=2)
    assert faces.clip.tolist() == 20 * [0] + 14 * [1] + 4 * [2]
    assert faces.identity.tolist() == 20 * [1] + 14 * [0] + 4 * [1]
    usable = [0, 2, 6, 8]
    assert torch.equal(faces.landmarks[20:24], clips[1].canonical[usable])
    assert torch.equal(faces.times[20:24], clips[1].times[usable])


def test_clips_keep_nothing_of_what_was_gathered(clips: list[PreparedClip]) -> None:
    gather(clips)
    assert not any({"canonical", "pose"} & set(vars(clip)) for clip in clips)


def test_of_more_frames_than_fit_long_clips_give_fewer(clips: list[PreparedClip], monkeypatch) -> None:
    monkeypatch.setattr(identity, "MOST_FRAMES", 30)
    faces = gather(clips)
    assert torch.bincount(faces.clip).tolist() == [10, 10, 8]
    times = [faces.times[faces.clip == clip] for clip in range(2)]
    assert all(own[-1] > 0.8 * clip.times[-1] for own, clip in zip(times, clips, strict=False)), "from all of the clip"


def test_batches_are_drawn_by_person_then_by_clip() -> None:
    labels = torch.tensor([[1, 3], [1, 3], [0, 2], [1, 0], [0, 2], [1, 3]])
    faces = FaceSet(torch.zeros(6, 478, 3), *labels.T, torch.zeros(6))
    tree = [[frames.tolist() for frames in own] for own in frames_by_clip(faces)]
    assert tree == [[[2, 4]], [[3], [0, 1, 5]]]


def test_one_person_is_not_trained_on_and_gives_no_figure(tmp_path: Path, caplog) -> None:
    """With one class the loss is 0; and an AUC needs pairs of different people."""
    for take in range(2):
        write_clip(tmp_path, "train", 0, take, frames=30)
    write_clip(tmp_path, "val", 0, 0, frames=60)
    parser = ArgumentParser()
    identity.add_arguments(parser)
    options = ["--data", str(tmp_path), "--run", str(tmp_path / "run"), "--steps", "1", "--batch", "4"]
    with pytest.raises(InputError, match="of one person, expected at least two"):
        identity.main(parser.parse_args(options))
    write_clip(tmp_path, "train", 1, 0, frames=30)
    assert identity.main(parser.parse_args(options)) == f"wrote {tmp_path}/run/identity_small.safetensors"
    assert "all val clips" in caplog.text and "of one person" in caplog.text


def test_a_verification_compares_so_many_frames_and_always_the_same(monkeypatch) -> None:
    """Each with each: 45,000 frames would take 105 GB."""
    rng = np.random.default_rng(0)
    person = torch.from_numpy(rng.integers(4, size=60))
    landmarks = person[:, None, None] + torch.from_numpy(rng.normal(0, 0.5, (60, 478, 3))).float()
    faces = FaceSet(landmarks, person, torch.arange(60) // 2, torch.arange(60) % 2 * 5.0)
    torch.manual_seed(0)
    extractor, counts = IdentityExtractor(IdentityParams(width=8, layers=1, dim=4)), []
    real = identity.verification
    monkeypatch.setattr(identity, "verification", lambda e, f: counts.append((len(e), len(f.clip))) or real(e, f))
    whole = validate(extractor, faces)
    monkeypatch.setattr(identity, "COMPARED", 40)
    part = validate(extractor, faces)
    assert counts == [(60, 60), (40, 40)] and validate(extractor, faces) == part != whole
    assert part["auc_clips"] == pytest.approx(whole["auc_clips"], abs=0.15)
