"""From crops to painted crops: what is done after the network has its place there."""

from dataclasses import replace

import pytest
import torch
from mouths import face

from comfyui_mytalk.appearance.inside import between, inner_lips
from comfyui_mytalk.appearance.model import AppearanceModel
from comfyui_mytalk.appearance.params import PRESETS
from comfyui_mytalk.appearance.render import References, render_crops
from comfyui_mytalk.landmarks.canonical import mouth_opening

TARGET = face(1.0)[None]


@pytest.fixture(scope="module")
def painter() -> AppearanceModel:
    """Paints its first reference, which is a regression."""
    model = AppearanceModel(PRESETS["small"]).eval()
    model.forward = lambda masked, landmarks, references: references[:, 0]
    return model


def painted(model: AppearanceModel, light: float = 1.0) -> torch.Tensor:
    """A grey face whose nearest mouth shows fine columns; `light` is that of its references."""
    crop = torch.full((1, 3, 256, 256), 0.5)
    near = (0.5 + 0.2 * torch.sin(torch.arange(256.0) * 1.5)).expand(3, 256, 256)
    images = torch.stack([crop[0], near, near])[None] * light
    points = TARGET[:, None].expand(1, 3, -1, -1)
    openings = torch.stack([0.1 * mouth_opening(TARGET), mouth_opening(TARGET)], 1)
    references = References(images, points, torch.ones(1, 3, 1, 256, 256), openings)
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 130:230, 70:186] = 1
    return render_crops(model, crop, TARGET, mask, references)


def test_between_the_lips_the_nearest_mouth_is_seen(painter, monkeypatch) -> None:
    inside = between(*inner_lips(TARGET, (0, 0), (256, 256)))[0] == 1

    def detail() -> float:
        return float(painted(painter)[0, 0].diff(dim=1).abs()[inside[:, 1:]].mean())

    assert detail() > 0.05
    monkeypatch.setattr(painter, "params", replace(painter.params, teeth=0.0))
    assert detail() < 1e-3


def test_what_is_painted_has_the_light_of_the_frame(painter) -> None:
    hole = (Ellipsis, slice(140, 220), slice(80, 176))
    assert (painted(painter, 0.85)[hole].mean() - 0.5).abs() < 0.03  # of 0.075


def test_a_film_that_fades_is_followed(painter) -> None:
    """Farther than any light on a face changes it."""
    hole = (Ellipsis, slice(140, 220), slice(80, 176))
    assert (painted(painter, 0.3)[hole].mean() - 0.5).abs() < 0.03  # of 0.35


def test_crops_show_the_frame_where_references_end(painter) -> None:
    """The network sees black there, and paints it; restorers and previews get these crops."""
    crop = painted(painter)
    assert (crop[..., :120, :] == 0.5).all() and (crop[..., 100:250, :60] == 0.5).all()
    assert crop.min() > 0.1
