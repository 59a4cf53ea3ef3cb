"""One training on several processes, on one machine or many, as `torchrun` starts them:

    torchrun --nproc-per-node 8 -m -- comfyui_mytalk train appearance --data data/prepared --on-device

Every process draws batches of its own share of the clips (identity, occlusion and speech: of all), and takes its step
on the mean of all gradients: N processes with `--batch B` train as one does with N * B. The first one alone
validates, logs and saves; all need to see the same folders.

torch's DistributedDataParallel wraps a network's `forward`. Our losses call parts of networks, some of them twice, so
gradients are averaged after `backward` instead, which gives the same without running beside it. Batch normalisation
(occlusion, sync judge, the renderer's discriminator) counts each process's batch by itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from ..errors import InputError

Clip = TypeVar("Clip")
PATIENCE = timedelta(hours=3)  # the others wait while the first one validates
SEED_STRIDE = 1_000_003  # from one process's seed to the next: trainers add small numbers to theirs


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that `torchrun` started, if it did; gives the device of this one.

    Raises InputError when this machine has fewer GPUs than processes, or `device` cannot be shared like that.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield device
        return
    device = device_of_process(device, int(os.environ.get("LOCAL_RANK", 0)))
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield device
        dist.barrier()  # the first one may be validating: who leaves early tears its connections down
    finally:
        dist.destroy_process_group()


def device_of_process(device: str, local_rank: int) -> str:
    """The device of the process number `local_rank` on its machine: a GPU each, or all on the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise InputError(f"got device {device!r} for several processes, expected auto, cpu or cuda: each takes its own")
    if device == "cuda" and local_rank >= torch.cuda.device_count():
        raise InputError(
            f"got process {local_rank + 1} of this machine, which has {torch.cuda.device_count()} GPUs; "
            "start one process per GPU (torchrun --nproc-per-node)"
        )
    return device if device == "cpu" else f"cuda:{local_rank}"


def rank_and_count() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_first() -> bool:
    """Whether this is the process that validates, logs and saves."""
    return rank_and_count()[0] == 0


def own_seed(seed: int) -> int:
    """The seed of what this process alone draws; the first one's is `seed`."""
    return seed + SEED_STRIDE * rank_and_count()[0]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of trained `parameters` by their mean over all processes; none here counts as zero."""
    count = rank_and_count()[1]
    if count == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for work in [dist.all_reduce(parameter.grad, async_op=True) for parameter in trained]:
        work.wait()
    torch._foreach_div_([parameter.grad for parameter in trained], count)


def start_alike(modules: Iterable[nn.Module]) -> None:
    """Give all processes the first one's weights, and each of the others random numbers of its own from here on."""
    rank, count = rank_and_count()
    if count == 1:
        return
    for module in modules:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)
    if rank:
        drawn = hashlib.sha256(torch.get_rng_state().numpy().tobytes() + rank.to_bytes(4, "little")).digest()
        torch.manual_seed(int.from_bytes(drawn[:8], "little") >> 1)


def told_by_first(value: float) -> float:
    """The first process's `value`, for all: clocks differ, and whoever stops alone leaves the others waiting."""
    if rank_and_count()[1] == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64)  # on the CPU: asking a GPU would make it wait
    dist.broadcast(told, 0)
    return told.item()


def own_share(clips: list[Clip]) -> list[Clip]:
    """The clips that this process trains on, every n-th: no memory holds, and no process reads, a large set n times.

    All of them where there are more processes than clips.
    """
    rank, count = rank_and_count()
    return clips[rank::count] or clips
