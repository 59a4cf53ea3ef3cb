"""Where networks run, and in which precision."""

from __future__ import annotations

import pytest
import torch

from comfyui_mytalk.devices import pick_dtype
from comfyui_mytalk.errors import InputError


@pytest.mark.parametrize(
    ("found", "dtype"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False}, torch.float32),
    ],
)
def test_a_cpu_takes_bfloat16_only_where_it_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert pick_dtype("auto", torch.device("cpu")) == dtype
    assert pick_dtype("float32", torch.device("cpu")) == torch.float32


def test_a_torch_that_cannot_tell_takes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(InputError, match="int3"):
        pick_dtype("int3")
