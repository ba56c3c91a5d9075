"""What every method asks of a network: what it may be given, and what it must give.

A network may be of half precision or compiled, give a tuple or a dictionary, or a single logit; a class may be a
NumPy integer or a tensor of one. Each of these questions is answered here once, in one sentence that says what to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lessons_lib.checks import check_range

Classes = int | Tensor | Sequence[int] | np.ndarray
"""One class, or a row of them: Python's or NumPy's integers, or a tensor, such as the one of no dimensions that
``argmax()`` gives."""

_WHOLE_NUMBERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def first_parameter(model: nn.Module) -> Tensor:
    """For the network's device and precision; an empty float32 tensor on the CPU if it has no parameters."""
    return next(model.parameters(), torch.empty(0))


def device_of(model: nn.Module) -> torch.device:
    """Where the network's first parameter lies; the CPU for one that has none."""
    return first_parameter(model).device


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
            f"the inputs are {inputs.dtype} and the network {' and '.join(sorted(map(str, precisions)))}: convert one "
            "of them, as with network.float() or inputs.to(...)"
        )
    return inputs.detach().to(device, copy=True)


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


def class_numbers(targets: Classes, *, classes: int | None = None, count: int | None = None) -> Tensor:
    """Classes as int64, shape (N,), whatever kind of whole number they came as.

    Args:
        targets: see ``Classes``.
        classes: how many the network knows; by default not checked.
        count: for how many pictures; one class then stands for all. By default as many as there are.

    Raises:
        TypeError: for what is not a whole number, such as 1.0 or True.
        ValueError: for another number of classes than ``count``, none, or one out of range.

    >>> class_numbers(3, classes=10, count=2)
    tensor([3, 3])
    """
    try:
        numbers = torch.as_tensor(np.asarray(targets) if isinstance(targets, Sequence) else targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"a class must be a whole number, or a row of them, not {targets!r}") from error
    if numbers.numel() and numbers.dtype not in _WHOLE_NUMBERS:
        raise TypeError(f"a class must be a whole number, not {targets!r}, which is {numbers.dtype}")
    if numbers.ndim > 1 or not numbers.numel() or (count is not None and numbers.shape not in {(), (count,)}):
        wanted = "" if count is None else f" of {count} pictures"
        raise ValueError(f"need one class, or one for each{wanted}, not shape {tuple(numbers.shape)}")
    numbers = numbers.detach().long()
    for number in numbers.aminmax():
        check_range("classes", int(number), 0, math.inf if classes is None else classes - 1)
    return numbers.expand(count) if count is not None else numbers.reshape(-1)


def feature_maps(output: Tensor, layer: str, inputs: Tensor) -> Tensor:
    """The output of a layer, once it is sure that it is feature maps with channels first.

    Some networks (Swin) keep channels last, (N, h, w, C), and a method that takes h for the channels would answer
    something else in silence. Pictures and their maps have about the same proportions, which tells the two apart,
    unless all three sizes are equal.

    Args:
        output: what the layer gave.
        layer: its name, for the message.
        inputs: the network's input, shape (N, channels, H, W).

    Returns:
        ``output``, shape (N, C, h, w).

    Raises:
        ValueError: for another shape, or maps that only fit the pictures with their channels last.
    """
    if output.ndim != 4:
        raise ValueError(f"layer {layer!r} gives shape {tuple(output.shape)}, not feature maps (N, C, h, w)")
    picture, (_, first, second, third) = inputs.shape[-2:], output.shape
    if not _fits(picture, (second, third)) and _fits(picture, (first, second)):
        raise ValueError(
            f"layer {layer!r} gives shape {tuple(output.shape)}, which fits pictures of {picture[0]}×{picture[1]} only "
            "with its channels last: choose or add a layer that puts them first, "
            "such as torchvision.ops.Permute([0, 3, 1, 2])"
        )
    return output


def _fits(picture: Sequence[int], maps: tuple[int, int]) -> bool:
    """Whether maps could have been made from the picture."""
    (height, width), (rows, columns) = picture, maps
    if abs(rows * width - columns * height) <= max(height, width):
        return True  # the same proportions, to within one position
    # without padding, convolutions take as much off either side, but hardly more than half of it
    stride = (width - height) / (columns - rows) if columns != rows else 0
    return stride >= 1 and stride * rows >= height / 2


def at_least_float32(values: Tensor) -> Tensor:
    """``values`` in float32 if their precision is lower, for sums and softmaxes that half a precision cannot hold."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _parts(output: Any) -> str:
    """The names of a dictionary's parts, or how many a tuple has."""
    if isinstance(output, dict):
        return f" of {', '.join(map(repr, output))}"
    return f" of {len(output)}" if isinstance(output, tuple | list) else ""
