"""What the appearance trainer validates on: found before training, and no more of it in memory than is looked at."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_mytalk.appearance.model import AppearanceModel
from comfyui_mytalk.appearance.params import AppearanceParams
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training.appearance_data import make_sample
from comfyui_mytalk.training.appearance_validation import (
    check_validation,
    mouth_scores,
    save_sheet,
    validation_samples,
)
from comfyui_mytalk.training.clips import PreparedClip, read_clip
from tests.synthetic_clips import write_clip

PARAMS = AppearanceParams(size=64, references=3)
TINY = AppearanceParams(
    size=64, channels=32, multipliers=(1, 1), encoder_blocks=1, decoder_blocks=1, latent=4, attention=False,
    fusion_channels=32, fusion_blocks=1, normalise=False, patch=4, aligned=True,
)  # fmt: skip


@pytest.fixture
def clip(tmp_path: Path) -> PreparedClip:
    return read_clip(write_clip(tmp_path, "val", 0, 0, frames=40))


def test_clips_that_cannot_be_scored_are_found_before_training(clip: PreparedClip, tmp_path: Path) -> None:
    check_validation([clip], PARAMS)
    short = read_clip(write_clip(tmp_path, "val", 1, 0, frames=20))
    small = read_clip(write_clip(tmp_path, "val", 2, 0, frames=40))
    small.metadata["face_px"] = "80"
    check_validation([short, small, clip], PARAMS)
    with pytest.raises(InputError, match=r"no usable validation clip: of 2, 1 show a face smaller .* 1 have fewer"):
        check_validation([short, small], PARAMS)
    check_validation([], PARAMS)  # `--validate-clips 0`


def test_a_missing_package_is_found_before_training(clip: PreparedClip, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install -e .` brings no torchmetrics: the run ended with a traceback at its first validation."""
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(InputError, match="torchmetrics is not installed"):
        check_validation([clip], PARAMS)
    check_validation([], PARAMS)


def test_what_is_checked_is_what_is_scored(clip: PreparedClip) -> None:
    """A face in one half alone gives targets without references, or references without targets."""
    for hidden in (slice(0, 18), slice(0, 17), slice(20, 39), slice(20, 38)):
        clip.found[:] = True
        clip.found[hidden] = False
        if list(validation_samples([clip], PARAMS, 2)):
            check_validation([clip], PARAMS, 2)
        else:
            with pytest.raises(InputError, match="no usable validation clip"):
                check_validation([clip], PARAMS, 2)


def test_clips_are_read_one_after_the_other_and_let_go(tmp_path: Path) -> None:
    """4 MB a sample, and 13 MB a clip for its regression: of thousands of clips they would not fit."""
    clips = [read_clip(write_clip(tmp_path, "val", person, 0, frames=40)) for person in range(3)]
    samples = validation_samples(clips, PARAMS, 2)
    assert [next(samples)[0] for _ in range(3)] == [clips[0], clips[0], clips[1]]
    assert [sorted({"pose", "canonical"} & set(vars(clip))) for clip in clips] == [[], ["pose"], []]
    assert sum(1 for _ in samples) == 3


def test_the_sheet_shows_clips_from_the_first_to_the_last(tmp_path: Path) -> None:
    clips = [read_clip(write_clip(tmp_path, "val", person, 0, frames=40)) for person in range(5)]
    clips[0].metadata["face_px"], shown = "50", []
    for clip in clips:
        clip.crop = lambda frame, clip=clip, crop=clip.crop: shown.append(clip) or crop(frame)
    save_sheet(AppearanceModel(TINY).eval(), clips, tmp_path / "sheet.png", columns=2)
    assert [clip for clip in clips if clip in shown] == [clips[1], clips[4]]
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (2 * 64, 4 * 64)
    target = torch.from_numpy(np.array(sheet))[:64, :64].permute(2, 0, 1)
    assert any(torch.equal(target, clips[1].crop(frame)) for frame in range(20, 40))


def test_only_what_is_pasted_is_scored(clip: PreparedClip) -> None:
    """Outside the mask lies the frame."""
    ((_, raw),) = validation_samples([clip], PARAMS, 1)
    sample = make_sample(PARAMS, [raw])
    sample.target = torch.rand(sample.target.shape, generator=torch.Generator().manual_seed(0))
    sample.mask = torch.zeros_like(sample.mask)
    sample.mask[..., 32:, :] = 1
    psnr, ssim, sharpness = mouth_scores(torch.where(sample.mask > 0, sample.target, 0.0), sample)
    assert psnr > 80 and ssim == pytest.approx(1) and sharpness == pytest.approx(1)
    assert mouth_scores(torch.zeros_like(sample.target), sample)[0] < 20
