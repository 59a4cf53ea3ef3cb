"""Strict small double of ComfyUI 0.3.64's V3 node interface: what that host would refuse, this refuses too."""

from abc import ABC, abstractmethod

from . import io, ui


class ComfyExtension(ABC):
    """0.3.64 never calls `on_load`, so this double has no such hook to fill."""

    @abstractmethod
    async def get_node_list(self): ...


__all__ = ["ComfyExtension", "io", "ui"]
