"""Look at what a network has learned without showing it a picture: its weights, as pictures and as numbers.

``autocorrelation`` says whether a filter is smooth, ``noise_deviation`` how far white noise of its size
scatters around 0, and ``effective_filters`` what two layers would look for if all between them were linear.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.checks import check_choice, check_range, check_tensor
from lessons_lib.networks import get_layer, uncompiled


def weight_layers(model: nn.Module) -> tuple[str, ...]:
    """The names of all two-dimensional convolutions and fully connected layers of ``model``, in its order."""
    return tuple(
        name
        for name, module in uncompiled(model).named_modules()
        if name and isinstance(module, nn.Conv2d | nn.Linear)
    )


def weights(model: nn.Module, layer: str) -> Tensor:
    """A copy of one layer's weights, detached, float32 on the CPU.

    Args:
        model: any module whose layers have names.
        layer: a convolution or a fully connected layer.

    Returns:
        Shape (outputs, inputs, height, width) of a convolution (inputs is 1 if it is depthwise), or
        (outputs, inputs) of a fully connected layer.

    Raises:
        ValueError: for an unknown layer, or one without such weights; the message lists those that have.
    """
    module: Any = get_layer(model, layer)
    check_choice("layer with filters", layer, weight_layers(model))
    return module.weight.detach().float().cpu().clone()


def silent(filters: Tensor) -> Tensor:
    """Which filters training has shrunk to nothing: a norm under a thousandth of the layer's largest.

    What is left of them is rounding noise, which says nothing about training: leave them out of a measure.

    Args:
        filters: shape (outputs, inputs, height, width), at least 2×2.

    Returns:
        bool, shape (outputs,).

    Raises:
        ValueError: for another shape, filters smaller than 2×2, or values that are not finite.
        TypeError: for integers.
    """
    _check_filters(filters)
    norms = filters.flatten(1).norm(dim=1)
    return norms <= norms.amax() / 1000


def autocorrelation(filters: Tensor) -> Tensor:
    """How alike neighbouring weights are: the autocorrelation at lag one, the mean of both directions.

    The sum of the products of each weight with its right and with its lower neighbour in the same input channel,
    divided by twice the sum of squares. Outside its window a filter is 0, so the number stays the same when a pattern
    moves inside the window. White noise has the expectation 0 at any size (a product of two independent weights is as
    often positive as negative). A smooth n×n filter has at most cos(π / (n + 1)): 0.71 for 3×3, 0.92 for 7×7. It is
    also the mean of (cos u + cos v) / 2 over the zero-padded Fourier spectrum, weighted by its power.

    Args:
        filters: shape (outputs, inputs, height, width), at least 2×2. Nothing is subtracted from the weights.

    Returns:
        float64, shape (outputs,), above −1 and below 1; NaN for a filter that is zero.

    Raises:
        ValueError: for another shape, filters smaller than 2×2, or values that are not finite.
        TypeError: for integers.

    >>> import torch
    >>> autocorrelation(torch.ones(1, 3, 3, 3))
    tensor([0.6667], dtype=torch.float64)
    """
    _check_filters(filters)
    planes = filters.detach().cpu().double()
    planes = planes / planes.abs().amax((1, 2, 3), keepdim=True)  # so that no square underflows
    across = (planes[..., 1:] * planes[..., :-1]).sum((1, 2, 3))
    down = (planes[..., 1:, :] * planes[..., :-1, :]).sum((1, 2, 3))
    return (across + down) / (2 * planes.square().sum((1, 2, 3)))


def noise_deviation(filters: Tensor) -> float:
    """Standard deviation of ``autocorrelation`` over filters of this size that are Gaussian white noise.

    Of n weights on the unit sphere the product of two has the variance 1 / (n (n + 2)), and any two products are
    uncorrelated, so with p pairs of neighbours it is √(p / (4 n (n + 2))).

    Args:
        filters: shape (outputs, inputs, height, width), at least 2×2; only the last three sizes count.

    Raises:
        ValueError: as ``autocorrelation``.
        TypeError: for integers.

    >>> import torch
    >>> round(noise_deviation(torch.ones(1, 3, 7, 7)), 3)
    0.054
    """
    _check_filters(filters)
    channels, height, width = filters.shape[1:]
    n, pairs = channels * height * width, channels * (height * (width - 1) + (height - 1) * width)
    return float((pairs / (4 * n * (n + 2))) ** 0.5)


def effective_filters(
    first: Tensor, second: Tensor, *, stride: int = 1, pool: int = 1, pool_stride: int | None = None
) -> Tensor:
    """What the second layer's filters would look for in the picture if all between were linear.

    Drops the ReLU and averages where the network takes a maximum; what is left, convolution → average pooling →
    convolution, is one convolution with larger filters, and these can be shown in colour. How well it stands for
    the true unit must be measured: correlate their answers.

    Args:
        first: the first layer's filters, shape (C, channels, height, width). Batch norm after it must be folded in
            (``torch.nn.utils.fuse_conv_bn_eval``).
        second: the second layer's, shape (O, C, height, width).
        stride: of the first convolution.
        pool: side of the pooling window between them; 1 is none.
        pool_stride: its step; by default ``pool``.

    Returns:
        Shape (O, channels, H, W) with H = ((height₂ − 1) · pool_stride + pool − 1) · stride + height₁: the size of
        the unit's receptive field.

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    check_tensor("the first layer's filters", first, "C channels height width")
    check_tensor("the second layer's filters", second, f"O {len(first)} height width")
    step = pool if pool_stride is None else pool_stride
    window = second.new_full((len(first), 1, pool, pool), 1 / pool**2)
    spread = F.conv_transpose2d(second, window, stride=step, groups=len(first))
    return F.conv_transpose2d(spread, first, stride=stride)


def _check_filters(filters: Tensor) -> None:
    check_tensor("filters", filters, "outputs inputs height width", float, finite=True)
    check_range("the side of the filters", min(filters.shape[2:]), 2)
