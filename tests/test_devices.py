"""Where networks run, and in which precision."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from comfyui_mytalk.devices import pick_device, pick_dtype
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


@pytest.mark.parametrize(
    ("major", "hip", "dtype"),
    [(7, None, torch.float32), (8, None, torch.bfloat16), (9, None, torch.bfloat16), (7, "6.2", torch.bfloat16)],
)
def test_a_gpu_takes_bfloat16_only_where_it_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, major: int, hip: str | None, dtype: torch.dtype
) -> None:
    """That of the device asked for: torch says yes to older ones too, which emulate it, and asks the current one."""
    asked = torch.device("cuda:1")
    cards = {asked: SimpleNamespace(major=major)}
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: major < 8)
    assert pick_dtype("auto", asked) == dtype


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(InputError, match="got device 'cpux'.*try cpu"):
        pick_device("cpux")


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(InputError, match="int3"):
        pick_dtype("int3")
