"""The whole of `evaluate` on a clip of the demo actor, with weights that know nothing, and its known answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import NAMES, save_tiny_weights, tones

from comfyui_mytalk.cli import main
from comfyui_mytalk.evaluation.evaluate import Talk, compare_motion, compare_pictures, read_talk
from comfyui_mytalk.landmarks.track import load_face_landmarker
from comfyui_mytalk.speech.audio import Audio
from comfyui_mytalk.video.reader import VideoReader
from comfyui_mytalk.video.writer import VideoWriter

ACTOR = Path(__file__).parents[2] / "demo" / "actor.mp4"
FPS, FRAMES = 25, 36


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo actor's head at half size and tones for a voice."""
    folder = tmp_path_factory.mktemp("clips")
    frames = np.concatenate([frames for frames, _ in VideoReader(ACTOR, duration=FRAMES / FPS).chunks(16)])
    audio = Audio(tones(FRAMES / FPS), 16_000)
    with VideoWriter(folder / "actor.mp4", 256, 256, FPS, audio=audio, crf=16) as writer:
        writer.write(np.ascontiguousarray(frames[:, ::2, ::2]))
    return folder


@pytest.fixture(scope="module")
def talk(clips: Path) -> Talk:
    return read_talk(clips / "actor.mp4", load_face_landmarker("cpu"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name weights which know nothing."""
    folder = tmp_path_factory.mktemp("weights")
    save_tiny_weights(folder)
    options = {"speech-encoder": "speech", "identity": "identity", "motion": "motion", "appearance": "appearance"}
    return [f"--{option}={folder / NAMES[kind]}.safetensors" for option, kind in options.items()]


def test_a_clip_against_itself(talk: Talk) -> None:
    pictures = compare_pictures(talk.frames, talk)
    assert pictures == pytest.approx({"psnr_mouth": 100, "ssim_mouth": 1, "sharpness": 1}, abs=1e-3)
    motion = compare_motion(talk.track, talk.track)
    assert motion["lag_frames"] == 0
    assert motion["opening_correlation"] == pytest.approx(1)
    assert motion["articulation"] == pytest.approx(1)
    assert motion["lip_distance_cm"] == 0


def test_a_mouth_five_frames_late_has_lag_five(talk: Talk) -> None:
    motion = compare_motion(talk.track.replace(points=talk.track.points.roll(5, 0)), talk.track)
    assert motion["lag_frames"] == 5
    assert motion["best_lag_correlation"] > motion["opening_correlation"]


def test_noise_in_the_mouth_lowers_the_picture_figures(talk: Talk) -> None:
    noise = torch.randint(-20, 21, talk.frames.shape, generator=torch.Generator().manual_seed(0))
    noisy = (talk.frames.int() + noise).clamp(0, 255).byte()
    figures = compare_pictures(noisy, talk)
    assert 20 < figures["psnr_mouth"] < 35
    assert figures["ssim_mouth"] < 0.95
    assert figures["sharpness"] > 1.1


def test_evaluate_writes_a_report_for_each_method(clips: Path, weights: list[str], tmp_path: Path) -> None:
    code = main(["evaluate", str(clips), "-o", str(tmp_path / "report"), "--duration=0.6", "--steps=2", *weights])
    assert code == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert set(report["paired"]) == {"mytalk", "static mouth", "audio energy"}
    ours = report["paired"]["mytalk"]
    assert ours["identical_outside"]["per_clip"] == {"actor.mp4": 1.0}
    assert ours["psnr_mouth"]["median"] < 60, "an untrained network cannot be right"
    assert report["paired"]["static mouth"]["articulation"]["median"] < 1e-3


def test_a_folder_of_silent_clips_is_bad_input(
    weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with VideoWriter(tmp_path / "silent.mp4", 64, 64, FPS) as writer:
        writer.write(np.zeros((5, 64, 64, 3), np.uint8))
    assert main(["evaluate", str(tmp_path), "-o", str(tmp_path / "report"), *weights]) == 2
    assert not (tmp_path / "report").exists()
    assert "has no sound" in capsys.readouterr().err.splitlines()[-1]
