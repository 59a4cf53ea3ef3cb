"""A folder of two talking clips that may be shown to anybody: the demo actor's head, and its mirror image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import NAMES, save_tiny_weights, tones

from comfyui_mytalk.evaluation.talks import Talk, read_talk
from comfyui_mytalk.landmarks.track import load_face_landmarker
from comfyui_mytalk.speech.audio import Audio
from comfyui_mytalk.video.reader import VideoReader
from comfyui_mytalk.video.writer import VideoWriter

ACTOR = Path(__file__).parents[2] / "demo" / "actor.mp4"
FPS, FRAMES = 25, 20


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    frames = np.concatenate([frames for frames, _ in VideoReader(ACTOR, duration=FRAMES / FPS).chunks(16)])
    frames = np.ascontiguousarray(frames[:, ::2, ::2])
    audio = Audio(tones(FRAMES / FPS), 16_000)
    for name, pictures in (("actor", frames), ("mirrored", np.ascontiguousarray(frames[:, :, ::-1]))):
        with VideoWriter(folder / f"{name}.mp4", 256, 256, FPS, audio=audio, crf=16) as writer:
            writer.write(pictures)
    return folder


@pytest.fixture(scope="session")
def talk(clips: Path) -> Talk:
    return read_talk(clips / "actor.mp4", load_face_landmarker("cpu"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name weights which know nothing."""
    folder = tmp_path_factory.mktemp("weights")
    save_tiny_weights(folder)
    options = {"speech-encoder": "speech", "identity": "identity", "motion": "motion", "appearance": "appearance"}
    options["sync-judge"] = "sync_judge"
    return [f"--{option}={folder / NAMES[kind]}.safetensors" for option, kind in options.items()]
