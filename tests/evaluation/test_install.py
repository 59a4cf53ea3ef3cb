"""What the evaluation says when a package is missing can be done: mytalk is on no package index."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation import perceptual
from comfyui_mytalk.evaluation.arcface import load_arcface
from comfyui_mytalk.evaluation.pictures import require_torchmetrics

PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")


def said(extra: str) -> str:
    assert f"\n{extra} = [" in PROJECT, "there is no such extra"
    return f'pip install -e ".[{extra}]" in the pack\'s folder'


def test_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(InputError) as error:
        require_torchmetrics()
    assert said("eval") in str(error.value)


def test_onnxruntime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "face.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError) as error:
        load_arcface(tmp_path / "face.onnx")
    assert said("eval") in str(error.value)


@pytest.mark.parametrize("available", [perceptual.available_lpips, perceptual.available_fid])
def test_perceptual_metrics(monkeypatch: pytest.MonkeyPatch, available) -> None:
    monkeypatch.setattr(perceptual, "find_spec", lambda _: None)
    assert said("perceptual") in available()
