import csv

import pytest
import torch
from torch import nn

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training.loop import Ema, seed_everything, step_rng
from comfyui_mytalk.training.run import Run
from comfyui_mytalk.training.schedule import set_learning_rate


def build(width=8):
    seed_everything(3)
    model = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.5), nn.BatchNorm1d(width), nn.Linear(width, 1))
    optimizer = torch.optim.AdamW(
        [{"params": model[0].parameters(), "scale": 0.1}, {"params": model[2:].parameters()}], lr=1e-2, betas=(0.5, 0.9)
    )
    return model, optimizer, Ema(model, 0.9)


def train(folder, stop, parts):
    model, optimizer, ema = parts
    run = Run(folder)
    start = run.resume(model, optimizer, ema)
    for step in run.steps(start, stop):
        x = torch.from_numpy(step_rng(0, step).normal(size=(16, 4))).float()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model)
        run.log(step, loss=loss, **({"val": 1.0} if step == 4 else {}))
    return ema.average


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = train(tmp_path / "whole", 8, build())
    train(tmp_path / "parts", 3, build())
    torch.rand(7)
    resumed = train(tmp_path / "parts", 8, build())
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tmp_path / "whole/log.csv").read_text() == (tmp_path / "parts/log.csv").read_text()


def test_rows_logged_after_the_last_save_are_written_once(tmp_path):
    train(tmp_path, 3, build())
    with open(tmp_path / "log.csv", "a") as file:
        file.write("3,9.0\n")
    train(tmp_path, 5, build())
    with open(tmp_path / "log.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1", "2", "3", "4"]


def test_another_models_run_folder_is_one_clear_error(tmp_path):
    train(tmp_path, 1, build())
    with pytest.raises(InputError, match="another run folder"):
        Run(tmp_path).resume(*build(width=9))


def test_groups_keep_their_share_of_the_rate():
    optimizer = build()[1]
    set_learning_rate(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.02), 0.2]


def test_the_average_of_a_constant_model_is_the_model():
    model, _, ema = build()
    for _ in range(3):
        ema.update(model)
    assert all(torch.allclose(ema.average[name], tensor) for name, tensor in model.state_dict().items())


def test_steps_of_another_seed_are_no_later_steps_of_this_one():
    first, again, later, other = (step_rng(*place).integers(1 << 60) for place in ((0, 1), (0, 1), (0, 2), (1, 0)))
    assert first == again and len({first, later, other}) == 3
