"""scripts/align_clips.py and scripts/estimate_offsets.py: what does not serve is left out, what is wrong is a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from comfyui_mytalk.evaluation.sync_judge import PRESETS, SyncJudge
from comfyui_mytalk.training.clips import read_clip, read_offsets
from scripts import align_clips, estimate_offsets
from tests.synthetic_clips import write_clips


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four clips, the first of them silent."""
    folder = write_clips(tmp_path / "clips", 2, 1, frames=60)
    first = min(folder.iterdir())
    metadata = read_clip(first).metadata
    save_file(load_file(first) | {"speech": torch.zeros(0, dtype=torch.int16)}, first, metadata)
    return folder


@pytest.fixture(params=[align_clips, estimate_offsets])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """A script with stand-ins for its networks."""
    monkeypatch.setattr(align_clips, "load_speech_encoder", lambda _: loudness)
    monkeypatch.setattr(estimate_offsets, "load_sync_judge", lambda _: SyncJudge(PRESETS["tiny"]).eval())

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr("sys.argv", [request.param.__name__, *map(str, arguments)])
        return request.param.main()

    return run


def loudness(speech: Tensor) -> Tensor:
    """Stand-in speech features `(s, 2)`."""
    level = speech[: len(speech) // 640 * 640].view(-1, 320).std(1)
    return torch.stack([level, level.diff(append=level[-1:])], 1) * 20


def test_a_silent_clip_is_left_out_and_the_file_is_what_trainers_read(run, data, tmp_path, caplog) -> None:
    assert run(data, "-o", tmp_path / "offsets.json") == 0
    assert "left out 1 of 4 clips: 1 without sound" in caplog.text
    assert sorted(json.loads((tmp_path / "offsets.json").read_text())) == ["train__1_0", "val__0_0", "val__1_0"]
    assert all(abs(seconds) <= 0.6 for seconds in read_offsets(tmp_path / "offsets.json").values())


def test_what_is_wrong_is_one_line(run, data, tmp_path, capsys) -> None:
    assert run(tmp_path / "none", "-o", tmp_path / "offsets.json") == 2
    assert "error: no prepared clips in" in capsys.readouterr().err
    assert run(data, "-o", tmp_path / "none" / "offsets.json") == 2
    assert "there is no folder" in capsys.readouterr().err
    for clip in data.glob("train__1*"):
        clip.unlink()
    for clip in data.glob("val*"):
        clip.unlink()
    assert run(data, "-o", tmp_path / "offsets.json") == 2 and "error: no" in capsys.readouterr().err
    assert not (tmp_path / "offsets.json").exists()
