"""Training on several processes: they take the step that one would, and the first one alone writes.

The processes are real and talk over gloo on the loopback interface; GPUs are not needed.
"""

from __future__ import annotations

import csv
import os
import socket
from argparse import ArgumentParser
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.training import identity
from comfyui_mytalk.training.loop import Ema, descend, seed_everything, step_rng
from comfyui_mytalk.training.processes import (
    device_of_process,
    is_first,
    joined,
    own_seed,
    own_share,
    rank_and_count,
    told_by_first,
)
from comfyui_mytalk.training.run import Run
from tests.synthetic_clips import write_clips

COUNT, STEPS = 2, 3


def network(seed: int) -> nn.Module:
    seed_everything(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))


def batch(seed: int, step: int) -> torch.Tensor:
    return torch.from_numpy(step_rng(seed, step).normal(size=(8, 4))).float()


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.05)


def toy_training(folder: Path, rank: int) -> None:
    """Processes that begin with other weights; what each ends with goes to `rank.safetensors`."""
    model, run = network(seed=rank), Run(folder / "toy", minutes=60 if rank else 10)
    optimizer, ema = optimizer_of(model), Ema(model, 0.9)
    for step in run.steps(run.resume(model, optimizer, ema), STEPS):
        descend(loss_of(model, batch(own_seed(5), step)), optimizer, model.parameters())
        ema.update(model)
        run.log(step, progress=run.progress(step, STEPS))
    drawn, told = torch.rand(3), torch.tensor(told_by_first(1.5 + rank))
    save_file(model.state_dict() | {"drawn": drawn, "told": told}, folder / f"{rank}.safetensors")


def without_gradient(folder: Path, rank: int) -> None:
    """A part of the network that only the first process used."""
    model = network(seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    used = model[0](torch.ones(1, 4)).sum()
    descend(used if rank else used + 2 * model[2](torch.ones(1, 3)).sum(), optimizer)
    save_file(model.state_dict(), folder / f"part{rank}.safetensors")


def as_process(rank: int, folder: Path, port: int) -> None:
    """What one of the processes does, as `torchrun` would start it."""
    torch.set_num_threads(1)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": COUNT, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    with joined("auto" if not torch.cuda.is_available() else "cpu") as device:
        assert device == "cpu" and rank_and_count() == (rank, COUNT) and is_first() == (rank == 0)
        assert own_share([0, 1, 2, 3, 4]) == ([0, 2, 4], [1, 3])[rank]
        assert own_share([0]) == [0], "nobody goes without"
        toy_training(folder, rank)
        without_gradient(folder, rank)
    os.environ["MASTER_PORT"] = str(port + 1)
    parser = ArgumentParser()
    identity.add_arguments(parser)
    options = f"--data {folder / 'data'} --run {folder / 'run'} --save {folder / 'identity.safetensors'}"
    identity.main(parser.parse_args(f"{options} --device cpu --steps 4 --validate-every 2 --batch 8".split()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    write_clips(folder / "data", identities=3, takes=1, frames=40)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = min(free.getsockname()[1], 65534)
    torch.multiprocessing.spawn(as_process, (folder, port), COUNT)
    return folder


def test_all_end_with_the_same_weights_which_are_those_of_the_first_trained_on_all_batches(folder: Path) -> None:
    ends = [load_file(folder / f"{rank}.safetensors") for rank in range(COUNT)]
    model = network(seed=0)
    optimizer = optimizer_of(model)
    with torch.random.fork_rng():
        for step in range(STEPS):
            losses = [loss_of(model, batch(5 + rank * 1_000_003, step)) for rank in range(COUNT)]
            descend(sum(losses) / COUNT, optimizer, model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(ends[0][name], ends[1][name])
        assert torch.allclose(ends[0][name], tensor, atol=1e-6)


def test_each_draws_its_own_random_numbers_and_all_go_by_the_first_ones_clock(folder: Path) -> None:
    first, second = (load_file(folder / f"{rank}.safetensors") for rank in range(COUNT))
    assert not torch.equal(first["drawn"], second["drawn"])
    assert first["told"] == second["told"] == 1.5


def test_a_gradient_that_one_process_lacks_counts_as_zero_there(folder: Path) -> None:
    before = network(seed=0).state_dict()
    ends = [load_file(folder / f"part{rank}.safetensors") for rank in range(COUNT)]
    for end in ends:
        assert torch.allclose(end["0.bias"], before["0.bias"] - 1)
        assert torch.allclose(end["2.bias"], before["2.bias"] - 1)  # 2 in one of two processes


def test_only_the_first_logs_validates_and_saves(folder: Path) -> None:
    with open(folder / "toy/log.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    with open(folder / "run/log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "3"] and all(row["loss"] for row in rows)
    assert (folder / "identity.safetensors").is_file()


def test_a_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of_process(name, 1) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    with pytest.raises(InputError, match="2 GPUs; start one process per GPU"):
        device_of_process("cuda", 2)
    with pytest.raises(InputError, match="cuda:0.*each takes its own"):
        device_of_process("cuda:0", 0)


def test_alone_nothing_is_shared() -> None:
    with joined("cpu") as device:
        assert device == "cpu" and rank_and_count() == (0, 1) and own_seed(7) == 7
        assert own_share([1, 2]) == [1, 2] and told_by_first(2.5) == 2.5
