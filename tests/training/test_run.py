"""A run's folder: what it refuses, what a stop costs, and how long it lasts."""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training import run as run_module
from comfyui_mytalk.training.loop import Ema, seed_everything, step_rng
from comfyui_mytalk.training.run import Run, own_handlers


def parts() -> tuple[nn.Module, torch.optim.Optimizer, Ema]:
    seed_everything(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    return model, torch.optim.Adam(model.parameters(), 0.05), Ema(model)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Python's own, whatever other tests left; and those again afterwards."""
    with own_handlers():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield


def train(run: Run, stop: int, each: Callable[[int], None] = lambda step: None) -> dict[str, torch.Tensor]:
    model, optimizer, ema = parts()
    for step in run.steps(run.resume(model, optimizer, ema), stop):
        x = torch.from_numpy(step_rng(0, step).normal(size=(8, 3))).float()
        optimizer.zero_grad()
        model(x).square().mean().backward()
        each(step)
        optimizer.step()
        ema.update(model)
    return model.state_dict()


def options(folder: Path, **changed: object) -> Namespace:
    values = {"run": str(folder), "steps": 5, "minutes": None, "rate": 0.1, "cut": (8, 8), "allow_changes": False}
    return Namespace(**(values | changed))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_asked_to_stop_finishes_the_step_and_goes_on_later(tmp_path: Path, number: signal.Signals) -> None:
    def ask(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # the signal is handled here, in the middle of a step

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as stop:
        train(Run(tmp_path / "stopped"), 8, ask)
    if number == signal.SIGTERM:
        assert stop.value.code == 143
    assert signal.getsignal(number) == before
    resumed, whole = train(Run(tmp_path / "stopped"), 8), train(Run(tmp_path / "whole"), 8)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    done = []
    train(Run(tmp_path / "stopped"), 9, done.append)
    assert done == [8]


def test_a_step_that_raises_leaves_no_handler_behind(tmp_path: Path) -> None:
    def broken(_: int) -> None:
        raise RuntimeError

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError) as kept, own_handlers():
        train(Run(tmp_path), 2, broken)
    assert signal.getsignal(signal.SIGINT) is before

    def mine(*_: object) -> None: ...

    signal.signal(signal.SIGINT, mine)
    kept.value.__traceback__ = None  # the suspended steps end now
    del kept
    gc.collect()
    assert signal.getsignal(signal.SIGINT) is mine


def test_asked_twice_it_stops_at_once(tmp_path: Path) -> None:
    def ask(_: int) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        pytest.fail("the second one must not wait for the step")

    with pytest.raises(KeyboardInterrupt):
        train(Run(tmp_path), 2, ask)
    assert not (tmp_path / "state.safetensors").exists()


def test_the_state_is_saved_now_and_then_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(run_module, "SAVING_SHARE", 1e9)

    def broken(step: int) -> None:
        if step == 4:
            raise RuntimeError("the machine died")

    with pytest.raises(RuntimeError):
        train(Run(tmp_path), 8, broken)
    done = []
    monkeypatch.undo()
    train(Run(tmp_path), 6, done.append)
    assert done == [4, 5]
    train(Run(tmp_path), 7, done.append)
    assert done == [4, 5, 6]


def test_weights_that_are_no_numbers_are_not_saved_over_those_that_are(tmp_path: Path) -> None:
    """They stay so in all later steps; a night's training went on with them, and wrote them."""
    train(Run(tmp_path), 2)
    before = (tmp_path / "state.safetensors").read_bytes()
    run, (model, optimizer, ema) = Run(tmp_path), parts()
    for step in run.steps(run.resume(model, optimizer, ema), 5):
        with torch.no_grad():
            model[0].bias[0] = float("nan")
        with pytest.raises(
            InputError, match="after 3 steps weights are no numbers any more, and step 2 is still saved"
        ):
            run.save(step + 1)
        break
    assert (tmp_path / "state.safetensors").read_bytes() == before


def test_minutes_are_those_of_the_run_with_its_earlier_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def half_a_minute(_: int) -> None:
        now[0] += 30

    run = Run(tmp_path, minutes=2)
    with pytest.raises(KeyboardInterrupt):
        train(run, 100, lambda step: (half_a_minute(step), step == 1 and os.kill(os.getpid(), signal.SIGINT)))
    now[0] += 1e6  # the machine was given back
    run, done, shares = Run(tmp_path, minutes=2), [], []
    train(run, 100, lambda step: (half_a_minute(step), done.append(step), shares.append(run.progress(step, 100))))
    assert done == [2, 3] and shares == [0.5, 0.75]


def test_no_time_means_no_step(tmp_path: Path) -> None:
    run = Run(tmp_path, minutes=0)
    assert list(run.steps(run.resume(*parts()), 5)) == []


def test_rates_rise_to_one_then_fall_to_the_floor_by_steps_or_by_time(tmp_path: Path) -> None:
    run = Run(tmp_path)
    rates = [run.rate(step, 100, 10, 0.1) for step in range(101)]
    assert max(rates) == pytest.approx(1.0) and rates[0] == rates[-1] == pytest.approx(0.1)
    assert all(a <= b + 1e-12 for a, b in zip(rates[:9], rates[1:10], strict=True))
    assert all(a >= b for a, b in zip(rates[10:-1], rates[11:], strict=True))
    timed = Run(tmp_path, minutes=10)
    timed.elapsed = 9.99
    assert timed.rate(50, 10_000, 10, 0.1) == pytest.approx(0.1, abs=1e-3)


def test_other_options_are_another_run_unless_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(Run.of(options(tmp_path)), 2)
    assert json.loads((tmp_path / "options.json").read_text()) == {"rate": 0.1, "cut": [8, 8]}
    train(Run.of(options(tmp_path, steps=9, minutes=3.0)), 3)
    with pytest.raises(InputError, match=r"started with --rate 0\.1, now 0\.2; name another --run.*--allow-changes"):
        train(Run.of(options(tmp_path, rate=0.2)), 4)
    train(Run.of(options(tmp_path, rate=0.2, allow_changes=True)), 4)
    assert "--rate 0.1, now 0.2" in caplog.text
    train(Run.of(options(tmp_path, rate=0.2)), 5)


def test_another_models_training_leaves_the_options_as_they_are(tmp_path: Path) -> None:
    """With those of the refused one in the folder its own command was refused from then on."""
    train(Run.of(options(tmp_path)), 2)
    model = nn.Linear(2, 2)
    with pytest.raises(InputError, match="holds another model's training"):
        Run.of(options(tmp_path, rate=0.2, allow_changes=True)).resume(model, torch.optim.Adam(model.parameters()))
    assert json.loads((tmp_path / "options.json").read_text())["rate"] == 0.1
    train(Run.of(options(tmp_path)), 3)


def test_a_run_that_is_over_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(Run(tmp_path), 2)
    assert "nothing is trained" not in caplog.text
    train(Run(tmp_path), 2)
    assert "has 2 of 2 steps: nothing is trained" in caplog.text


def test_a_run_whose_minutes_are_over_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(Run(tmp_path, minutes=100), 2)
    assert "nothing is trained" not in caplog.text
    train(Run(tmp_path, minutes=1e-9), 4)
    assert "has had 0 of its 1e-09 minutes: nothing is trained" in caplog.text


def test_a_damaged_state_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"half of a file")
    with pytest.raises(InputError, match=r"cannot go on from .*state\.safetensors"):
        train(Run(tmp_path), 2)


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    for name in (".state.123.part.safetensors", ".tmpAbC"):
        (tmp_path / name).write_bytes(b"half")
    train(Run(tmp_path), 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.safetensors"]
