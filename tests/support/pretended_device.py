"""A device that is not there: tensors say that they lie on it, and are computed on the CPU.

Machines that test have no accelerator, and on the CPU nothing fails that mixes tensors of two devices. Here it does,
and so does what Apple's GPUs cannot do: double precision, and sampling bicubically or with repeated edges.

    with PretendedDevice():
        torch.ones(2, device=DEVICE) + torch.ones(2)  # RuntimeError
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

if not hasattr(torch, "pretended"):  # a process can register one device, once
    _setup_privateuseone_for_python_backend("pretended")
    torch.pretended.get_amp_supported_dtype = lambda: []  # checkpointing asks the default accelerator, that is this one
DEVICE = "pretended:0"
aten = torch.ops.aten
COPIES = (aten.copy_.default, aten._to_copy.default)
INDEXES = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
SAMPLERS = (aten.grid_sampler_2d.default, aten.grid_sampler_2d_backward.default)


class PretendedTensor(Tensor):
    """Says that it lies on `DEVICE`; `inner` is the tensor that it is."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> PretendedTensor:
        return Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device(DEVICE),
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("a tensor of a device is no numpy array: copy it to the CPU first")

    def __repr__(self) -> str:
        return f"pretended {self.inner!r}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class PretendedDevice(TorchDispatchMode):
    """While it is entered, `DEVICE` is a device as any other. `runs` counts the operations on it."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.before: list[tuple[bool, bool]] = []  # settings of torch; it is entered again within itself

    def __enter__(self) -> PretendedDevice:
        swap = torch.__future__.get_swap_module_params_on_conversion()
        self.before.append((torch._C._only_lift_cpu_tensors(), swap))
        torch._C._set_only_lift_cpu_tensors(True)  # else torch.tensor(…, device=…) would ask the device's own kernels
        torch.__future__.set_swap_module_params_on_conversion(True)  # else a layer's `to` would leave `inner` behind
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        lift, swap = self.before.pop()
        torch._C._set_only_lift_cpu_tensors(lift)
        torch.__future__.set_swap_module_params_on_conversion(swap)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
            with self:  # in inference mode these come whole, and their parts may be what mixes devices
                return func.decompose(*args, **(kwargs or {}))
        self.runs += any(isinstance(x, PretendedTensor) for x in tree_leaves((args, kwargs)))
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    _refuse_two_devices(func, args, kwargs)
    there = _result_is_there(func, args, kwargs)
    if there and func in SAMPLERS and tuple(args[-3:-1])[:2] != (0, 0):
        raise NotImplementedError(f"{func}: not bilinear with zeros outside, which Apple's GPUs cannot do")
    plain = {**kwargs, "device": torch.device("cpu")} if kwargs.get("device") is not None else kwargs
    result = func(*tree_map(_inner, args), **tree_map(_inner, plain))
    if not there:
        return result
    if any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in tree_leaves(result)):
        raise TypeError(f"{func}: double precision, which Apple's GPUs cannot do")
    with torch.inference_mode(False):  # a view of a normal tensor is a normal tensor in inference mode too
        result = tree_map(lambda x: PretendedTensor(x) if isinstance(x, Tensor) else x, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if _tensors(args) else result


def _refuse_two_devices(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """As torch does: single numbers may lie on the CPU, and indices of a tensor on a device."""
    if func in COPIES:
        return
    looked_at = (args[0], *args[2:]) if func in INDEXES and isinstance(args[0], PretendedTensor) else (args, kwargs)
    kinds = {isinstance(x, PretendedTensor) for x in _tensors(looked_at) if x.dim() or isinstance(x, PretendedTensor)}
    if len(kinds) > 1:
        shapes = [f"{'there' if isinstance(x, PretendedTensor) else 'cpu'} {tuple(x.shape)}" for x in _tensors(args)]
        raise RuntimeError(f"{func}: tensors on two devices: {', '.join(shapes)}")


def _result_is_there(func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"]) == torch.device(DEVICE)
    if func is aten._local_scalar_dense.default:
        return False
    given = args[:1] if func in COPIES else (args, kwargs)
    return any(isinstance(x, PretendedTensor) for x in _tensors(given))


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, PretendedTensor) else x
