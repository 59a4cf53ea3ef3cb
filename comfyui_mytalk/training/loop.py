"""What every trainer shares: its options, seeds, one step of an optimizer, and a moving average.

The run folder, and going on after a stop: `run.py`. Several processes: `processes.py`.
"""

from __future__ import annotations

import random
import signal
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..commands.arguments import positive, whole_number
from ..errors import InputError
from ..output import check_output
from .processes import average_gradients, joined
from .run import Run, own_handlers

SAVED_AS = (".safetensors",)


def add_run_arguments(parser: ArgumentParser, folder: str, steps: int) -> None:
    """Options every trainer has: where it runs and for how long, and where the weights go."""
    add = parser.add_argument
    add("--run", default=folder, help="run folder; an existing run there goes on (default %(default)s)")
    add("--steps", type=whole_number(1), default=steps, help="optimizer steps (default %(default)s)")
    add(
        "--minutes",
        type=positive,
        help="end after so many minutes, those before it was resumed included (default: when all steps are done)",
    )
    add("--seed", type=whole_number(0), default=0, help="same seed, same result, same machine (default %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default %(default)s)")
    add("--save", help="where the weights go (default: into the run folder, named after model and preset)")
    add("--allow-changes", action="store_true", help="go on with a run of other options (default: refuse)")


def trainer(name: Callable[[Namespace], str]) -> Callable[[Callable], Callable]:
    """A trainer's `main`, which writes weights of a `name`: where to is settled before any work, and whether a run that
    is there goes on.

    It may be one of several processes, each with a device of its own. Folders that were made for a training that is
    then refused are removed again.
    """

    def decorate(main: Callable[[Namespace], str]) -> Callable[[Namespace], str]:
        @wraps(main)
        def prepared_main(args: Namespace) -> str:
            path = Path(args.save or Path(args.run) / f"{name(args)}.safetensors")
            missing = [f for f in (*path.parents, Path(args.run), *Path(args.run).parents) if not f.exists()]
            try:
                args.save = str(weights_path(path))
                Run.of(args).changed_options()
                with own_handlers(), joined(args.device) as args.device:
                    return main(args)
            except InputError:
                for folder in missing:
                    with suppress(OSError):  # where the training did begin they are not empty
                        folder.rmdir()
                raise

        return prepared_main

    return decorate


def weights_path(path: str | Path) -> Path:
    """A path that weights can be written to, its folder made; raises InputError when they cannot."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another --save") from error
    return check_output(path, SAVED_AS)


def saved(args: Namespace, results: dict[str, Any] | None = None) -> str:
    """The last line of a training: where the weights are, and what their validation said."""
    figures = ", ".join(f"{name} {value}" for name, value in (results or {}).items())
    return f"wrote {args.save}" + (f" ({figures})" if figures else "")


def halved(model: nn.Module) -> dict[str, Tensor]:
    """The weights of `model` in half precision, as they ship; whole numbers stay as they are."""
    return {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
    }


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Randomness of one step that depends on nothing before it, so that a resumed run draws the same batches."""
    return np.random.default_rng((seed, step))


def start_worker(_: int) -> None:
    """For workers of a DataLoader: they share the cores, and leave it to the training to stop them.

    Ctrl-C and clusters signal the whole group; a worker that went first would take the last step with it.
    """
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, clipped: Iterable[nn.Parameter] = ()) -> None:
    """One step of the optimizer on the gradient of `loss`, averaged over all processes.

    The gradient of the parameters `clipped` is shortened to a length of 1, if it is longer.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
    nn.utils.clip_grad_norm_(list(clipped), 1.0)
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
