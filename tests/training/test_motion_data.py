"""Takes of clips: those that teach nothing are left out with a word, and no clip gets another's features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.training.clips import read_clip, read_clips
from comfyui_mytalk.training.motion_data import CLEAN, VERSIONS, Sampler, Take, load_takes
from tests.synthetic_clips import write_clip


def level(speech: Tensor) -> Tensor:
    """Stand-in speech features `(s, 1)`: the mean square of every 20 ms."""
    return speech[: len(speech) // 640 * 640].view(-1, 320).square().mean(1, keepdim=True)


def silence(path: Path) -> None:
    """Take the sound out of a prepared clip."""
    metadata = read_clip(path).metadata
    save_file(load_file(path) | {"speech": torch.zeros(0, dtype=torch.int16)}, path, metadata)


@pytest.mark.parametrize("versions", [(CLEAN,), VERSIONS])
def test_a_silent_clip_is_left_out_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture, versions) -> None:
    """It stopped the training or, where it did not, taught that a mouth moves in silence."""
    silence(write_clip(tmp_path, "train", 0, 0, frames=40))
    write_clip(tmp_path, "train", 0, 1, frames=40)
    write_clip(tmp_path, "train", 0, 2, frames=20)
    takes = load_takes(read_clips(tmp_path), level, tmp_path / "cache", versions)
    assert {take.name for take in takes} == {"train__0_1"} and len(takes) == len(versions)
    assert "left out 1 of 3 clips: 1 without sound" in caplog.text
    assert "left out 1 of 3 clips: 1 shorter than 1 s" in caplog.text


def test_no_clip_at_all_is_an_error(tmp_path: Path) -> None:
    silence(write_clip(tmp_path, "train", 0, 0))
    with pytest.raises(InputError, match="none of the 1 clips can be used: each needs sound, a face in at least 80%"):
        load_takes(read_clips(tmp_path), level, tmp_path / "cache")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_clips_of_one_name_have_features_of_their_own(tmp_path: Path, version) -> None:
    """Folders share a cache, and clips are cut again."""
    made = []
    for identity in (0, 5):
        folder = tmp_path / str(identity)
        folder.mkdir()
        write_clip(folder, "train", identity, 0).rename(folder / "same.safetensors")
        made.append(load_takes(read_clips(folder), level, tmp_path / "cache", (version,))[0].features)
        (fresh,) = load_takes(read_clips(folder), level, tmp_path / f"cache {identity}", (version,))
        assert torch.equal(made[-1], fresh.features)
    assert not torch.equal(*made)


def test_what_a_clip_says_of_its_offset_counts_unless_offsets_are_given(tmp_path: Path) -> None:
    path = write_clip(tmp_path, "train", 0, 0)
    (even,) = load_takes([read_clip(path)], level, tmp_path / "cache")
    save_file(load_file(path), path, read_clip(path).metadata | {"av_offset_ms": "-160"})
    clip = read_clip(path)
    said, told, none = (
        load_takes([clip], level, tmp_path / "cache", offsets=offsets)[0].features
        for offsets in (None, {path.stem: 0.16}, {path.stem: 0.0})
    )
    assert torch.equal(said, told) and torch.equal(said[:-8], even.features[8:]), "speech is late by 160 ms"
    assert torch.equal(none, even.features)


def test_a_stretch_and_its_resting_frames_are_mirrored_together() -> None:
    crooked = torch.rand(1, 478, 2, generator=torch.Generator().manual_seed(0)).expand(30, -1, -1)
    take = Take("a", "a", "a", crooked, torch.arange(60.0)[:, None], torch.arange(3))
    batch = Sampler([take], tokens=500).draw(np.random.default_rng(0))
    assert (batch.features[:, 0] % 2 == 0).all() and len(batch.features[:, 0].unique()) > 2, "two to a frame"
    assert torch.equal(batch.rest[:, 0], batch.landmarks[:, 0])
    torch.testing.assert_close(batch.upper_mean, batch.landmarks[:, 0, landmark_set("prefix")])
    assert len(batch.landmarks[:, 0, 0].unique(dim=0)) == 2, "some are mirrored"


def test_features_are_computed_once(tmp_path: Path) -> None:
    write_clip(tmp_path, "train", 0, 0)
    first = load_takes(read_clips(tmp_path), level, tmp_path / "cache", VERSIONS)
    again = load_takes(read_clips(tmp_path), lambda _: pytest.fail("encoded again"), tmp_path / "cache", VERSIONS)
    assert all(torch.equal(a.features, b.features) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("late", [0.2, -0.2])
def test_speech_that_is_moved_does_not_come_in_again_at_the_other_end(tmp_path: Path, late: float) -> None:
    clips = read_clips(write_clip(tmp_path, "train", 0, 0).parent)
    (kept,), (moved,) = (
        load_takes(clips, level, tmp_path / "cache", offsets={clips[0].path.stem: by}) for by in (0.0, late)
    )
    assert len(moved.features) == len(kept.features)
    one, other = (kept, moved) if late > 0 else (moved, kept)
    assert torch.equal(one.features[10:], other.features[:-10])
    end = slice(-10, None) if late > 0 else slice(0, 10)
    assert torch.equal(moved.features[end], kept.features[-1 if late > 0 else 0].expand(10, -1))
