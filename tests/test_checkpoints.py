"""Weights on disk: what comes back, and what each broken file says."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from comfyui_mytalk import checkpoints, info
from comfyui_mytalk.appearance.model import load_appearance
from comfyui_mytalk.appearance.occlusion import OCCLUSION_PRESETS, load_occlusion
from comfyui_mytalk.appearance.params import PRESETS as APPEARANCE_PRESETS
from comfyui_mytalk.appearance.tuning import Tuning, load_tuning, save_tuning, tuned_copy
from comfyui_mytalk.checkpoints import SHIPPED, find_weights, list_weights, load_checkpoint, save_checkpoint
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.sync_judge import PRESETS as JUDGE_PRESETS
from comfyui_mytalk.evaluation.sync_judge import load_sync_judge
from comfyui_mytalk.landmarks.track import load_face_landmarker
from comfyui_mytalk.motion.identity import load_identity
from comfyui_mytalk.motion.model import load_motion
from comfyui_mytalk.motion.params import IDENTITY_PRESETS
from comfyui_mytalk.motion.params import PRESETS as MOTION_PRESETS
from comfyui_mytalk.speech.features import load_speech_encoder

LOADERS = {
    "identity": load_identity,
    "motion": load_motion,
    "appearance": load_appearance,
    "occlusion": load_occlusion,
    "sync_judge": load_sync_judge,
}
SMALL = {
    "identity": IDENTITY_PRESETS["small"],
    "motion": MOTION_PRESETS["small"],
    "appearance": APPEARANCE_PRESETS["small"],
    "occlusion": OCCLUSION_PRESETS["small"],
    "sync_judge": JUDGE_PRESETS["small"],
}


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


@pytest.mark.parametrize("name", ["folder/enc.pt", "enc.pt"])
def test_a_file_of_another_format_is_not_called_missing(folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).touch()
    with pytest.raises(InputError, match=rf"speech weights {name}, only \.safetensors files are read"):
        find_weights(name, "speech")


def other_version(kind, path, change, shipped=None):
    """The shipped weights of a kind, or the file `shipped`, as another version might have written them."""
    shipped = shipped or SHIPPED / f"{kind}_small.safetensors"
    found, state = load_checkpoint(shipped, kind), load_file(shipped)
    change(found.config, state)
    save_checkpoint(path, state, kind, found.config)


def setting_added(config, state):
    config.get("params", config.get("encoder", config))["later"] = 1


def settings_of_another_kind(config, state):
    config.update(dict.fromkeys(config))


def tensor_dropped(config, state):
    state.popitem()


def tensor_added(config, state):
    state["later.weight"] = torch.zeros(1)


def tensor_reshaped(config, state):
    name = max(state, key=lambda name: state[name].numel())
    state[name] = state[name][:-1].contiguous()


CHANGES = (setting_added, settings_of_another_kind, tensor_dropped, tensor_added, tensor_reshaped)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [*LOADERS, "speech"])
def test_weights_of_another_version_are_one_clear_error(folder, kind, change):
    path = folder / f"{kind}_later.safetensors"
    other_version(kind, path, change)
    with pytest.raises(InputError, match=rf"{kind}_later\.safetensors were made by another version .* train again"):
        (LOADERS | {"speech": load_speech_encoder})[kind](str(path))


def operation_added(config, state):
    config["mesh"]["operations"][0]["kind"] = "later"


@pytest.mark.parametrize("change", [settings_of_another_kind, tensor_dropped, tensor_reshaped, operation_added])
def test_so_are_face_landmarks_of_another_version(folder, change):
    path = folder / "later.safetensors"
    other_version("face", path, change, SHIPPED / "face_landmarks.safetensors")
    with pytest.raises(InputError, match=r"later\.safetensors were made by another version"):
        load_face_landmarker("cpu", str(path))


@pytest.fixture
def tuning(folder):
    """A tuning of the shipped weights that changes one tensor, and the network."""
    model = load_appearance(str(SHIPPED / "appearance_small.safetensors"))
    name, tensor = next(iter(model.state_dict().items()))
    save_tuning(folder / "tuned.safetensors", Tuning({name: tensor}, model.name, model.sha256))
    return model, folder / "tuned.safetensors"


def test_so_is_a_tuning_of_another_version(folder, tuning):
    model, path = tuning
    for change in (setting_added, lambda config, state: config.pop("base_sha256")):
        other_version("tuned", folder / "later.safetensors", change, path)
        with pytest.raises(InputError, match=r"later\.safetensors were made by another version"):
            load_tuning(folder / "later.safetensors")
    for change in (tensor_added, tensor_reshaped):
        other_version("tuned", folder / "later.safetensors", change, path)
        with pytest.raises(InputError, match="a tuning on appearance_small were made by another version"):
            tuned_copy(model, load_tuning(folder / "later.safetensors"))


@pytest.mark.parametrize("kind", LOADERS)
def test_half_precision_on_disk_is_single_in_the_network(kind):
    network = LOADERS[kind](str(SHIPPED / f"{kind}_small.safetensors"))
    for name, tensor in load_file(SHIPPED / f"{kind}_small.safetensors").items():
        own = network.state_dict()[name]
        assert torch.equal(own, tensor.to(own.dtype)) and own.dtype in (torch.float32, torch.int64), name


@pytest.mark.parametrize("kind", LOADERS)
def test_the_preset_is_what_ships(kind):
    """A new training gives the network that the documents measure; `train style` adds its own part to motion."""
    params = LOADERS[kind](str(SHIPPED / f"{kind}_small.safetensors")).params
    if kind == "motion":
        assert params.style_heads > 0
        params = dataclasses.replace(params, style_heads=0)
    assert params == SMALL[kind]


def test_metadata_without_a_configuration_is_another_version(folder):
    metadata = {"format": "comfyui-mytalk", "kind": "motion", "info": json.dumps({})}
    save_file({"a": torch.zeros(1)}, folder / "x.safetensors", metadata)
    with pytest.raises(InputError, match=r"x\.safetensors were made by another version"):
        load_checkpoint(folder / "x.safetensors", "motion")


def test_every_shipped_file_is_missed_when_it_is_not_there(folder):
    shipped = {file.stem for file in SHIPPED.glob("*.safetensors")}
    missing = {line for line in info.describe() if line.startswith("missing: ")}
    assert missing == {f"missing: {name}.safetensors" for name in shipped}


def test_a_broken_installation_can_still_be_reported(monkeypatch):
    def without_pipeline(name, package):
        raise ImportError("no module named av")

    monkeypatch.setattr(info, "import_module", without_pipeline)
    assert list(info.describe())[-1] == "cannot import the pipeline: no module named av"
