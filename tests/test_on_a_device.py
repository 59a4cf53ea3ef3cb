"""The whole pipeline on an accelerator, as far as a machine without one can tell (`support/pretended_device.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from comfyui_mytalk.geometry import geometry
from comfyui_mytalk.landmarks.track import track_faces
from comfyui_mytalk.models import load_models
from comfyui_mytalk.options import SyncOptions
from comfyui_mytalk.pipeline import render_clip
from comfyui_mytalk.speaking import speak_in_style
from comfyui_mytalk.speech.audio import fit_audio, read_audio
from comfyui_mytalk.sync import see_occlusions, show_references
from comfyui_mytalk.video.reader import VideoReader
from tests.support.pretended_device import DEVICE, PretendedDevice

DEMO = Path(__file__).parents[1] / "demo"
SECONDS = 0.2


def spoken(device: str, dtype: str) -> tuple[Tensor, Tensor]:
    """Landmarks `(f, 478, 3)` and frames `(f, h, w, 3)` of the demo."""
    options = SyncOptions(device=device, duration=SECONDS, dtype=dtype, steps=3)
    models, film = load_models(options), VideoReader(DEMO / "actor.mp4", 0.0, SECONDS)
    track = track_faces(film.chunks(4), models.landmarker)
    before = see_occlusions(models, film, track)
    motion = speak_in_style(models, track, fit_audio(read_audio(DEMO / "speech.wav"), SECONDS), options).track
    bank = show_references(film, track, options, occlusion=before)
    parts = render_clip(models.appearance, film, motion, geometry(track, motion), bank, 4, occlusion=before)
    return motion.points, torch.cat([frames.float() for frames, _, _ in parts])


@pytest.mark.parametrize(("dtype", "levels"), [("float32", 2.0), ("bfloat16", 12.0)])
def test_no_step_mixes_devices_and_all_give_what_the_cpu_gives(dtype: str, levels: float) -> None:
    with PretendedDevice() as device:
        points, frames = spoken(DEVICE, dtype)
    assert device.runs > 2000
    points_here, frames_here = spoken("cpu", "float32")
    assert torch.allclose(points, points_here, atol=0.01)
    assert (frames - frames_here).abs().max() <= levels


def test_the_pretence_is_strict() -> None:
    with PretendedDevice():
        there, here = torch.ones(2, 3, device=DEVICE), torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="two devices"):
            there + here
        with pytest.raises(TypeError, match="double precision"):
            there.double()
        with pytest.raises(NotImplementedError, match="Apple"):
            grid = torch.zeros(1, 2, 2, 2, device=DEVICE)
            torch.nn.functional.grid_sample(there[None, None], grid, "bicubic", align_corners=False)
        assert torch.equal((there[torch.tensor([0])] + here.to(DEVICE)[:1]).cpu(), torch.full((1, 3), 2.0))
