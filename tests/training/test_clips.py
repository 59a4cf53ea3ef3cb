"""Prepared clips as the trainers read them: what is wrong with a file is said, with its name."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training.clips import PreparedClip, check_offsets, read_offsets


def named(*names: str) -> list[PreparedClip]:
    return [SimpleNamespace(path=Path(f"{name}.safetensors")) for name in names]


def test_offsets_are_seconds_that_speech_is_late(tmp_path: Path) -> None:
    """The judge's rows say in frames by how much the picture is late; those that it is not sure of are null."""
    late = {"offset_frames": -5, "confidence": 3.0}
    file = tmp_path / "offsets.json"
    file.write_text(json.dumps({"a": 0.08, "b": 0, "c": late, "d": late | {"offset_frames": None}}))
    assert read_offsets(file) == {"a": 0.08, "b": 0.0, "c": 0.2}


@pytest.mark.parametrize(
    "content",
    [None, "no json", "[0.1]", "7", "{}", '{"a": "0.1"}', '{"a": true}', '{"a": NaN}', '{"a": {}}', '{"a": null}'],
)
def test_offsets_that_are_none_are_refused(tmp_path: Path, content: Any) -> None:
    if content is not None:
        (tmp_path / "offsets.json").write_text(content)
    with pytest.raises(InputError, match=r"the offsets .*offsets\.json.* expected JSON such as"):
        read_offsets(tmp_path / "offsets.json")


def test_offsets_of_other_clips_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    check_offsets(None, named("a"))
    check_offsets({"a": 0.1, "x": 0.1}, named("a"))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        check_offsets({"a": 0.1}, named("a", "b", "c"))
    assert "1 of 3 clips have an offset" in caplog.text
    with pytest.raises(InputError, match="none of the 2 clips has an offset: expected names such as a, got x"):
        check_offsets({"x": 0.1}, named("a", "b"))
