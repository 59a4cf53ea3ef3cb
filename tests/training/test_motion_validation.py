"""What the motion trainer validates on: found before training, and a bounded part of it each time."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training.motion import load_splits
from tests.motion.test_training import loudness
from tests.synthetic_clips import write_clip


def test_nothing_to_validate_on_is_found_before_training(tmp_path: Path) -> None:
    write_clip(tmp_path, "train", 0, 0, frames=60)
    write_clip(tmp_path, "val", 1, 0, frames=12)
    args = Namespace(data=str(tmp_path), cache=str(tmp_path / "cache"), offsets=None, versions=1)
    with pytest.raises(InputError, match="none of the 1 clips can be used"):
        load_splits(args, loudness)
