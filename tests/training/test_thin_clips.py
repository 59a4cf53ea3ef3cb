"""Thinned clips are prepared clips, only fewer frames of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from comfyui_mytalk.training.appearance_data import ClipView
from comfyui_mytalk.training.clips import read_clips
from scripts import thin_clips
from tests.synthetic_clips import write_clips


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("prepared"), identities=2, takes=1, frames=40)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["thin_clips", *arguments])
    return thin_clips.main()


def test_frames_keep_their_landmarks_pictures_and_places(data, tmp_path, monkeypatch):
    assert run(monkeypatch, str(data), str(tmp_path), "--most", "15", "--quality", "95") == 0
    for whole, part in zip(read_clips(data), read_clips(tmp_path), strict=True):
        kept = whole.found.nonzero()[::3, 0]
        assert len(part) == len(kept) <= 15 and part.found.all()
        assert (part.identity, part.metadata["split"]) == (whole.identity, whole.metadata["split"])
        assert torch.equal(part.points, whole.points[kept]) and torch.equal(part.times, whole.times[kept])
        before, after = ClipView(whole), ClipView(part)
        torch.testing.assert_close(after.points, before.points[kept])
        for frame in (0, len(kept) - 1):
            pictures = (clip.crop(int(at)).float() for clip, at in ((part, frame), (whole, kept[frame])))
            assert (next(pictures) - next(pictures)).abs().mean() < 2


def test_the_folder_to_read_from_is_not_written_to(data, monkeypatch, capsys):
    before = {path: path.read_bytes() for path in data.iterdir()}
    assert run(monkeypatch, str(data), str(data)) == 2
    assert "name another" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in data.iterdir()} == before
    assert run(monkeypatch, str(data), str(data / "other"), "--most", "0") == 2
    assert "--most 0" in capsys.readouterr().err
