"""Look at what a network has learned without showing it a picture: its weights, as pictures and as numbers.

Two measures say whether a filter is smooth or noisy, and for each it is known exactly what white noise scores:
:func:`low_frequency_share` and :func:`total_variation`. Both give one number for each filter, which
:func:`noise_p_values` and :mod:`lessons_lib.statistics` turn into statements about a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy import fft
from torch import Tensor, nn

from lessons_lib.networks import get_layer, uncompiled

CUTOFF = 0.25  # cycles per pixel: waves of four pixels and longer count as low


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
    module = get_layer(model, layer)
    if not isinstance(module, nn.Conv2d | nn.Linear):
        raise ValueError(
            f"layer {layer!r} is a {type(module).__name__} and has no filters; "
            f"these have: {', '.join(weight_layers(model)) or 'none'}"
        )
    return module.weight.detach().float().cpu().clone()


def as_pictures(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """The weights of a fully connected layer, each unit's arranged like the input it weighs.

    Args:
        rows: shape (units, inputs).
        shape: of one input before it was flattened, channels first: (3, 32, 32) for raw pixels.

    Returns:
        Shape (units, channels, height, width).

    Raises:
        ValueError: if the inputs do not fill ``shape``, or that has not three sizes.
    """
    if rows.ndim != 2 or len(shape) != 3 or rows.shape[1] != math.prod(shape):
        raise ValueError(
            f"weights of shape {tuple(rows.shape)} are no pictures of shape {tuple(shape)}: "
            "need (units, inputs) and (channels, height, width) with inputs = channels × height × width"
        )
    return rows.reshape(len(rows), *shape)


def frequencies(height: int, width: int) -> Tensor:
    """How fast the cosine wave of each coefficient of :func:`spectrum` varies, in cycles per pixel.

    Wave (i, j) makes i half turns from top to bottom and j from left to right, so its frequency is the length of
    ``(i / 2·height, j / 2·width)``: 0 for the flat wave, towards 0.5 each way for a checkerboard.

    Returns:
        float64, shape (height, width).

    Raises:
        ValueError: if a side is below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a filter has at least one row and one column, not {height}×{width}")
    down = torch.arange(height, dtype=torch.float64)[:, None] / (2 * height)
    across = torch.arange(width, dtype=torch.float64)[None, :] / (2 * width)
    return torch.hypot(down, across)


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


def spectrum(filters: Tensor) -> Tensor:
    """Share of a filter's energy (its sum of squares) that each cosine wave carries, over all its input channels.

    Each plane is expanded in the orthonormal two-dimensional DCT-II, the transform behind JPEG. Unlike the Fourier
    transform it does not wrap around, so that a plain ramp from dark to bright counts as one slow wave even in 3×3.

    Args:
        filters: shape (outputs, inputs, height, width), at least 2×2.

    Returns:
        float64, shape (outputs, height, width), each filter's sum 1; NaN for a filter that is zero. White noise
        has the same expectation, 1 / (height · width), everywhere.

    Raises:
        ValueError: for another shape, filters smaller than 2×2, or values that are not finite.
        TypeError: for integers.
    """
    _check_filters(filters)
    coefficients = fft.dctn(filters.detach().cpu().double().numpy(), axes=(-2, -1), norm="ortho")
    energy = torch.from_numpy(coefficients).square().sum(1)
    return energy / energy.sum((1, 2), keepdim=True)


def low_frequency_share(filters: Tensor, cutoff: float = CUTOFF) -> Tensor:
    """Share of a filter's energy in waves of at most ``cutoff`` cycles per pixel: near 1 is smooth.

    White noise of any variance has the expectation :func:`noise_share`, which depends on the filter's size, so
    compare filters of one size, or each with its own noise.

    Args:
        filters: shape (outputs, inputs, height, width), at least 2×2.
        cutoff: above 0 and below 0.5.

    Returns:
        float64, shape (outputs,), each in 0–1; NaN for a filter that is zero.

    Raises:
        ValueError: for a cutoff out of range, and as :func:`spectrum`.
        TypeError: for integers.

    >>> low_frequency_share(torch.ones(1, 3, 7, 7)), round(noise_share(7, 7), 2)
    (tensor([1.], dtype=torch.float64), 0.27)
    """
    shares = spectrum(filters)
    return shares[:, _low(filters.shape[2], filters.shape[3], cutoff)].sum(1)


def noise_share(height: int, width: int, cutoff: float = CUTOFF) -> float:
    """What :func:`low_frequency_share` expects of white noise: the share of the waves that are low.

    The transform is orthonormal, so Gaussian noise has the same expected energy in each of its height · width
    waves. With the default cutoff 4/9 for 3×3 and 13/49 for 7×7.

    Raises:
        ValueError: if a side is below 1, or for a cutoff out of range.
    """
    return _low(height, width, cutoff).double().mean().item()


def total_variation(filters: Tensor) -> Tensor:
    """How much neighbouring weights differ, relative to white noise of the same norm: below 1 is smoother.

    The mean absolute difference of horizontal and vertical neighbours in each input channel's plane, divided by
    the filter's norm and by what that is for Gaussian white noise: for n weights uniform on the unit sphere
    ``E|wᵢ − wⱼ| = √(2/π) · Γ(n/2) / Γ((n+1)/2)``. So white noise has the expectation 1 at any size. A filter with
    few large weights scores low too, however these lie: hold it against :func:`low_frequency_share`.

    Args:
        filters: shape (outputs, inputs, height, width), at least 2×2.

    Returns:
        float64, shape (outputs,): 0 for planes that are flat; NaN for a filter that is zero.

    Raises:
        ValueError: for another shape, filters smaller than 2×2, or values that are not finite.
        TypeError: for integers.

    Source: Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms" (Physica D 1992).
    """
    _check_filters(filters)
    planes = filters.detach().cpu().double()
    differences = torch.cat([planes.diff(dim=2).flatten(1), planes.diff(dim=3).flatten(1)], dim=1)
    n = planes[0].numel()
    noise = math.sqrt(2 / math.pi) * math.exp(math.lgamma(n / 2) - math.lgamma((n + 1) / 2))
    return differences.abs().mean(1) / planes.flatten(1).norm(dim=1) / noise


def shuffled(filters: Tensor, generator: torch.Generator) -> Tensor:
    """Each filter with its own weights dealt out at random over its positions and input channels.

    Args:
        filters: shape (outputs, inputs, height, width), at least 2×2.
        generator: decides the order.

    Raises:
        ValueError: for another shape, filters smaller than 2×2, or values that are not finite.
        TypeError: for integers.
    """
    _check_filters(filters)
    flat = filters.flatten(1)
    order = torch.rand(flat.shape, generator=generator).argsort(1)
    return flat.gather(1, order.to(flat.device)).view_as(filters)


def noise_p_values(
    filters: Tensor, *, cutoff: float = CUTOFF, shufflings: int = 499, seed: int = 0
) -> Tensor:
    """For each filter: how often do its own weights, shuffled, have as high a :func:`low_frequency_share`?

    A permutation test of "these weights are in no order", one for each filter, so it works without the untrained
    network. Of filters that are noise, a share of α has a value of at most α.

    Args:
        filters: shape (outputs, inputs, height, width), at least 2×2.
        cutoff: above 0 and below 0.5.
        shufflings: how many; the smallest value possible is 1 / (shufflings + 1).
        seed: of the shuffling.

    Returns:
        float64, shape (outputs,), each above 0 and at most 1; NaN for a filter that is zero.

    Raises:
        ValueError: for fewer than one shuffling, and as :func:`low_frequency_share`.
        TypeError: for integers.
    """
    if shufflings < 1:
        raise ValueError(f"need at least one shuffling, not {shufflings}")
    generator = torch.Generator().manual_seed(seed)
    observed = low_frequency_share(filters, cutoff)
    # a filter whose weights are all equal must tie with its shufflings, whatever the rounding
    as_high = torch.ones_like(observed)
    for _ in range(shufflings):
        as_high += low_frequency_share(shuffled(filters, generator), cutoff) >= observed - 1e-12
    return torch.where(observed.isnan(), torch.nan, as_high / (shufflings + 1))


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
        ValueError: if the shapes do not fit each other, or a size is under 1.
    """
    if first.ndim != 4 or second.ndim != 4 or second.shape[1] != len(first):
        raise ValueError(
            "need filters (C, channels, height, width) and (O, C, height, width), "
            f"not {tuple(first.shape)} and {tuple(second.shape)}"
        )
    step = pool if pool_stride is None else pool_stride
    if min(stride, pool, step) < 1:
        raise ValueError(f"stride, pool and pool_stride must be at least 1, not {stride}, {pool} and {step}")
    window = second.new_full((len(first), 1, pool, pool), 1 / pool**2)
    spread = F.conv_transpose2d(second, window, stride=step, groups=len(first))
    return F.conv_transpose2d(spread, first, stride=stride)


def _low(height: int, width: int, cutoff: float) -> Tensor:
    """Which waves count as low, bool (height, width)."""
    if not 0 < cutoff < 0.5:
        raise ValueError(f"cutoff must be above 0 and below 0.5 cycles per pixel, not {cutoff}")
    return frequencies(height, width) <= cutoff + 1e-12


def _check_filters(filters: Tensor) -> None:
    if filters.ndim != 4 or not filters.numel() or min(filters.shape[2:]) < 2:
        raise ValueError(
            "filters must have shape (outputs, inputs, height, width) and be at least 2×2, "
            f"not {tuple(filters.shape)}"
        )
    if not filters.is_floating_point():
        raise TypeError(f"filters must be floating point, not {filters.dtype}")
    if not torch.isfinite(filters).all():
        raise ValueError("the filters hold NaN or infinite values")
