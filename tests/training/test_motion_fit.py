"""Coordinates of the motion model: fitted take after take, as they would be to all takes at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.motion.model import MotionModel
from comfyui_mytalk.motion.params import MotionParams
from comfyui_mytalk.training import motion_fit
from comfyui_mytalk.training.motion_data import Take
from comfyui_mytalk.training.motion_fit import fit_coordinates, some


def takes(count: int = 6) -> list[Take]:
    """Faces that move in twenty ways, of which some move mouth and upper face together."""
    draw = torch.Generator().manual_seed(0)
    ways, made = torch.randn(20, 478, 2, generator=draw), []
    for length in range(100, 100 + count):
        moved = torch.einsum("tw,wnc->tnc", torch.randn(length, 20, generator=draw), ways)
        landmarks = moved + 3 + 0.5 * torch.randn(length, 478, 2, generator=draw)
        made.append(Take(str(length), "anna", "talks", landmarks, torch.zeros(2 * length, 2), torch.tensor([1, 5, 7])))
    return made


def model_of(**changes: object) -> MotionModel:
    plain = {
        "speech_in": 2,
        "speech_dim": 8,
        "speech_layers": 1,
        "speech_heads": 2,
        "speech_ffn": 16,
        "identity_dim": 4,
    }
    return MotionModel(MotionParams(**plain, dim=16, layers=1, heads=2, ffn=16, **changes))


def all_at_once(relative: bool) -> tuple[Tensor, Tensor]:
    """Generated points and upper faces of every frame, as the model reads them, in double precision."""
    lower, upper = landmark_set("generated"), landmark_set("prefix")
    parts = [
        (
            take.landmarks[:, lower] - relative * take.landmarks[take.rest][:, lower].mean(0),
            take.landmarks[:, upper] - relative * take.landmarks[:, upper].mean(0),
        )
        for take in takes()
    ]
    return tuple(torch.cat(column).flatten(1).double() for column in zip(*parts, strict=True))


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("components", "erased"), [(4, True), (4, False), (0, False)])
def test_the_fit_is_as_if_all_takes_were_read_at_once(relative: bool, components: int, erased: bool) -> None:
    model = model_of(relative=relative, components=components, erase_mouth=erased)
    fit_coordinates(model, takes())
    shapes, faces = all_at_once(relative)
    close = {"atol": 1e-6, "rtol": 1e-6}
    torch.testing.assert_close(model.lower_mean.double(), shapes.mean(0), **close)
    torch.testing.assert_close(model.upper_mean.double(), faces.mean(0), **close)
    channels = (shapes - shapes.mean(0)) @ model.to_channels.double()
    spread = channels.std(0, unbiased=not components)  # of components it is exactly that of the sum of squares
    torch.testing.assert_close(spread, torch.ones_like(spread), atol=1e-5, rtol=0)
    shown = faces @ model.upper_map.double()
    assert shown.std().item() == pytest.approx(1, abs=1e-5)
    told = ((shown - shown.mean(0)).T @ channels).abs().max() / len(shown)
    assert told < 1e-5 if erased else told > 1e-2


def test_of_very_many_frames_some_takes_are_read_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    every = takes(8)
    assert some(every) is every
    monkeypatch.setattr(motion_fit, "MOST_FITTED", 250)
    chosen, again = some(every), some(every)
    assert len(chosen) == 3 and all(a is b for a, b in zip(chosen, again, strict=True))
    assert len({take.name for take in chosen}) == 3
