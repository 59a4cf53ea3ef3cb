"""Weights are averaged and bounded, in a copy that says so."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from comfyui_mytalk.appearance.model import AppearanceModel, load_appearance, model_config
from comfyui_mytalk.appearance.params import PRESETS, AppearanceParams
from comfyui_mytalk.checkpoints import load_checkpoint, save_checkpoint
from comfyui_mytalk.errors import InputError
from scripts.finish_appearance import finish, main

SMALL = replace(PRESETS["small"], channels=32, multipliers=(1, 1), latent=4, fusion_channels=32)


def written(path: Path, params: AppearanceParams) -> str:
    state = {name: tensor.half() for name, tensor in AppearanceModel(params).state_dict().items()}
    save_checkpoint(path, state, "appearance", model_config(params), {"step": "7", "val_psnr": "20"})
    return str(path)


def test_only_the_bound_changes_and_the_file_forgets_its_scores(tmp_path):
    old, new = written(tmp_path / "old.safetensors", SMALL), str(tmp_path / "new.safetensors")
    finish(old, new, bound=0.1)
    before, after = (load_appearance(path).state_dict() for path in (old, new))
    assert all(torch.equal(after[key], value) for key, value in before.items())
    info = load_checkpoint(Path(new), "appearance").info
    assert info["step"] == "7" and "val_psnr" not in info
    assert load_appearance(new).params == replace(SMALL, bound=0.1)


def test_weights_are_averaged_where_both_have_them(tmp_path):
    new = written(tmp_path / "new.safetensors", SMALL)
    old = written(tmp_path / "old.safetensors", replace(SMALL, detail_choice=False))
    finish(new, str(tmp_path / "out.safetensors"), old, 0.25)
    a, b, mixed = (load_appearance(str(path)).state_dict() for path in (new, old, tmp_path / "out.safetensors"))
    for name, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * a[name] + 0.25 * b.get(name, a[name]), atol=1e-3, rtol=1e-3)
    assert not torch.equal(mixed["decoder.conv_out.weight"], a["decoder.conv_out.weight"])


def test_other_weights_are_refused(tmp_path):
    out = tmp_path / "out.safetensors"
    new = written(tmp_path / "new.safetensors", SMALL)
    wider = written(tmp_path / "wider.safetensors", replace(SMALL, channels=64))
    with pytest.raises(InputError, match="same preset and references"):
        finish(new, str(out), wider, 0.5)
    assert not out.exists()


def test_a_share_that_is_no_number_is_one_line(tmp_path, monkeypatch, capsys):
    new, out = written(tmp_path / "new.safetensors", SMALL), tmp_path / "out.safetensors"
    monkeypatch.setattr("sys.argv", ["finish_appearance", new, "--average", new, "half", "-o", str(out)])
    assert main() == 2
    assert capsys.readouterr().err == "error: got a share of 'half', expected a number from 0 to 1\n"
    assert not out.exists()
