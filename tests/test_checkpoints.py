"""Weights on disk: what comes back, and what each broken file says."""

import pytest
import torch

from comfyui_mytalk import checkpoints
from comfyui_mytalk.checkpoints import find_weights, list_weights, load_checkpoint, save_checkpoint
from comfyui_mytalk.errors import InputError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_folders", [tmp_path / "shipped"])
    return tmp_path


def test_round_trip_keeps_tensors_configuration_and_info(folder):
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(1, dtype=torch.float16)}
    save_checkpoint(folder / "x.safetensors", state, "motion", {"dim": 3, "window": [1, 2]}, {"step": "7"})
    found = load_checkpoint(folder / "x.safetensors", "motion")
    assert all(torch.equal(found.state[name], value) for name, value in state.items())
    assert found.config == {"dim": 3, "window": [1, 2]} and found.info == {"step": "7"}
    assert len(found.sha256) == 64
    assert [file.name for file in folder.iterdir()] == ["x.safetensors"], "nothing is left beside the file"


def test_a_colleague_may_read_them_as_any_new_file(folder):
    save_checkpoint(folder / "x.safetensors", {"a": torch.zeros(1)}, "motion", {})
    (folder / "any").touch()
    assert (folder / "x.safetensors").stat().st_mode == (folder / "any").stat().st_mode


def test_wrong_kind_is_named(folder):
    save_checkpoint(folder / "x.safetensors", {"a": torch.zeros(1)}, "motion", {})
    with pytest.raises(InputError, match="got motion weights .* expected appearance weights"):
        load_checkpoint(folder / "x.safetensors", "appearance")


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x08\0\0\0\0\0\0\0{}      "])
def test_unreadable_or_foreign_files_are_refused(folder, content):
    (folder / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors"):
        load_checkpoint(folder / "x.safetensors", "motion")


def test_missing_weights_say_which_file_where_and_how_to_train(folder):
    with pytest.raises(InputError) as error:
        find_weights("motion_small", "motion")
    for part in ("motion_small.safetensors", str(folder / "shipped"), "train motion"):
        assert part in str(error.value)


def test_a_missing_path_is_repeated_as_given(folder):
    with pytest.raises(InputError, match="motion weights not found at runs/mine.safetensors"):
        find_weights("runs/mine.safetensors", "motion")


def test_registered_folders_come_before_the_shipped_one(folder):
    for place in ("shipped", "own"):
        save_checkpoint(folder / place / "motion_small.safetensors", {"a": torch.zeros(1)}, "motion", {"of": place})
    assert find_weights("motion_small", "motion").parent.name == "shipped"
    checkpoints.register_weights_folder(folder / "own")
    assert find_weights("motion_small", "motion").parent.name == "own"
    assert find_weights("motion_small.safetensors", "motion").parent.name == "own"
    assert list_weights("motion") == ["motion_small"]
