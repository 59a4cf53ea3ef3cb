"""Actor tuning: it fits the clip, is small, repeatable and bound to its weights, and leaves the shared ones alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from comfyui_mytalk.appearance.layers import blur
from comfyui_mytalk.appearance.model import AppearanceModel, load_appearance, model_config
from comfyui_mytalk.appearance.params import AppearanceParams
from comfyui_mytalk.appearance.tuning import Tuning, load_tuning, save_tuning, tuned_copy
from comfyui_mytalk.checkpoints import save_checkpoint
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training import appearance_losses, tune
from comfyui_mytalk.training.appearance_data import ClipView
from comfyui_mytalk.training.appearance_losses import reconstruction_loss, tuning_loss
from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.tune import TuneOptions, draw_batch, tune_appearance
from tests.synthetic_clips import write_clips

TINY = AppearanceParams(
    size=64, channels=32, multipliers=(1, 1), encoder_blocks=1, decoder_blocks=1, latent=4, attention=False,
    fusion_channels=32, fusion_blocks=1, normalise=False, patch=4, aligned=True, skips=True, blend=True, refine=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("prepared"), identities=2, takes=1, frames=40)


@pytest.fixture(scope="module")
def view(folder: Path) -> ClipView:
    return ClipView(read_clips(folder, "train")[0])


@pytest.fixture(scope="module")
def model(folder: Path) -> AppearanceModel:
    torch.manual_seed(0)
    path = folder / "weights" / "appearance_base.safetensors"
    save_checkpoint(path, AppearanceModel(TINY).state_dict(), "appearance", model_config(TINY))
    return load_appearance(str(path))


def error(model: AppearanceModel, view: ClipView) -> float:
    sample = draw_batch(view, model.params, 8, np.random.default_rng(99))
    with torch.no_grad():
        return float(reconstruction_loss(model(*sample.inputs), sample))


@pytest.fixture(scope="module")
def tuning(model: AppearanceModel, view: ClipView) -> Tuning:
    with torch.inference_mode():  # as in the host's executor
        return tune_appearance(model, view, TuneOptions(steps=30, rate=3e-3))


def test_tuning_lowers_the_error_and_leaves_the_shared_weights(folder, model, view, tuning):
    assert error(tuned_copy(model, tuning), view) < 0.92 * error(model, view)
    stored = load_appearance(str(folder / "weights" / "appearance_base.safetensors")).state_dict()
    assert all(value.equal(stored[name]) for name, value in model.state_dict().items())


def test_tuning_does_not_soften(view, model):
    """Blurred pictures are nearer to a target whose detail cannot be foreseen; they must not be what is learnt."""
    sample = draw_batch(view, model.params, 2, np.random.default_rng(0))
    sample.mask, sample.mouth = torch.ones_like(sample.mask), torch.ones_like(sample.mouth)
    sharp, real = 0.1 * torch.randn(2, *sample.target.shape, generator=torch.Generator().manual_seed(0))
    before, sample.target = sample.target + sharp, sample.target + real
    blurred = blur(before, 1.5)
    assert reconstruction_loss(blurred, sample) < reconstruction_loss(before, sample)
    assert tuning_loss(before, before, sample) < 0.5 * tuning_loss(blurred, before, sample)
    brighter = before + 0.1
    assert tuning_loss(before, before, sample) < tuning_loss(brighter, before, sample), "colours are learnt"


def test_what_is_painted_is_found_once_in_a_step(view, model, monkeypatch):
    """For the tuned and for the untuned picture: it is the same for both."""
    found = []
    dilate = appearance_losses.dilate
    monkeypatch.setattr(appearance_losses, "dilate", lambda *mask: found.append(mask) or dilate(*mask))
    rates = []
    set_rate = tune.set_learning_rate
    monkeypatch.setattr(tune, "set_learning_rate", lambda *given: rates.append(given[1]) or set_rate(*given))
    tune_appearance(model, view, TuneOptions(steps=2))
    assert len(found) == 2
    assert rates[0] == pytest.approx(TuneOptions.rate * 40 / 100 / tune.WARMUP), "less is learnt of 40 frames"


def test_only_what_changed_is_kept(model, tuning):
    parts = {name.split(".")[0] for name in tuning.state}
    assert "decoder" in parts and "fusion" in parts and not any("encoder" in part for part in parts)


def test_tuning_is_repeatable_and_can_be_cancelled(model, view):
    seen = []
    state = torch.get_rng_state()
    results = [tune_appearance(model, view, TuneOptions(steps=2, seed=5), lambda *p: seen.append(p)) for _ in range(2)]
    assert results[0].digest == results[1].digest and seen == 2 * [(1, 2), (2, 2)]
    assert tune_appearance(model, view, TuneOptions(steps=2, seed=6)).digest != results[0].digest
    assert torch.equal(torch.get_rng_state(), state), "the user's own random numbers go on undisturbed"

    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_appearance(model, view, TuneOptions(steps=2), cancel)


def test_a_saved_tuning_comes_back_and_fits_its_weights_only(model, tuning, tmp_path):
    save_tuning(tmp_path / "anna.safetensors", tuning)
    loaded = load_tuning(str(tmp_path / "anna.safetensors"))
    assert loaded.digest == tuning.digest != Tuning(tuning.state, tuning.base, "of other weights").digest
    other = AppearanceModel(TINY)
    with pytest.raises(InputError, match="tune again"):
        tuned_copy(other, loaded)
    with pytest.raises(InputError, match="expected appearance weights"):
        load_appearance(str(tmp_path / "anna.safetensors"))


def test_a_target_is_never_shown_to_itself(view, model, monkeypatch):
    shown = []
    raw = view.raw
    monkeypatch.setattr(view, "raw", lambda frame, chosen, _: shown.append((frame, chosen)) or raw(frame, chosen))
    draw_batch(view, model.params, 12, np.random.default_rng(1))
    assert len(shown) == 12 and all(abs(i - frame) >= view.gap for frame, chosen in shown for i in chosen)
