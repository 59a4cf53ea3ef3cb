"""Cancel inside a network: however many pictures it takes at a time, it is heard before the next of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from .host import throw_if_cancelled


@contextmanager
def listening(model: nn.Module, check: Callable[[], None] = throw_if_cancelled) -> Iterator[None]:
    """Call `check`, which raises to cancel, before each block of `model` that runs within.

    No hook is left afterwards, whatever happens. What somebody compiled or replaced is not listened in: hooks would
    compile it anew.
    """
    handles = [block.register_forward_pre_hook(lambda *_: check()) for block in blocks(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The modules of modules that run as written: layers alone take too little time to ask at each."""
    if altered(module) or not any(module.children()):
        return
    yield module
    for child in module.children():
        yield from blocks(child)


def altered(module: nn.Module) -> bool:
    """Whether `torch.compile` has wrapped or compiled `module`, or its `forward` is not its class's."""
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    return compiled or hasattr(module, "_orig_mod") or "forward" in vars(module)
