"""The report of a run: what it says of the frames and of the style reference."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion import reference
from comfyui_mytalk.options import SyncOptions
from comfyui_mytalk.report import report
from comfyui_mytalk.speech.audio import Audio
from comfyui_mytalk.sync import sync_video
from comfyui_mytalk.video.reader import VideoReader
from comfyui_mytalk.video.writer import VideoWriter

DEMO = Path(__file__).parents[1] / "demo"
RATE = 16_000


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few frames of the actor, with a sound."""
    path, source = tmp_path_factory.mktemp("film") / "film.mp4", VideoReader(DEMO / "actor.mp4", 1.4, 0.2)
    sound = Audio(torch.sin(torch.arange(RATE // 5) * 0.3)[None], RATE)
    with VideoWriter(path, source.info.width, source.info.height, 25, sound) as writer:
        for frames, times in source.chunks(8):
            writer.write(frames, times)
    return path


def reported(folder: Path, video: Path, **options: object) -> dict[str, object]:
    chosen = SyncOptions(steps=1, length_mode="trim", duration=0.2, keep_occlusions=False, **options)
    report = sync_video(video, DEMO / "speech.wav", folder / "out.mp4", chosen)
    assert json.loads(json.dumps(report)) == report
    return report["style_reference"]


def test_frames_are_found_interpolated_passed_through_or_covered() -> None:
    found, filled = torch.tensor([1, 0, 1, 0, 0, 1]).bool(), torch.tensor([0, 1, 0, 0, 0, 0]).bool()
    track = FaceTrack(torch.zeros(6, 478, 3), found, torch.arange(6).double(), (4, 8), filled)
    info = SimpleNamespace(width=8, height=4, fps=25)
    given = SimpleNamespace(film=SimpleNamespace(info=info), out=Path("out.mp4"))
    covered = torch.tensor([1, 0, 1, 1, 0, 0]).bool()
    said = report("a.mp4", "b.wav", given, SyncOptions(), track, reference.UNHEARD, torch.tensor([2]), {}, covered)
    counts = {"found": 3, "interpolated": 1, "passed_through": [[3, 4]], "people": 1, "covered": [[0, 0], [2, 3]]}
    assert said["face"] == counts and (said["frames"], said["size"], said["references"]) == (6, [8, 4], [2])


def test_a_film_without_sound_and_one_that_is_not_asked(tmp_path: Path, film: Path) -> None:
    mute = DEMO / "actor.mp4"
    assert reported(tmp_path, mute) == {"clip": str(mute), "used": False, "why": "no sound came with the clip"}
    off = reported(tmp_path, film, style_strength=0.0)
    assert off == {"clip": str(film), "used": False, "why": "style_strength is 0"}


def test_which_clip_was_heard_and_what_became_of_it(tmp_path: Path, film: Path, monkeypatch) -> None:
    short = reported(tmp_path, film)
    assert short == {"clip": str(film), "used": False, "why": "the clip shows its face with sound for less than 1 s"}
    other = reported(tmp_path, DEMO / "actor.mp4", style_video=film)
    assert other == short, "the clip is the style video"
    monkeypatch.setattr(reference, "SHORTEST", 1)
    monkeypatch.setattr(reference, "BELIEVED", -1.0)
    used = reported(tmp_path, film)
    assert used["used"] and used["why"].startswith("the lips say what the clip's sound says (correlation ")
