"""Choosing where networks run."""

from __future__ import annotations

import torch

from .errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA, then MPS, then the CPU; anything else is torch's own device name."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"got device {name!r}, which this machine cannot use ({str(error).splitlines()[0]}); try cpu"
        ) from error
    return device


def pick_dtype(name: str = "auto", device: torch.device | None = None) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies matrices of it, else float32: emulated it would be slower."""
    if name == "auto":
        return torch.bfloat16 if device is not None and multiplies_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise InputError(f"got dtype {name!r}, expected auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether `device` has units for bfloat16: CUDA hardware since Ampere, CPUs with AMX or AVX-512 BF16.

    torch's own `is_bf16_supported` also counts hardware that emulates it, and asks the current device.
    """
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_properties(device).major >= 8
    # Newer than the oldest torch we run on.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(map(capabilities.get, ("amx_bf16", "avx512_bf16")))
