"""Trainers learn from the train split, are judged by the other one, and move clips as they are told."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from comfyui_mytalk.motion.model import Needs
from comfyui_mytalk.training import appearance, motion
from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.motion_data import CLEAN, VERSIONS
from tests.synthetic_clips import write_clips
from tests.training.test_options import parser_of

READS = {  # what of a trainer is given clips, and of which split first
    "identity": ("gather", ["train", "val"]),
    "occlusion": ("OcclusionBatches", ["val", "train"]),
    "sync-judge": ("load_clips", ["val", "train"]),
    "motion": ("load_takes", ["train", "val"]),
    "speech": ("mouth_clips", ["train", "val"]),
}
LATE = 0.08  # seconds


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_clips(tmp_path_factory.mktemp("prepared"), identities=1, takes=1, frames=12)
    for clip in read_clips(folder, "train"):  # which say otherwise of themselves
        save_file(load_file(clip.path), clip.path, clip.metadata | {"av_offset_ms": "40"})
    return folder


def run(trainer: str, data: Path, folder: Path, *options: str) -> None:
    """The trainer's `main`, which a stand-in ends."""
    fixed = ["--data", str(data), "--run", str(folder), "--steps", "1", "--device", "cpu", *options]
    args = parser_of(trainer).parse_args(fixed + (["--synthetic", "x"] if trainer == "speech" else []))
    with pytest.raises(KeyboardInterrupt):
        import_module(f"comfyui_mytalk.training.{trainer.replace('-', '_')}").main(args)


@pytest.mark.parametrize("trainer", READS)
def test_nobody_is_judged_by_those_who_were_learnt(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: str
) -> None:
    module, calls = import_module(f"comfyui_mytalk.training.{trainer.replace('-', '_')}"), []
    reader, splits = READS[trainer]

    def read(clips: list[Any], *given: Any, **named: Any) -> list[Any]:
        calls.append(({clip.metadata["split"] for clip in clips}, given))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(module, reader, read)
    if trainer == "speech":
        monkeypatch.setattr(module, "read_shards", lambda *_: [])
    moves = any(action.dest == "offsets" for action in parser_of(trainer)._actions)
    (tmp_path / "offsets.json").write_text(json.dumps({"train__0_0": LATE, "val__0_0": LATE}))
    run(trainer, data, tmp_path / "run", *(["--offsets", str(tmp_path / "offsets.json")] if moves else []))
    assert [seen for seen, _ in calls] == [{split} for split in splits]
    learnt = calls[splits.index("train")][1]
    assert not moves or any(isinstance(x, dict) and x.get("train__0_0") == LATE for x in learnt), "moved as told"
    if trainer == "motion":
        assert [given[2] for _, given in calls] == [VERSIONS, (CLEAN,)], "only what is learnt is augmented"
        assert learnt[1].name == learnt[0].sha256[:12], "features of every encoder are kept apart"


def test_pictures_are_judged_by_those_of_other_people(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def batches(_: Any, clips: list[Any], *__: Any) -> None:
        seen["learnt"] = {clip.metadata["split"] for clip in clips}
        raise KeyboardInterrupt

    monkeypatch.setattr(appearance, "batches", batches)
    monkeypatch.setattr(
        appearance, "check_validation", lambda clips, _: seen.update(judged={clip.metadata["split"] for clip in clips})
    )
    run("appearance", data, tmp_path / "run")
    assert seen == {"judged": {"val"}, "learnt": {"train"}}


def test_motion_weights_say_which_networks_they_were_trained_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def train(_: Any, speech: Any, needs: Needs, extractor: Any) -> None:
        told.append((needs, Needs(speech.name, speech.sha256, "identity_small", extractor.sha256)))
        raise KeyboardInterrupt

    monkeypatch.setattr(motion, "train", train)
    run("motion", data, tmp_path / "run")
    ((said, wanted),) = told
    assert said == wanted and said.speech_sha256 and said.identity_sha256
