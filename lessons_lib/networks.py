"""What every method asks of a network: where it computes, what it may be given, and what it must give.

A network may be of half precision or compiled, give a tuple or a dictionary, or a single logit; a class may be a
NumPy integer or a tensor of one. Each of these questions is answered here once, in one sentence that says what to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

Classes = int | Tensor | Sequence[int] | np.ndarray
"""One class, or a row of them: Python's or NumPy's integers, or a tensor, such as the one of no dimensions that
``argmax()`` gives."""


def device_of(model: nn.Module) -> torch.device:
    """Where the network's first parameter lies; the CPU for one that has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def uncompiled(model: nn.Module) -> nn.Module:
    """The network inside what ``torch.compile`` returned, whose layers have the names they had before; or itself."""
    return cast(nn.Module, getattr(model, "_orig_mod", model))


def network_input(model: nn.Module, inputs: Tensor) -> Tensor:
    """``inputs`` as the network may be given them: checked, and copied to its device.

    A copy, since the network's first layer may work in place; and one outside the caller's graph.
    Under ``torch.autocast`` the precisions may differ, since it converts.

    Args:
        model: any network.
        inputs: float, any shape.

    Raises:
        TypeError: for inputs that are not floating point, or not of the network's precision.
        ValueError: for no inputs, or NaN or infinite values among them.
    """
    if not inputs.is_floating_point():
        raise TypeError(f"inputs must be floating point, not {inputs.dtype}: use to_input for uint8 pictures")
    if not inputs.numel():
        raise ValueError(f"the inputs are empty, of shape {tuple(inputs.shape)}")
    if not torch.isfinite(inputs).all():
        raise ValueError("the inputs hold NaN or infinity")
    device = device_of(model)
    precisions = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    if precisions and inputs.dtype not in precisions and not torch.is_autocast_enabled(device.type):
        raise TypeError(
            f"the inputs are {inputs.dtype} and the network {_listed(precisions)}: convert one of them, "
            "as with network.float() or inputs.to(...)"
        )
    return inputs.detach().to(device, copy=True)


def run(model: nn.Module, inputs: Tensor) -> Any:
    """What the network gives for ``inputs``, in another memory layout if it cannot take theirs.

    With channels last convolutions are faster, but ``x.view(len(x), -1)`` before a linear layer fails on it.
    """
    try:
        return model(inputs)
    except RuntimeError as error:
        if inputs.is_contiguous() or not _is_about_layout(error):
            raise
    return model(inputs.contiguous())


@torch.no_grad()
def memory_format(model: nn.Module, inputs: Tensor) -> torch.memory_format:
    """The memory layout in which a classifier computes fastest: channels last, unless it fails on it.

    Its weights are brought into this layout. It should be in evaluation mode, since it is run.

    Args:
        model: gives logits.
        inputs: some of its inputs, shape (N, C, H, W).

    Raises:
        TypeError: see :func:`logits_of`.
        ValueError: see :func:`logits_of`.
    """
    model.to(memory_format=torch.channels_last)
    try:
        logits_of(model(inputs.contiguous(memory_format=torch.channels_last)))
    except RuntimeError as error:
        if not _is_about_layout(error):
            raise
        model.to(memory_format=torch.contiguous_format)
        logits_of(model(inputs.contiguous()))
        return torch.contiguous_format
    return torch.channels_last


def logits_of(output: Any, *, softmax: bool = False) -> Tensor:
    """The output of a classifier, once it is sure that it is one: logits, shape (N, classes).

    Args:
        output: what the network gave.
        softmax: whether a softmax over the classes is to be taken. That of a single logit is 1 whatever the network
            says, so one logit is refused then.

    Raises:
        TypeError: if the output is not a tensor.
        ValueError: if it has another shape.
    """
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the network gives a {type(output).__name__}{_parts(output)}, not one tensor of logits (N, classes): "
            "wrap it in an nn.Module whose forward returns the part that holds them"
        )
    if output.ndim != 2 or not output.shape[1]:
        raise ValueError(
            f"the network gives shape {tuple(output.shape)}, not logits (N, classes): "
            "wrap it in an nn.Module whose forward returns one row of scores for each picture"
        )
    if softmax and output.shape[1] == 1:
        raise ValueError(
            "the network gives one logit z, and the softmax over one class is always 1: wrap it in an nn.Module that "
            "returns torch.cat([0 * z, z], 1), whose softmax is the sigmoid of z"
        )
    return output


def at_least_float32(values: Tensor) -> Tensor:
    """``values`` in float32 if their precision is lower, for sums and softmaxes that half a precision cannot hold."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def class_numbers(
    targets: int | Tensor | Sequence[int] | np.ndarray,
    *,
    classes: int | None = None,
    count: int | None = None,
) -> Tensor:
    """Classes as int64, shape (N,), whatever kind of whole number they came as.

    Args:
        targets: see :data:`Classes`.
        classes: how many the network knows; by default not checked.
        count: for how many pictures; one class then stands for all. By default as many as there are.

    Raises:
        TypeError: for what is not a whole number, such as 1.0 or True.
        ValueError: for another number of classes than ``count``, none, or one out of range.
    """
    try:
        numbers = torch.as_tensor(np.asarray(targets) if isinstance(targets, Sequence) else targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"a class must be a whole number, or a row of them, not {targets!r}") from error
    if numbers.numel() and (
        numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool
    ):
        raise TypeError(f"a class must be a whole number, not {targets!r}, which is {numbers.dtype}")
    if numbers.ndim > 1 or not numbers.numel() or (count is not None and numbers.shape not in {(), (count,)}):
        wanted = (
            "one class or a row of them"
            if count is None
            else f"one class, or one for each of {count} pictures"
        )
        raise ValueError(f"need {wanted}, not shape {tuple(numbers.shape)}")
    numbers = numbers.detach().long()
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or (classes is not None and high >= classes):
        allowed = "at least 0" if classes is None else f"in 0–{classes - 1}"
        raise ValueError(f"classes must be {allowed}, not {numbers.tolist()}")
    return numbers.expand(count) if count is not None else numbers.reshape(-1)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Hold PyTorch's random generator on the CPU at ``seed``, and give the caller's state back on any exit.

    The numbers are those after ``torch.manual_seed(seed)``, but generators of other devices are not touched, as they
    are by that function.
    """
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(int(seed))
        yield
    finally:
        torch.set_rng_state(state)


def _is_about_layout(error: RuntimeError) -> bool:
    return "view size is not compatible" in str(error)


def _parts(output: Any) -> str:
    """The names of a dictionary's parts, or how many a tuple has."""
    if isinstance(output, dict):
        return f" of {', '.join(map(repr, output))}"
    return f" of {len(output)}" if isinstance(output, tuple | list) else ""


def _listed(precisions: set[torch.dtype]) -> str:
    return " and ".join(sorted(map(str, precisions)))
