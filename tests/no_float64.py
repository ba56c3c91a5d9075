"""A stand-in for a device that is not here, such as Apple's MPS: it refuses float64, and tensors of the CPU.

Its tensors are kept on the CPU and say that they lie on ``DEVICE``; every operation on them is watched.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")  # of those that torch knows everywhere, the one nobody computes on


class OnDevice(Tensor):
    """A tensor that says it lies on the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        """Wrap what is held on the CPU."""
        if held.dtype == torch.float64:
            raise TypeError("this device has no float64")
        wrapped = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=DEVICE, requires_grad=held.requires_grad,
        )  # fmt: skip
        wrapped.held = held
        return wrapped

    def __repr__(self) -> str:
        """As what it holds."""
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Outside of the mode there is no such device."""
        with Device():
            return func(*args, **(kwargs or {}))


class Device(TorchDispatchMode):
    """While active, there is the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute on the CPU what the device is asked for, if it could do it."""
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        wanted = kwargs.get("device")
        moves = func in {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
        indexes = func in {
            torch.ops.aten.index.Tensor,
            torch.ops.aten.index_put_.default,
        }  # may come from the CPU
        mixed = ours and any(tensor.ndim and not isinstance(tensor, OnDevice) for tensor in tensors)
        if mixed and not (moves or indexes):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
        there = bool(ours) if wanted is None else torch.device(wanted).type == DEVICE.type
        result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if func._schema.is_mutable and tensors and result is not None:
            return args[0] if not isinstance(result, (tuple, list)) else result
        return tree_map(lambda leaf: OnDevice(leaf) if there and isinstance(leaf, Tensor) else leaf, result)


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, OnDevice) else leaf


def to_device(value: Any) -> Any:
    """A tensor, or a network in place, on the device."""
    if isinstance(value, nn.Module):
        for module in value.modules():
            for name, parameter in module.named_parameters(recurse=False):
                module._parameters[name] = nn.Parameter(OnDevice(parameter.detach()))
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = OnDevice(buffer)
        return value
    return OnDevice(value)
