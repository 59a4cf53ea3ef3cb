"""What the motion model is trained on: every term counts as it is told, and conditions are taken away as often."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from torch import Tensor, nn

from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.motion.identity import IdentityExtractor
from comfyui_mytalk.motion.model import MotionModel
from comfyui_mytalk.motion.params import IdentityParams, MotionParams
from comfyui_mytalk.training.motion_data import Batch
from comfyui_mytalk.training.motion_loss import MotionLoss
from tests.synthetic_clips import face

ROWS, FRAMES = 16, 12
PARAMS = MotionParams(
    speech_in=2, speech_dim=8, speech_layers=1, speech_heads=2, speech_ffn=16, dim=16, layers=1, heads=2, ffn=16,
    identity_dim=4, relative=True, rotary=True,
)  # fmt: skip
PLAIN = {
    "noise": 0.0, "noise_bias": 1.0, "feature_noise": 0.0, "speech_dropout": 0.0, "upper_dropout": 0.0,
    "velocity_weight": 1.0, "identity_weight": 1.0, "closure_weight": 1.0, "precision": "float32",
}  # fmt: skip


@pytest.fixture
def batch() -> Batch:
    """Still faces, each of somebody else."""
    draw = torch.Generator().manual_seed(0)
    people = face()[:, :2] + 0.3 * torch.randn(ROWS, 478, 2, generator=draw)
    features = torch.randn(ROWS, 2 * FRAMES, 2, generator=draw)
    still, rest = (people[:, None].repeat(1, count, 1, 1) for count in (FRAMES, 8))
    return Batch(still, people[:, landmark_set("prefix")] - 1, features, rest)


class Told(nn.Module):
    """In place of the denoiser: remembers what it is told; errs by `off` in all frames but the first."""

    def __init__(self, off: float = 0.0) -> None:
        super().__init__()
        self.off = off

    def forward(self, x: Tensor, upper: Tensor, step: Tensor, speech: Tensor, person: Tensor, style: None) -> Tensor:
        self.upper, self.step, self.speech = upper, step, speech
        found = torch.zeros_like(x)  # where people rest
        found[:, 1:] += self.off
        return found


def losses(batch: Batch, off: float = 0.0, **options: float) -> tuple[dict[str, Tensor], Told]:
    torch.manual_seed(1)
    model = MotionModel(PARAMS)
    model.denoiser, extractor = Told(off), IdentityExtractor(IdentityParams(width=16, layers=1, dim=4))
    found = MotionLoss(model, extractor, Namespace(**(PLAIN | options)))(batch)
    return found, model.denoiser


def test_the_truth_costs_nothing_and_every_error_is_seen(batch: Batch) -> None:
    right, _ = losses(batch)
    assert all(right[name].abs() < 1e-5 for name in ("x0", "velocity", "identity", "closed", "loss"))
    wrong, _ = losses(batch, off=0.5)
    assert all(wrong[name] > 1e-4 for name in ("x0", "velocity", "identity"))


def test_every_term_counts_as_much_as_it_is_told(batch: Batch) -> None:
    batch.landmarks[:, :, [82, 13, 312]] = batch.landmarks[:, :, [87, 14, 317]]  # shut, so that closures count
    weights = {"velocity_weight": 2.0, "identity_weight": 3.0, "closure_weight": 5.0}
    found, _ = losses(batch, off=0.5, **weights)
    total = found["x0"] + 2 * found["velocity"] + 3 * found["identity"] + 5 * found["closed"]
    torch.testing.assert_close(found["loss"], total)
    assert found["closed"] > 0
    off, _ = losses(batch, off=0.5, velocity_weight=0.0, identity_weight=0.0, closure_weight=0.0)
    torch.testing.assert_close(off["loss"], off["x0"])


def test_the_person_is_not_asked_of_steps_that_show_no_face(batch: Batch) -> None:
    noisy, denoiser = losses(batch, off=0.5, noise_bias=1e-6)
    assert denoiser.step.min() > 990 and noisy["identity"] == 0 < noisy["x0"]
    clear, denoiser = losses(batch, off=0.5, noise_bias=50.0)
    assert denoiser.step.float().median() == 0 and clear["identity"] > 1e-4


def test_a_draw_that_rounds_to_1_is_of_the_last_step(batch: Batch) -> None:
    """One in some ten millions does, and ended the training."""
    assert losses(batch, noise_bias=0.0)[1].step.eq(999).all()


def test_conditions_are_taken_away_as_often_as_told(batch: Batch) -> None:
    _, heard = losses(batch)
    _, deaf = losses(batch, speech_dropout=1.0)
    _, foreign = losses(batch, upper_dropout=1.0)
    assert heard.speech.abs().amax((1, 2)).min() > 0 == deaf.speech.abs().max()
    assert torch.equal(foreign.upper, heard.upper.roll(1, 0)) and not torch.equal(foreign.upper, heard.upper)
    half = losses(batch, speech_dropout=0.25)[1].speech.abs().amax((1, 2)) == 0
    assert 0 < half.sum() < ROWS / 2
