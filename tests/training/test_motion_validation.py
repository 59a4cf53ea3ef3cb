"""What the motion trainer validates on: found before training, and a bounded part of it each time."""

from __future__ import annotations

import pytest

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training.motion_validation import check_validation


def test_nothing_to_validate_on_is_found_before_training() -> None:
    with pytest.raises(InputError, match="no usable validation clip in some/folder"):
        check_validation([], "some/folder")
