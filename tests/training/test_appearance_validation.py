"""What the appearance trainer validates on: found before training, and no more of it in memory than is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyui_mytalk.appearance.params import AppearanceParams
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training.appearance_validation import check_validation, validation_samples
from comfyui_mytalk.training.clips import PreparedClip, read_clip
from tests.synthetic_clips import write_clip

PARAMS = AppearanceParams(size=64, references=3)


@pytest.fixture
def clip(tmp_path: Path) -> PreparedClip:
    return read_clip(write_clip(tmp_path, "val", 0, 0, frames=40))


def test_clips_that_cannot_be_scored_are_found_before_training(clip: PreparedClip, tmp_path: Path) -> None:
    check_validation([clip], PARAMS)
    short = read_clip(write_clip(tmp_path, "val", 1, 0, frames=20))
    small = read_clip(write_clip(tmp_path, "val", 2, 0, frames=40))
    small.metadata["face_px"] = "80"
    check_validation([short, small, clip], PARAMS)
    with pytest.raises(InputError, match=r"no usable validation clip: of 2, 1 show a face smaller .* 1 have fewer"):
        check_validation([short, small], PARAMS)
    check_validation([], PARAMS)  # `--validate-clips 0`


def test_what_is_checked_is_what_is_scored(clip: PreparedClip) -> None:
    """A face in one half alone gives targets without references, or references without targets."""
    for hidden in (slice(0, 18), slice(0, 17), slice(20, 39), slice(20, 38)):
        clip.found[:] = True
        clip.found[hidden] = False
        if list(validation_samples([clip], PARAMS, 2)):
            check_validation([clip], PARAMS, 2)
        else:
            with pytest.raises(InputError, match="no usable validation clip"):
                check_validation([clip], PARAMS, 2)
