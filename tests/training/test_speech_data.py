"""Real clips of the speech trainer: those without a face or sound are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.speech_data import COMPONENTS, IGNORED, mouth_clips, mouth_space
from tests.synthetic_clips import write_clips


def test_clips_without_face_or_sound_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips = read_clips(write_clips(tmp_path, 1, 4), "train")
    space, offsets, phones = mouth_space(clips), {clips[3].path.stem: 0.1}, {clips[3].path.stem: [3, 4]}
    clips[0].samples, clips[1].found[8:] = 9600, False
    plain, mended = mouth_clips(clips, space, offsets, phones)
    assert "left out 2 of 4 clips: 1 with 0.6 s of sound or less, 1 with 8 frames of a face or less" in caplog.text
    assert plain.clip is clips[2] and mended.mouth.shape == (50, COMPONENTS + 1)
    assert (mended.times - plain.times == pytest.approx(0.1)) and len(plain.phones) == 100
    assert mended.phones[:3].tolist() == [3, 4, IGNORED] and (plain.phones == IGNORED).all()
    assert torch.tensor(plain.mel).isfinite().all()
