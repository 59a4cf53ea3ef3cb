"""`evaluate` scores what ships: what lies in front of the face stays as filmed, and no mouth is painted from it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import tones

from comfyui_mytalk.appearance.occlusion import OcclusionNet, load_occlusion, occlusion_config
from comfyui_mytalk.checkpoints import save_checkpoint
from comfyui_mytalk.cli import main
from comfyui_mytalk.evaluation import methods
from comfyui_mytalk.evaluation.clips import find_clips
from comfyui_mytalk.evaluation.evaluate import add_arguments, describe_settings
from comfyui_mytalk.evaluation.methods import ORIGINAL, OURS, Studio, WithoutNetwork
from comfyui_mytalk.evaluation.run import Run
from comfyui_mytalk.evaluation.score import identical_outside
from comfyui_mytalk.evaluation.talks import RECONSTRUCTION, UNPAIRED, Case, Talk
from comfyui_mytalk.options import SyncOptions
from comfyui_mytalk.speaking import Spoken
from comfyui_mytalk.speech.audio import Audio
from comfyui_mytalk.video.writer import VideoWriter

CHIN, LIPS = 152, 14
HALF, COVERED = 10, slice(6, 14)


class Grey(WithoutNetwork):
    """Paints grey wherever it is let."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return torch.full_like(super().forward(*inputs), 0.5)


def with_ball(talk: Talk, point: int, frames: slice = COVERED, reach: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """The talk's pictures with a dark microphone over a landmark in some of them, and where it is."""
    pictures = talk.frames()
    ball = torch.zeros(pictures.shape[:3], dtype=torch.bool)
    rows, columns = (torch.arange(side) + 0.5 for side in pictures.shape[1:3])
    for frame in range(len(pictures))[frames]:
        x, y = talk.track.points[frame, point, :2]
        radius = reach * (talk.track.points[frame, 454, 0] - talk.track.points[frame, 234, 0])
        ball[frame] = (columns - x) ** 2 + (rows[:, None] - y) ** 2 < radius**2
    pictures[ball] = 20
    return pictures, ball


@pytest.fixture(scope="module")
def net() -> OcclusionNet:
    return load_occlusion()


def studio(net: OcclusionNet | None) -> Studio:
    return Studio(SimpleNamespace(appearance=Grey(warp=True), occlusion=net), SyncOptions())


@pytest.mark.parametrize("method", [OURS, "landmark regression"])
def test_a_microphone_stays_as_filmed_whoever_paints(talk: Talk, net: OcclusionNet, method: str) -> None:
    pictures, ball = with_ball(talk, CHIN)
    apart = {}
    for name, sees in (("kept", net), ("painted over", None)):
        case = Case(RECONSTRUCTION, talk, talk, pictures)
        made = studio(sees).make(case, method)
        apart[name] = (made.frames.int() - pictures.int())[ball].abs().float().mean()
        assert identical_outside(case, made.frames, made.mask) == 1
    assert apart["kept"] < 0.2 * apart["painted over"]


def test_a_microphone_stays_where_the_source_is_shifted(
    talk: Talk, net: OcclusionNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "speak_in_style", lambda models, track, *rest, **given: Spoken(track, None))
    pictures, ball = with_ball(talk, CHIN)
    turn = -round(methods.SHIFT * talk.fps)
    apart = []
    for sees in (net, None):
        made = studio(sees).make_shifted(Case(UNPAIRED, talk, talk, pictures)).frames
        apart.append((made.int() - pictures.roll(turn, 0).int())[ball.roll(turn, 0)].abs().float().mean())
    assert apart[0] < 0.2 * apart[1]


def test_each_half_is_painted_from_bare_lips_of_the_other(talk: Talk, net: OcclusionNet) -> None:
    case = Case(RECONSTRUCTION, talk, talk, with_ball(talk, LIPS)[0])
    studio(net).make(case, OURS)
    references = {start: set(bank.frames.tolist()) for (start, _, _), bank in case.banks.items()}
    assert references[0] and references[0] <= set(range(COVERED.stop, len(talk)))
    assert references[HALF] and references[HALF] <= set(range(COVERED.start))


def test_a_covered_chin_is_filled_from_the_half_that_may_be_shown(talk: Talk, net: OcclusionNet) -> None:
    """The first half's chins are covered, some of the second's too: references of the first lose the microphone."""
    pictures, _ = with_ball(talk, CHIN, slice(0, 17), reach=0.16)
    darkest = {}
    for name, sees in (("filled", net), ("as filmed", None)):
        case = Case(RECONSTRUCTION, talk, talk, pictures)
        studio(sees).make(case, OURS)
        bank = case.banks[0, HALF, 0]
        darkest[name] = bank.crops[:, :, 200:206, 120:136].float().mean((1, 2, 3)).min()
    assert darkest["as filmed"] < 30 and darkest["filled"] > 50


def test_the_face_is_looked_at_once_for_protocols_that_show_the_same_talk(
    talk: Talk, net: OcclusionNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    monkeypatch.setattr(methods, "see_occlusions", lambda models, source, track: looks.append(track))
    shows, pictures = studio(net), talk.frames()
    for seen in (talk, talk, talk.cut(15)):
        shows.see(Case(RECONSTRUCTION, seen, seen, pictures[: len(seen)]))
    assert [len(track) for track in looks] == [20, 15]


@pytest.fixture
def both(clips: Path, talk: Talk, tmp_path: Path) -> Path:
    """The actor bare, and with a microphone."""
    folder = tmp_path / "both"
    folder.mkdir()
    for name, pictures in (("bare", talk.frames()), ("covered", with_ball(talk, CHIN)[0])):
        with VideoWriter(folder / f"{name}.mp4", 256, 256, 25, Audio(tones(0.8), 16_000), crf=10) as writer:
            writer.write(pictures.numpy())
    return folder


def test_evaluate_keeps_what_sync_keeps_and_can_be_told_not_to(both: Path, weights: list[str], tmp_path: Path) -> None:
    """Of a clip without anything in front of the face the figures are the same to the last digit."""
    command = ["evaluate", str(both), "-o", str(tmp_path), "--protocols=reconstruction", "--methods", OURS]
    about, figures = [], {}
    for flags in ([], ["--no-keep-occlusions"]):
        assert main([*command, "--duration=0.6", *weights, *flags]) == 0
        report = json.loads((tmp_path / "report.json").read_text())
        about.append(report["about"])
        for clip in ("bare", "covered"):
            of_clip = {name: of["per_clip"].get(f"{clip}.mp4") for name, of in report["reconstruction"][OURS].items()}
            figures.setdefault(clip, []).append({name: value for name, value in of_clip.items() if value is not None})
    assert [said["keep occlusions"] for said in about] == [True, False]
    assert about[0]["weights occlusion"].startswith(f"occlusion_small, sha256 {load_occlusion().sha256[:12]}")
    assert "weights occlusion" not in about[1], "no network that took no part is named"
    assert figures["bare"][0] == figures["bare"][1]
    kept, painted = figures["covered"]
    assert kept["psnr"] > painted["psnr"] + 1 and kept["identical_outside"] == 1
    assert len(list((tmp_path / "clips").iterdir())) == 4, "kept results of the one are none of the other"


def test_kept_results_are_those_of_the_occlusion_weights(
    clips: Path, weights: list[str], net: OcclusionNet, tmp_path: Path
) -> None:
    changed = tmp_path / "other.safetensors"
    bias = {"last.bias": net.last.bias.detach() + 1}
    save_checkpoint(changed, net.state_dict() | bias, "occlusion", occlusion_config(net))
    found, names = find_clips(clips), set()
    for flags in ([], [f"--occlusion={changed}"], ["--no-keep-occlusions"]):
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        args = parser.parse_args([str(clips), *flags, *weights])
        settings = describe_settings(args, [OURS], SimpleNamespace(speech=SimpleNamespace(sha256=64 * "0")))
        names.add(Run(found, [RECONSTRUCTION], [OURS], None, None, None, None, tmp_path, settings).kept(found[0]))
    assert len(names) == 3


def test_missing_occlusion_weights_are_named_before_any_work(
    clips: Path, weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(clips), "-o", str(tmp_path / "r"), "--occlusion=gone", *weights]
    assert main(command) == 2
    assert "gone" in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "r").exists()
    assert main([*command, "--protocols=paired", "--methods", ORIGINAL, "--duration=0.6"]) == 0, "nothing is painted"
