"""The whole of `evaluate` on clips of the demo actor, with weights that know nothing, and its known answers."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from shutil import copy
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import tones

from comfyui_mytalk.cli import main
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation import evaluate
from comfyui_mytalk.evaluation.clips import find_clips
from comfyui_mytalk.evaluation.methods import METHODS, ORIGINAL, OURS, Studio
from comfyui_mytalk.evaluation.outputs import find_output
from comfyui_mytalk.speech.audio import Audio
from comfyui_mytalk.video.writer import VideoWriter


@pytest.fixture(scope="module")
def report(clips: Path, weights: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "report"
    assert main(["evaluate", str(clips), "-o", str(folder), "--steps=2", "--duration=0.6", *weights]) == 0
    return folder


def test_every_protocol_and_method_is_scored(report: Path) -> None:
    figures = json.loads((report / "report.json").read_text())
    assert set(figures["paired"]) == set(METHODS)
    assert set(figures["unpaired"]) == {OURS, ORIGINAL, "static mouth", "audio energy"}
    assert set(figures["reconstruction"]) == {OURS, ORIGINAL, "nearest frame", "landmark warp", "landmark regression"}
    assert figures["failed"] == {}
    assert set(figures["paired"][OURS]["psnr"]["per_clip"]) == {"actor.mp4", "mirrored.mp4"}
    assert json.loads((report / "pairs.json").read_text()) == {"actor.mp4": "mirrored.mp4", "mirrored.mp4": "actor.mp4"}


def test_known_answers(report: Path) -> None:
    figures = json.loads((report / "report.json").read_text())
    original, ours = figures["paired"][ORIGINAL], figures["paired"][OURS]
    assert original["psnr"]["median"] == 100
    assert original["opening_correlation"]["median"] == pytest.approx(1, abs=1e-6)
    assert original["lag_frames"]["median"] == 0
    assert figures["unpaired"][ORIGINAL]["leak"]["median"] == pytest.approx(1, abs=1e-6)
    assert ours["identical_outside"]["median"] == 1
    assert ours["psnr_mouth"]["median"] < 60, "an untrained network cannot be right"
    assert figures["paired"]["static mouth"]["articulation"]["median"] < 0.5
    assert "psnr" not in figures["unpaired"][OURS], "nobody filmed the right answer"
    assert "shift_stability" in figures["unpaired"][OURS]


def test_no_frame_is_painted_from_itself(report: Path) -> None:
    figures = json.loads((report / "report.json").read_text())
    assert figures["reconstruction"]["nearest frame"]["psnr_mouth"]["median"] < 60


def test_the_page_stands_alone(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert page.count("data:image/png") == page.count("data:image/jpeg") == 6  # two clips in three protocols
    assert "http" not in page and "mirrored.mp4" in page


def test_shards_share_a_folder_and_a_second_run_scores_nothing_again(
    clips: Path, weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(clips), "-o", str(tmp_path), "--protocols=paired", "--methods=original", *weights]
    assert main([*command, "--shard=2/2"]) == 0
    assert not (tmp_path / "report.json").exists() and "1 clips" in capsys.readouterr().out
    (kept,) = (tmp_path / "clips").iterdir()
    marked = json.loads(kept.read_text())
    marked["figures"]["paired"]["original"]["jerk"] = 7.0
    kept.write_text(json.dumps(marked))
    assert main(command) == 0
    jerk = json.loads((tmp_path / "report.json").read_text())["paired"]["original"]["jerk"]["per_clip"]
    assert jerk == {"actor.mp4": 1.0, "mirrored.mp4": 7.0}


def test_two_runs_give_the_same_figures(report: Path, clips: Path, weights: list[str], tmp_path: Path) -> None:
    again = [
        "evaluate",
        str(clips),
        "-o",
        str(tmp_path),
        "--steps=2",
        "--duration=0.6",
        "--protocols",
        "paired",
        "--methods",
        OURS,
    ]
    assert main([*again, *weights]) == 0
    first, second = (json.loads((folder / "report.json").read_text())["paired"][OURS] for folder in (report, tmp_path))
    assert first == second


def test_another_tools_videos_are_scored_beside_the_original(clips: Path, weights: list[str], tmp_path: Path) -> None:
    outputs = tmp_path / "wav2lip"
    outputs.mkdir()
    copy(clips / "actor.mp4", outputs / "actor.mp4")
    command = ["evaluate", str(clips), "-o", str(tmp_path / "r"), "--protocols=paired", f"--outputs={outputs}"]
    assert main([*command, *weights]) == 0
    figures = json.loads((tmp_path / "r" / "report.json").read_text())
    assert set(figures["paired"]) == {"wav2lip", ORIGINAL}
    assert figures["paired"]["wav2lip"]["psnr"]["per_clip"] == {"actor.mp4": 100}
    assert list(figures["failed"]) == ["mirrored.mp4, paired, wav2lip"]
    copy(clips / "mirrored.mp4", outputs / "actor.mp4")  # made anew under the same name: nothing kept may be reused
    assert main([*command, *weights]) == 0
    figures = json.loads((tmp_path / "r" / "report.json").read_text())
    assert figures["paired"]["wav2lip"]["psnr"]["per_clip"]["actor.mp4"] < 40


def test_a_partner_that_cannot_be_read_is_named_and_the_rest_is_scored(
    clips: Path, weights: list[str], tmp_path: Path
) -> None:
    copy(clips / "actor.mp4", tmp_path / "actor.mp4")
    with VideoWriter(tmp_path / "wall.mp4", 64, 64, 25, audio=Audio(tones(0.8), 16_000)) as writer:
        writer.write(np.zeros((20, 64, 64, 3), np.uint8))
    command = ["evaluate", str(tmp_path), "-o", str(tmp_path / "r"), "--protocols", "unpaired", "paired"]
    assert main([*command, "--methods", ORIGINAL, "--duration=0.6", *weights]) == 0
    figures = json.loads((tmp_path / "r" / "report.json").read_text())
    assert set(figures["paired"][ORIGINAL]["psnr"]["per_clip"]) == {"actor.mp4"}
    assert set(figures["failed"]) == {"wall.mp4", "wall.mp4, whose words actor.mp4 was to speak"}


def test_a_method_that_fails_takes_no_other_along(
    clips: Path, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise InputError("no bare lips")

    monkeypatch.setattr(Studio, "make", fail)
    command = ["evaluate", str(clips), "-o", str(tmp_path), "--protocols", "paired", "unpaired", "--limit=2"]
    assert main([*command, "--methods", OURS, ORIGINAL, "--duration=0.6", *weights]) == 0
    figures = json.loads((tmp_path / "report.json").read_text())
    for protocol in ("paired", "unpaired"):
        assert set(figures[protocol]) == {ORIGINAL} and len(figures[protocol][ORIGINAL]["jerk"]["per_clip"]) == 2
        assert figures["failed"][f"actor.mp4, {protocol}, {OURS}"] == "no bare lips"


def test_one_person_alone_has_nobody_elses_words_and_the_page_says_so(
    clips: Path, weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog
) -> None:
    copy(clips / "actor.mp4", tmp_path / "actor.mp4")
    command = ["evaluate", str(tmp_path), "-o", str(tmp_path / "r"), "--methods", OURS, "--duration=0.6", *weights]
    assert main([*command, "--protocols", "reconstruction", "unpaired"]) == 0
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert set(report) == {"about", "failed", "reconstruction"} and set(report["failed"]) == {"unpaired"}
    assert "unpaired is left out: all clips are of one person" in caplog.text
    assert "not scored: unpaired" in (tmp_path / "r" / "report.html").read_text()
    assert report["about"]["references"] == "retrieved" and "other half" in report["about"]["held out"]
    assert main([*command, "--protocols", "unpaired"]) == 2
    assert "nobody else's words" in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_of_silent_clips_is_bad_input(
    weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with VideoWriter(tmp_path / "silent.mp4", 64, 64, 25) as writer:
        writer.write(np.zeros((5, 64, 64, 3), np.uint8))
    assert main(["evaluate", str(tmp_path), "-o", str(tmp_path / "report"), *weights]) == 2
    assert not (tmp_path / "report").exists()
    assert "has no sound" in capsys.readouterr().err.splitlines()[-1]


def test_videos_of_one_protocol_are_not_scored_in_another(
    clips: Path, weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Videos that repeat a clip's own words stood for another person's words too."""
    outputs = tmp_path / "wav2lip"
    outputs.mkdir()
    copy(clips / "actor.mp4", outputs / "actor.mp4")
    command = ["evaluate", str(clips), "-o", str(tmp_path / "r"), f"--outputs={outputs}", "--protocols"]
    assert main([*command, "paired", "unpaired", *weights]) == 2
    assert "holds no folder paired or unpaired" in capsys.readouterr().err
    actor = next(clip for clip in find_clips(clips) if clip.name == "actor.mp4")
    assert find_output(outputs, "paired", actor) == outputs / "actor.mp4"
    (outputs / "unpaired").mkdir()
    assert find_output(outputs, "paired", actor) is None


@pytest.mark.parametrize("option", ["--steps=0", "--seed=-1", "--strength=nan", "--style-strength=-1"])
def test_what_sync_refuses_is_refused_before_any_clip_is_read(
    option: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "load_models", lambda _: pytest.fail("networks are loaded"))
    assert main(["evaluate", str(clips), "-o", str(tmp_path / "r"), option]) == 2
    assert "expected" in capsys.readouterr().err


def test_another_tool_cannot_have_the_name_of_a_method(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of the one would be written over those of the other."""
    (tmp_path / OURS).mkdir()
    assert main(["evaluate", str(clips), "-o", str(tmp_path / "r"), f"--outputs={tmp_path / OURS}"]) == 2
    assert "rename the folder" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["arcface", "syncnet", "lpips", "fid", "speech_encoder"])
def test_what_is_kept_is_kept_of_these_networks(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the same name may be another one, and a backbone that is installed later brings a figure."""
    parser, file = ArgumentParser(), tmp_path / "network"
    evaluate.add_arguments(parser)
    args = parser.parse_args(["clips", *([f"--{what}={file}"] if what in ("arcface", "syncnet") else [])])
    speech, said = SimpleNamespace(sha256="0" * 64), []
    for state in "ab":
        file.write_text(state)
        if what in ("lpips", "fid"):
            monkeypatch.setattr(
                evaluate, f"available_{what}", lambda state=state: None if state == "b" else "no backbone"
            )
        speech.sha256 = (state if what == "speech_encoder" else "0") * 64
        said.append(evaluate.describe_settings(args, [OURS], SimpleNamespace(speech=speech)))
    assert said[0] != said[1]


def test_a_missing_folder_of_outputs_is_named(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(clips), "-o", str(tmp_path / "r"), f"--outputs={tmp_path / 'gone'}"]) == 2
    assert "gone is not a folder" in capsys.readouterr().err
