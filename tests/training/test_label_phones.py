"""scripts/label_phones.py where the recogniser that only it needs is not installed."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from comfyui_mytalk.training.clips import read_clip, read_clips
from scripts import label_phones
from tests.synthetic_clips import write_clips

SCRIPT = Path(__file__).parents[2] / "scripts" / "label_phones.py"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """The script as a program that finds no pocketsphinx: its exit code, and what it said and complained of."""
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["label_phones", *arguments])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return stop.value.code, *capsys.readouterr()

    return run


def test_help_needs_no_recogniser(run) -> None:
    code, said, complained = run("--help")
    assert code == 0 and "folder of prepared clips" in said and not complained


def test_what_is_missing_is_one_line_with_its_remedy(run, tmp_path: Path) -> None:
    code, _, complained = run(str(tmp_path), "-o", str(tmp_path / "phones.json"))
    assert code == 2 and complained.splitlines()[-1].endswith("pip install pocketsphinx")
    assert not (tmp_path / "phones.json").exists()


def test_a_clip_without_sound_is_not_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = write_clips(tmp_path / "clips", 2, 1)
    silent = min(clips.glob("train*"))
    metadata = read_clip(silent).metadata
    save_file(load_file(silent) | {"speech": torch.zeros(0, dtype=torch.int16)}, silent, metadata)
    heard = [("M", 0, 99)]
    stub = SimpleNamespace(label=lambda speech, grid: (heard, heard) if speech.abs().max() > 0 else None)
    monkeypatch.setattr(label_phones, "Recogniser", lambda: stub)
    monkeypatch.setattr("sys.argv", ["label_phones", str(clips), "-o", str(tmp_path / "phones.json")])
    label_phones.main()
    assert list(json.loads((tmp_path / "phones.json").read_text())) == ["train__1_0"]


@pytest.mark.parametrize("wrong", ["no folder", "no speech"])
def test_what_cannot_work_is_refused_before_anybody_listens(wrong, tmp_path: Path, monkeypatch, capsys) -> None:
    clips, output = write_clips(tmp_path / "clips", 2, 1), tmp_path / "phones.json"
    if wrong == "no speech":
        monkeypatch.setattr(label_phones, "NOT_ENGLISH", {clip.corpus for clip in read_clips(clips)})
    else:
        output = tmp_path / "none" / "phones.json"
    monkeypatch.setattr(label_phones, "Recogniser", lambda: SimpleNamespace(label=lambda *_: pytest.fail("listened")))
    monkeypatch.setattr("sys.argv", ["label_phones", str(clips), "-o", str(output)])
    with pytest.raises(SystemExit):
        label_phones.main()
    said = {"no folder": "there is no folder", "no speech": "no train clip"}[wrong]
    assert said in capsys.readouterr().err and not output.exists()
