"""Prepared clips as the trainers read them: what is wrong with a file is said, with its name."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training.clips import (
    PreparedClip,
    check_offsets,
    content_key,
    read_clip,
    read_clips,
    read_offsets,
    spoken_clips,
)
from tests.synthetic_clips import write_clip, write_clips


def named(*names: str) -> list[PreparedClip]:
    return [SimpleNamespace(path=Path(f"{name}.safetensors")) for name in names]


def test_offsets_are_seconds_that_speech_is_late(tmp_path: Path) -> None:
    """The judge's rows say in frames by how much the picture is late; those that it is not sure of are null."""
    late = {"offset_frames": -5, "confidence": 3.0}
    file = tmp_path / "offsets.json"
    file.write_text(json.dumps({"a": 0.08, "b": 0, "c": late, "d": late | {"offset_frames": None}}))
    assert read_offsets(file) == {"a": 0.08, "b": 0.0, "c": 0.2}


@pytest.mark.parametrize(
    "content",
    [None, "no json", "[0.1]", "7", "{}", '{"a": "0.1"}', '{"a": true}', '{"a": NaN}', '{"a": {}}', '{"a": null}'],
)
def test_offsets_that_are_none_are_refused(tmp_path: Path, content: Any) -> None:
    if content is not None:
        (tmp_path / "offsets.json").write_text(content)
    with pytest.raises(InputError, match=r"the offsets .*offsets\.json.* expected JSON such as"):
        read_offsets(tmp_path / "offsets.json")


def test_offsets_are_read_for_clips_or_are_none(tmp_path: Path) -> None:
    (tmp_path / "offsets.json").write_text('{"a": 0.1}')
    assert read_offsets(None, named("a")) == {} and read_offsets(tmp_path / "offsets.json", named("a")) == {"a": 0.1}
    with pytest.raises(InputError, match="none of the 1 clips"):
        read_offsets(tmp_path / "offsets.json", named("b"))


def test_offsets_of_other_clips_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    check_offsets(None, named("a"))
    check_offsets({"a": 0.1, "x": 0.1}, named("a"))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        check_offsets({"a": 0.1}, named("a", "b", "c"))
    assert "1 of 3 clips have an offset" in caplog.text
    with pytest.raises(InputError, match="none of the 2 clips has an offset: expected names such as a, got x"):
        check_offsets({"x": 0.1}, named("a", "b"))


def change(path: Path, **tensors: torch.Tensor) -> PreparedClip:
    """The clip at `path` with other tensors, written and read again."""
    save_file(load_file(path) | tensors, path, read_clip(path).metadata)
    return read_clip(path)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists what a process has mapped")
def test_clips_that_were_read_are_not_kept_mapped(tmp_path: Path) -> None:
    """A process may map some 65,000 files, and the tensors of one kept it mapped."""
    clips = read_clips(write_clips(tmp_path, 2, 1))
    shapes = [(clip.points.shape, clip.canonical.shape, clip.speech.shape, clip.crop(3).shape) for clip in clips]
    assert shapes[0] == ((50, 478, 3), (50, 478, 3), (32000,), (3, 64, 64))
    assert len(clips[0]) == 50 and clips[0].samples == 32000
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("size", [0, 5, 3000])
def test_a_truncated_clip_is_named(tmp_path: Path, size: int) -> None:
    path = write_clip(tmp_path, "train", 0, 0)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=rf"cannot read the prepared clip .*{path.name}.*delete it and run"):
        read_clips(tmp_path)


def test_an_empty_split_says_what_is_there_and_what_it_takes(tmp_path: Path) -> None:
    write_clip(tmp_path, "train", 0, 0)
    write_clip(tmp_path, "train", 0, 1)
    with pytest.raises(InputError, match=r"no val clips in .*, where 2 train clips of 1 person are: .* at least two"):
        read_clips(tmp_path, "val")
    with pytest.raises(InputError, match="no prepared clips in .*nothing; run"):
        read_clips(tmp_path / "nothing", "val")


def test_clips_without_sound_or_face_are_left_out_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, silent, faceless = (read_clip(write_clip(tmp_path, "train", 0, take)) for take in range(3))
    silent = change(silent.path, speech=torch.zeros(0, dtype=torch.int16))
    faceless = change(faceless.path, found=torch.arange(50) < 39)
    assert spoken_clips([good]) == [good] and not caplog.records
    assert spoken_clips([good, silent, faceless]) == [good]
    assert "left out 2 of 3 clips: 1 without sound, 1 with a face in less than 80% of their frames" in caplog.text


def test_a_key_follows_the_content() -> None:
    one = torch.arange(6)
    assert content_key(one, "a") == content_key(one.clone(), "a")
    assert len({content_key(one), content_key(one, "a"), content_key(one, "b"), content_key(one + 1, "a")}) == 4
