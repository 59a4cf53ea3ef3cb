"""Crops do not depend on which frames are cut together."""

from __future__ import annotations

import pytest
import torch

from comfyui_mytalk.landmarks.align import crop_window, cut_crops
from comfyui_mytalk.sampling import sample_repeating


def placed(shrink: float, x: float, y: float) -> torch.Tensor:
    return torch.tensor([[[shrink, 0.0, x], [0.0, shrink, y]]])


def cut(frames: torch.Tensor, transform: torch.Tensor, size: int) -> torch.Tensor:
    rows, columns, local = crop_window(transform, frames.shape[-2:], size)
    return cut_crops(frames[..., rows, columns], local, size)


@pytest.mark.parametrize("shrinks", [(2.95, 3.02), (1.0, 4.6), (10.4, 10.6), (12.1, 1.2)])
def test_a_crop_is_the_same_alone_and_beside_a_larger_face(shrinks):
    frames = torch.rand(2, 3, 500, 520, generator=torch.Generator().manual_seed(1))
    both = torch.cat([placed(shrinks[0], 115.0, 110.0), placed(shrinks[1], 47.0, 5.0)])
    together = cut(frames, both, 32)
    alone = torch.cat([cut(frames[i : i + 1], both[i : i + 1], 32) for i in range(2)])
    assert torch.allclose(together, alone, atol=2e-3)


def test_edges_are_repeated_on_devices_that_cannot(monkeypatch):
    monkeypatch.setattr("comfyui_mytalk.sampling.COMPLETE", ())
    picture = torch.rand(1, 2, 5, 6)
    far = torch.full((1, 1, 1, 2), 3.0)
    assert torch.allclose(sample_repeating(picture, far)[0, :, 0, 0], picture[0, :, -1, -1])
    assert torch.allclose(sample_repeating(picture, far, "bicubic")[0, :, 0, 0], picture[0, :, -1, -1])
