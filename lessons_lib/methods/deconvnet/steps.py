"""The three inverse steps, and which of them inverts which layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.checks import check_choice, check_tensor


@dataclass(frozen=True)
class Switches:
    """Where the maxima of one max pooling were.

    Attributes:
        index: int64, shape (N, C, h, w): for each pooled value, the position it came from, counted row by row in
            the maps that were pooled.
        height: rows of the maps that were pooled.
        width: their columns.
    """

    index: Tensor
    height: int
    width: int

    @property
    def rows(self) -> Tensor:
        """The row each maximum was in, shape (N, C, h, w)."""
        return self.index // self.width

    @property
    def columns(self) -> Tensor:
        """The column each maximum was in, shape (N, C, h, w)."""
        return self.index % self.width


def max_pool(maps: Tensor, layer: nn.MaxPool2d) -> tuple[Tensor, Switches]:
    """What ``layer`` makes of ``maps``, and its switches.

    Of equal maxima in a window the first counts, row by row.

    Args:
        maps: shape (N, C, H, W).
        layer: gives kernel size, stride, padding, dilation and rounding.

    Returns:
        The pooled maps, shape (N, C, h, w), and their switches.

    Raises:
        ValueError: if the maps have another shape or there are none.
    """
    check_tensor("feature maps", maps, "N C H W")
    size = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    pooled, index = F.max_pool2d(maps, *size, ceil_mode=layer.ceil_mode, return_indices=True)
    return pooled, Switches(index, maps.shape[2], maps.shape[3])


def unpool(pooled: Tensor, switches: Switches) -> Tensor:
    """Put each value back where its maximum was; all other positions are 0.

    Values that go to the same position, as those of overlapping windows can, are added.

    Args:
        pooled: one value for each switch, shape (N, C, h, w).
        switches: what ``max_pool`` recorded.

    Returns:
        Shape (N, C, H, W), as the maps that were pooled.

    Raises:
        ValueError: if there is not one value for each switch.

    >>> maps = torch.tensor([[[[1.0, 5.0], [3.0, 0.0]]]])
    >>> pooled, switches = max_pool(maps, nn.MaxPool2d(2))
    >>> unpool(pooled, switches)
    tensor([[[[0., 5.],
              [0., 0.]]]])
    """
    check_tensor("pooled, a value for each switch,", pooled, switches.index.shape)
    count, channels = pooled.shape[:2]
    flat = pooled.new_zeros(count, channels, switches.height * switches.width)
    flat.scatter_add_(2, switches.index.flatten(2), pooled.flatten(2))
    return flat.view(count, channels, switches.height, switches.width)


def rectify(maps: Tensor) -> Tensor:
    """Set negative values to 0: what the convnet's ReLU does to features, done to their reconstruction."""
    return maps.clamp(min=0)


def transposed_filter(maps: Tensor, layer: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    """Filter ``maps`` with the transposed weights of ``layer``: each value paints its filter, scaled, and all add up.

    The bias is left out. With stride s, s sizes of input give the same size of output, so the input's must be named.

    Args:
        maps: shape (N, C_out, h, w), as the layer's output.
        layer: a convolution whose padding, if any, is zeros.
        size: rows and columns of the layer's input.

    Returns:
        Shape (N, C_in, *size).

    Raises:
        ValueError: if the layer does not make maps of this size from inputs of that.
    """
    check_invertible("convolution", layer)
    reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    if layer.padding == "same":
        before, padding = [r // 2 for r in reach], reach
    else:
        before = [0, 0] if isinstance(layer.padding, str) else list(layer.padding)
        padding = [2 * b for b in before]
    # rows and columns that the last step of the filter did not reach
    spare = [
        s + p - r - 1 - stride * (m - 1)
        for s, p, r, stride, m in zip(size, padding, reach, layer.stride, maps.shape[2:], strict=True)
    ]
    if not all(0 <= extra < stride for extra, stride in zip(spare, layer.stride, strict=True)):
        raise ValueError(
            f"{layer} does not make maps of shape {tuple(maps.shape[1:])} from inputs of {size[0]}×{size[1]}"
        )
    padded = F.conv_transpose2d(
        maps, layer.weight, stride=layer.stride, groups=layer.groups, dilation=layer.dilation
    )
    padded = F.pad(padded, (0, spare[1], 0, spare[0]))
    return padded[:, :, before[0] : before[0] + size[0], before[1] : before[1] + size[1]].contiguous()


@dataclass(frozen=True)
class Step:
    """One layer on the way up.

    Attributes:
        name: the layer's name in the network.
        module: the layer.
        shape: the shape of its input.
        output: what it made of it, shape (N, ...).
        switches: where its maxima were, if it is a max pooling.
    """

    name: str
    module: nn.Module
    shape: torch.Size
    output: Tensor
    switches: Switches | None = None


def _scale(maps: Tensor, step: Step) -> Tensor:
    norm: Any = step.module
    factor = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight
    return maps * factor[:, None, None]


def _spread(maps: Tensor, step: Step) -> Tensor:
    """The transpose of a layer that is linear, such as an average pooling, by its derivative."""
    with torch.enable_grad():
        blank = maps.new_zeros(step.shape, requires_grad=True)
        (spread,) = torch.autograd.grad(step.module(blank), blank, maps)
    return spread


def _pass(maps: Tensor, step: Step) -> Tensor:
    return maps


REVERSE: dict[type[nn.Module], tuple[str, Callable[[Tensor, Any], Tensor]]] = {
    nn.Conv2d: ("filter", lambda maps, step: transposed_filter(maps, step.module, step.shape[2:])),
    nn.Linear: ("filter", lambda maps, step: maps @ step.module.weight),
    nn.ReLU: ("rectify", lambda maps, step: rectify(maps)),
    nn.MaxPool2d: ("unpool", lambda maps, step: unpool(maps, step.switches)),
    nn.AvgPool2d: ("spread", _spread),
    nn.AdaptiveAvgPool2d: ("spread", _spread),
    nn.BatchNorm2d: ("scale", _scale),
    nn.LocalResponseNorm: ("pass", _pass),
    nn.Dropout: ("pass", _pass),
    nn.Dropout2d: ("pass", _pass),
    nn.Flatten: ("pass", _pass),
    nn.Identity: ("pass", _pass),
}


def check_invertible(name: str, module: nn.Module) -> None:
    """ValueError for a layer that has no inverse step."""
    # by exact type: a subclass may compute something else
    if type(module) not in REVERSE:
        known = ", ".join(kind.__name__ for kind in REVERSE)
        raise ValueError(
            f"layer {name!r} is a {type(module).__name__}, which a deconvnet has no inverse for; it knows {known}"
        )
    if isinstance(module, nn.Conv2d):
        check_choice(f"inverse of layer {name!r} with padding by", module.padding_mode, ["zeros"])
    if isinstance(module, nn.BatchNorm2d) and module.running_var is None:
        raise ValueError(
            f"layer {name!r} keeps no running statistics, so it is no fixed scale that a deconvnet can invert"
        )
