"""What every trainer shares: seeds, learning rates, a moving average, and a run folder that can be resumed.

A run folder holds `log.csv` (a row per logged step) and `state.safetensors` (everything needed to go on). A trainer is

    run = Run(folder, minutes=args.minutes)
    start = run.resume(model, optimizer, ema)
    for step in run.steps(start, args.steps):
        set_learning_rate(optimizer, ...)
        descend(loss_of(draw(step_rng(own_seed(args.seed), step))), optimizer)
        ema.update(model)
        run.log(step, loss=loss)
        run.save(step + 1, model, optimizer, ema)

State is safetensors and JSON, never pickle. Batches drawn from `step_rng`, and torch's own generator, which is saved,
make a resumed run equal to an uninterrupted one on the CPU; a GPU's own generator starts anew. Of several processes
(`processes.py`) the first alone writes.
"""

from __future__ import annotations

import csv
import json
import math
import random
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import InputError
from ..output import write_aside
from .processes import average_gradients, is_first, start_alike, told_by_first


class Stateful(Protocol):
    """Modules, optimizers, Ema: what can be saved and resumed."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Randomness of one step that depends on nothing before it, so that a resumed run draws the same batches."""
    return np.random.default_rng((seed, step))


def one_thread(_: int) -> None:
    """For workers of a DataLoader: they share the cores with the training and with each other."""
    torch.set_num_threads(1)


def warmup_cosine(step: int, warmup: int, total: int, floor: float = 0.0) -> float:
    """Factor on the peak learning rate: linear warm-up to 1, then a half cosine down to `floor` at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    return anneal((step - warmup) / max(total - warmup, 1), floor)


def anneal(progress: float, floor: float = 0.0) -> float:
    """Half a cosine from 1 at progress 0 down to `floor` at 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all groups; a group's own `scale` (default 1) multiplies it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, clipped: Iterable[nn.Parameter] = ()) -> None:
    """One step of the optimizer on the gradient of `loss`, averaged over all processes.

    The gradient of the parameters `clipped` is shortened to a length of 1, if it is longer.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
    nn.utils.clip_grad_norm_(clipped, 1.0)
    optimizer.step()


class Ema:
    """Exponential moving average of a model's parameters and buffers; early steps use a shorter memory."""

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.updates = 0
        self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, tensors = [], []
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                averages.append(self.average[name])
                tensors.append(tensor.to(self.average[name]))
            else:
                self.average[name].copy_(tensor)
        torch._foreach_lerp_(averages, tensors, 1 - keep)  # many small tensors: one call for all

    def copy_to(self, model: nn.Module) -> None:
        """Give `model` (a deep copy of the trained one, usually) the averaged weights."""
        model.load_state_dict(self.average)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for name, tensor in state["average"].items():
            self.average[name].copy_(tensor)


class Run:
    """A folder with a training run's log and state, and its time budget."""

    def __init__(self, folder: str | Path, minutes: float | None = None) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.started, self.elapsed, self.minutes = time.monotonic(), 0.0, minutes
        self.bar: tqdm | None = None
        self.rows: list[dict[str, Any]] = []

    @property
    def state_path(self) -> Path:
        return self.folder / "state.safetensors"

    def out_of_time(self) -> bool:
        """Whether the minutes are over, by the first process's clock."""
        if self.minutes is None:
            return False
        self.elapsed = told_by_first((time.monotonic() - self.started) / 60)
        return self.elapsed >= self.minutes

    def progress(self, step: int, stop: int) -> float:
        """Share 0..1 of the run that is over, by steps or by time, whichever is further: for annealing in time."""
        share = step / stop
        return max(share, min(self.elapsed / self.minutes, 1.0)) if self.minutes else share

    def steps(self, start: int, stop: int) -> Iterator[int]:
        """Steps `start..stop - 1` under a progress bar, ended early when the time is up."""
        hidden = not is_first()
        with tqdm(total=stop, initial=start, desc=self.folder.name, mininterval=5, disable=hidden) as self.bar:
            for step in range(start, stop):
                if self.out_of_time():
                    return
                yield step
                self.bar.update()

    def log(self, step: int, **values: float | Tensor | str) -> None:
        """Append one row to `log.csv`; a column not seen before extends the header."""
        if not is_first():
            return
        row = {"step": step} | {name: _plain(value) for name, value in values.items()}
        known = self._columns()
        self.rows.append(row)
        if set(row) <= set(known):
            self._write("a", known, [row])
        else:
            self._write("w", self._columns(), self.rows)
        if self.bar is not None:
            self.bar.set_postfix({k: v for k, v in row.items() if k != "step"}, refresh=False)

    def save(self, step: int, model: nn.Module, optimizer: Stateful, ema: Ema | None = None, **parts: Stateful) -> None:
        """Save everything `resume` needs when `step` steps are done; extra parts (a discriminator, ...) by name."""
        if not is_first():
            return
        everything = {"model": model, "optimizer": optimizer, "ema": ema} | parts
        tree = {name: part.state_dict() for name, part in everything.items() if part is not None}
        tree |= {"step": step, "torch_rng": torch.get_rng_state()}
        tensors: dict[str, Tensor] = {}
        text = json.dumps(_flatten(tree, "", tensors))
        with write_aside(self.state_path) as part:
            save_file(tensors, part, {"tree": text})

    def resume(self, model: nn.Module, optimizer: Stateful, ema: Ema | None = None, **parts: Stateful) -> int:
        """Restore the saved state, when there is one; returns the number of steps done.

        Several processes have the same networks afterwards. Raises InputError when the folder holds the state of
        another model.
        """
        everything = {"model": model, "optimizer": optimizer, "ema": ema} | parts
        done = self._restore(everything) if self.state_path.is_file() else 0
        start_alike(part for part in everything.values() if isinstance(part, nn.Module))
        return done

    def _restore(self, everything: dict[str, Stateful | None]) -> int:
        with safe_open(self.state_path, framework="pt") as file:
            tree = _unflatten(json.loads(file.metadata()["tree"]), file.get_tensor)
        try:
            for name, part in everything.items():
                if part is not None:
                    part.load_state_dict(tree[name])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self.folder} holds another model's training ({reason}); name another run folder"
            ) from error
        torch.set_rng_state(tree["torch_rng"])
        self._read_log(tree["step"])
        return tree["step"]

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def _write(self, mode: str, columns: list[str], rows: list[dict[str, Any]]) -> None:
        with open(self.folder / "log.csv", mode, newline="") as file:
            writer = csv.DictWriter(file, columns)
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)

    def _read_log(self, step: int) -> None:
        """Rows after the saved step were logged by a part of the run that is now done again."""
        path = self.folder / "log.csv"
        if path.is_file() and is_first():
            with open(path, newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) < step]
            self._write("w", self._columns() or ["step"], self.rows)


def add_run_arguments(parser: ArgumentParser, folder: str, steps: int) -> None:
    """Options every trainer has: `--run --steps --minutes --seed --device`."""
    add = parser.add_argument
    add("--run", default=folder, help="run folder; an existing run there goes on (default %(default)s)")
    add("--steps", type=int, default=steps, help="optimizer steps (default %(default)s)")
    add("--minutes", type=float, help="stop after so many minutes (default: when all steps are done)")
    add("--seed", type=int, default=0, help="same seed, same result on the same machine (default %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default %(default)s)")


def _plain(value: float | Tensor | str) -> float | str:
    value = value.item() if isinstance(value, Tensor) else value
    return value if isinstance(value, str) else float(f"{value:.6g}")


def _flatten(tree: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The JSON skeleton of `tree`; its tensors go to `tensors` by path. Integer keys are written `#1`."""
    if isinstance(tree, Tensor):
        tensors[path] = tree.detach().cpu().clone().contiguous()
        return {"tensor": path}
    if isinstance(tree, dict):
        named = {f"#{key}" if isinstance(key, int) else key: value for key, value in tree.items()}
        return {"dict": {key: _flatten(value, f"{path}/{key}", tensors) for key, value in named.items()}}
    if isinstance(tree, (list, tuple)):
        return [_flatten(value, f"{path}/{index}", tensors) for index, value in enumerate(tree)]
    return tree


def _unflatten(tree: Any, tensor: Any) -> Any:
    if isinstance(tree, list):
        return [_unflatten(value, tensor) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        return tensor(tree["tensor"])
    items = ((int(key[1:]) if key.startswith("#") else key, value) for key, value in tree["dict"].items())
    return {key: _unflatten(value, tensor) for key, value in items}
