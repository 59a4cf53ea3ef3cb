"""A training's folder: its options, its log, and a state from which it goes on after any stop.

A run folder holds `options.json` (what the weights depend on), `log.csv` (a row per logged step) and
`state.safetensors`. A trainer is

    run = Run.of(args)
    start = run.resume(model, optimizer, ema)
    for step in run.steps(start, args.steps):
        set_learning_rate(optimizer, args.rate * run.rate(step, args.steps, warmup=100))
        descend(loss_of(draw(step_rng(own_seed(args.seed), step))), optimizer)
        ema.update(model)
        run.log(step, loss=loss)

The state is saved every ten minutes, when the steps or the minutes are over, and when the process is asked to stop
(Ctrl-C, or SIGTERM as clusters send it): the step that has begun is finished first. Batches drawn from `step_rng`, and
torch's own generator, which is saved, make a resumed run equal to an uninterrupted one on the CPU; a GPU's own
generator starts anew. Of several processes (`processes.py`) the first alone writes.
"""

from __future__ import annotations

import csv
import json
import logging
import signal
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import InputError
from ..output import write_aside
from .processes import is_first, start_alike, told_by_first
from .schedule import anneal
from .state import load_state, save_state

logger = logging.getLogger(__name__)
SAVE_EVERY = 600.0  # seconds from one saved state to the next
SAVING_SHARE = 0.02  # of the time, at most: states of large networks take minutes to write
INCIDENTAL = {  # options that other weights do not follow from
    "run", "run_command", "steps", "minutes", "device", "save", "workers", "cache", "allow_changes",
    "validate_every", "validate_clips", "save_every",
}  # fmt: skip


class Stateful(Protocol):
    """Modules, optimizers, Ema: what can be saved and resumed."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Run:
    """A folder with a training run's options, log and state, and its time budget."""

    def __init__(
        self,
        folder: str | Path,
        minutes: float | None = None,
        options: dict[str, Any] | None = None,
        allow_changes: bool = False,
    ) -> None:
        self.folder, self.minutes, self.options, self.allow_changes = Path(folder), minutes, options, allow_changes
        self.folder.mkdir(parents=True, exist_ok=True)
        self.started, self.before, self.elapsed = time.monotonic(), 0.0, 0.0  # the last two in minutes
        self.saved_at, self.saved, self.saving = self.started, -1, 0.0
        self.parts: dict[str, Stateful] = {}
        self.bar: tqdm | None = None
        self.rows: list[dict[str, Any]] = []

    @classmethod
    def of(cls, args: Namespace) -> Run:
        """The run that a trainer's options describe."""
        options = {name: value for name, value in vars(args).items() if name not in INCIDENTAL}
        return cls(args.run, args.minutes, options, args.allow_changes)

    @property
    def state_path(self) -> Path:
        return self.folder / "state.safetensors"

    def resume(self, model: nn.Module, optimizer: Stateful, ema: Stateful | None = None, **parts: Stateful) -> int:
        """Restore the saved state of these parts, when there is one; returns the number of steps done.

        From now on `save` saves them. Several processes have the same networks afterwards. Raises InputError when the
        folder holds the state of another model, or of a training with other options.
        """
        named = {"model": model, "optimizer": optimizer, "ema": ema} | parts
        self.parts = {name: part for name, part in named.items() if part is not None}
        done = 0
        changed = self.changed_options()
        if self.state_path.is_file():
            done = self._restore()
        if changed and is_first():
            logger.warning("going on with changed options: %s", changed)
        if is_first() and (changed or not done):
            self._write_options()
        if is_first():
            self._remove_halves()
        self.saved = done
        start_alike(part for part in self.parts.values() if isinstance(part, nn.Module))
        return done

    def changed_options(self) -> str:
        """Which options differ from those that the folder's run was started with, if there is one to go on with.

        Raises InputError when they may not: its weights would pass for theirs.
        """
        path = self.folder / "options.json"
        if self.options is None or not path.is_file() or not self.state_path.is_file():
            return ""
        kept, new = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(self.options))
        changed = [name for name in sorted(kept.keys() & new.keys()) if kept[name] != new[name]]
        said = ", ".join(f"--{name.replace('_', '-')} {kept[name]}, now {new[name]}" for name in changed)
        if changed and not self.allow_changes:
            raise InputError(
                f"the run in {self.folder} was started with {said}; name another --run, or go on all the same with "
                "--allow-changes"
            )
        return said

    def steps(self, start: int, stop: int) -> Iterator[int]:
        """Steps `start..stop - 1` under a progress bar, ended early when the time is up.

        When the process is asked to stop, it does after the step, as if it had been asked then.
        """
        if start >= stop:
            logger.warning("%s has %d of %d steps: nothing is trained; name another --run?", self.folder, start, stop)
        hidden, begun = not is_first(), start
        with (
            tqdm(total=stop, initial=start, desc=self.folder.name, mininterval=5, disable=hidden) as self.bar,
            stop_signals() as asked,
        ):
            for step in range(start, stop):
                if self.out_of_time():
                    if step == begun:
                        spent = (self.folder, round(self.elapsed, 1), self.minutes)
                        logger.warning(
                            "%s has had %g of its %g minutes: nothing is trained; name another --run?", *spent
                        )
                    break
                yield step
                self.bar.update()
                start = step + 1
                number = int(told_by_first(asked()))
                if number or self._is_due():
                    self.save(start)
                if number:
                    logger.warning("stopped; the same command goes on at step %d", start)
                    raise_again(number)
        if start != self.saved:
            self.save(start)

    def out_of_time(self) -> bool:
        """Whether the run's minutes are over, by the first process's clock; those before it was resumed count."""
        now = self.before + (time.monotonic() - self.started) / 60
        self.elapsed = now if self.minutes is None else told_by_first(now)
        return self.minutes is not None and self.elapsed >= self.minutes

    def progress(self, step: int, stop: int) -> float:
        """Share 0..1 of the run that is over, by steps or by time, whichever is further: for annealing in time."""
        return max(step / stop, min(self.elapsed / self.minutes, 1.0)) if self.minutes else step / stop

    def rate(self, step: int, stop: int, warmup: int, floor: float = 0.02) -> float:
        """Factor on the peak learning rate: linear warm-up to 1, then half a cosine down to `floor` at the end."""
        if step < warmup:
            return (step + 1) / warmup
        share = (step - warmup) / max(stop - warmup, 1)
        return anneal(max(share, self.elapsed / self.minutes) if self.minutes else share, floor)

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

    def save(self, done: int) -> None:
        """Save everything `resume` needs when `done` steps are done.

        Raises InputError, and leaves what was saved before, when weights are no numbers any more.
        """
        if is_first():
            self._check_numbers(done)
        began, self.saved = time.monotonic(), done
        if is_first():
            tree = {name: part.state_dict() for name, part in self.parts.items()}
            minutes = self.before + (began - self.started) / 60
            save_state(self.state_path, tree | {"step": done, "minutes": minutes, "torch_rng": torch.get_rng_state()})
        self.saved_at, self.saving = time.monotonic(), time.monotonic() - began

    def _check_numbers(self, done: int) -> None:
        """Here, and not at each step, since asking makes a GPU wait; and before trainers write weights."""
        networks = [part for part in self.parts.values() if isinstance(part, nn.Module)]
        tensors = [tensor for network in networks for tensor in network.state_dict().values()]
        if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
            kept = f"step {self.saved} is still saved" if self.saved > 0 else "nothing is saved"
            raise InputError(
                f"the training in {self.folder} came apart: after {done} steps weights are no numbers any more, and "
                f"{kept}; train with a lower --rate, in another --run or with --allow-changes"
            )

    def _is_due(self) -> bool:
        return time.monotonic() - self.saved_at > max(SAVE_EVERY, self.saving / SAVING_SHARE)

    def _restore(self) -> int:
        tree = load_state(self.state_path)
        try:
            for name, part in self.parts.items():
                part.load_state_dict(tree[name])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self.folder} holds another model's training ({reason}); name another run folder"
            ) from error
        torch.set_rng_state(tree["torch_rng"])
        self.before = self.elapsed = tree.get("minutes", 0.0)
        self._read_log(tree["step"])
        return tree["step"]

    def _write_options(self) -> None:
        if self.options is not None:
            with write_aside(self.folder / "options.json") as part:
                part.write_text(json.dumps(self.options, indent=2) + "\n", encoding="utf-8")

    def _remove_halves(self) -> None:
        """Of states that a killed process was writing: each is as large as the state."""
        for left in (*self.folder.glob(".state.*.part.safetensors"), *self.folder.glob(".tmp*")):
            with suppress(OSError):
                left.unlink()

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


@contextmanager
def stop_signals() -> Iterator[Any]:
    """Gives a function that says which signal has asked this process to stop since, 0 for none.

    Asked twice, it stops at once. Within `own_handlers` what it changes ends with that block at the latest: a step that
    raises leaves `Run.steps` suspended, and its end is then up to the garbage collector.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    asked = 0

    def ask(number: int, _: object) -> None:
        nonlocal asked
        asked = number
        signal.signal(number, kept[number])

    kept = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in kept.items():
            if signal.getsignal(number) is ask:
                signal.signal(number, handler)


@contextmanager
def own_handlers() -> Iterator[None]:
    """A block after which this process reacts to being asked to stop as it did before."""
    main = threading.current_thread() is threading.main_thread()
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def raise_again(number: int) -> None:
    """Stop by the signal that asked for it, in whatever way the process does."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _plain(value: float | Tensor | str) -> float | str:
    value = value.item() if isinstance(value, Tensor) else value
    return value if isinstance(value, str) else float(f"{value:.6g}")
