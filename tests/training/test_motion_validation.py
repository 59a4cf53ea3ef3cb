"""What the motion trainer validates on: found before training, and a bounded part of it each time."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.training import motion_validation
from comfyui_mytalk.training.motion import load_splits
from comfyui_mytalk.training.motion_data import Take
from tests.motion.test_training import loudness
from tests.synthetic_clips import write_clip


def test_nothing_to_validate_on_is_found_before_training(tmp_path: Path) -> None:
    write_clip(tmp_path, "train", 0, 0, frames=60)
    write_clip(tmp_path, "val", 1, 0, frames=12)
    args = Namespace(data=str(tmp_path), cache=str(tmp_path / "cache"), offsets=None, versions=1)
    with pytest.raises(InputError, match="none of the 1 clips can be used"):
        load_splits(args, loudness)


@pytest.mark.parametrize(("most", "measured"), [(2, ["a0", "b1"]), (5, ["a0", "b1", "b2", "b3", "b4"])])
def test_a_validation_is_of_so_many_takes_of_all_corpora(most: int, measured: list[str], monkeypatch) -> None:
    """Of hundreds of hours a validation would take longer than the training between two of them."""
    face = torch.rand(30, 478, 2, generator=torch.Generator().manual_seed(0))
    takes = [Take(f"{corpus}{n}", "anna", corpus, face, face, torch.arange(3)) for n, corpus in enumerate("abbbb")]
    seen, foreign = [], face[:, landmark_set("prefix")].flip(0)

    def generate_take(model, person, take, *_, upper) -> None:
        seen.append(take.name)
        assert torch.equal(upper, foreign), "the true upper face gives much of the mouth away"

    monkeypatch.setattr(motion_validation, "MOST_TAKES", most)
    monkeypatch.setattr(motion_validation, "generate_take", generate_take)
    monkeypatch.setattr(motion_validation, "measure", lambda made, take: {"corr": float(take.corpus == "a")})
    monkeypatch.setattr(motion_validation, "same_person", lambda *_: 1.0)
    figures = motion_validation.validate(None, None, takes, None)
    assert seen == measured and figures == {"corr": 0.5, "same_person": 1.0}
