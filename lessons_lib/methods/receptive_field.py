"""Which pixels can a unit see? The exact receptive field of every position of a feature map.

The network runs once on an empty picture, and each operation it calls, in a module or not, also computes which
pixels its output can depend on. Rows and columns are followed apart, as one interval a row and one a column, so
that padding, dilation, pooling that runs over the edge and residual branches need no formula of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from lessons_lib.networks import (
    at_least_float32,
    differentiating,
    feature_maps,
    first_parameter,
    hooked,
    network_input,
    recording,
    uncompiled,
)


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows ``top`` to ``bottom`` − 1 and columns ``left`` to ``right`` − 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left


@dataclass(frozen=True)
class ReceptiveField:
    """The pixels that each unit of a layer sees.

    Attributes:
        size: height and width of a unit's field, what lies outside the picture counted.
        stride: how many pixels the field moves down or to the right from one unit to the next; 0 if it does not
            move, since every unit sees the whole picture.
        offset: top and left of the first unit's field; negative if it begins outside the picture.
        rows: first and one past the last row of the picture that the units of each row of the map see.
        columns: the same for columns.
        picture: height and width of the picture.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    offset: tuple[int, int]
    rows: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]
    picture: tuple[int, int]

    def box(self, row: int, column: int) -> Box:
        """The smallest box that holds every pixel the unit at ``row``, ``column`` can depend on.

        It lies inside the picture, and is empty for a unit that sees nothing but padding.

        Raises:
            ValueError: if the map has no such position.
        """
        self._check(row, column)
        (top, bottom), (left, right) = self.rows[row], self.columns[column]
        return Box(top, left, bottom, right)

    def window(self, row: int, column: int) -> Box:
        """The unit's field with the padding it sees: always :attr:`size` large, and partly outside at the border.

        Raises:
            ValueError: if the map has no such position.
        """
        self._check(row, column)
        top = self.offset[0] + row * self.stride[0]
        left = self.offset[1] + column * self.stride[1]
        return Box(top, left, top + self.size[0], left + self.size[1])

    def _check(self, row: int, column: int) -> None:
        if not (0 <= row < len(self.rows) and 0 <= column < len(self.columns)):
            raise ValueError(
                f"the map has {len(self.rows)}×{len(self.columns)} positions, none at row {row}, column {column}"
            )


@torch.inference_mode(False)
@torch.no_grad()
def receptive_fields(
    model: nn.Module, size: int | tuple[int, int] | Tensor, layers: Sequence[str]
) -> dict[str, ReceptiveField]:
    """The receptive field of every unit of ``layers``.

    Follows convolutions, pooling, padding, batch norm, every pointwise operation (so also residual branches, whose
    fields are united) and pooling over all positions, after which a unit sees the whole picture. After a
    concatenation of branches, all channels are given the union of the branches' fields.

    Args:
        model: a feed-forward network; it is run once, in evaluation mode.
        size: side of the picture, its height and width, or a model input of shape (1, channels, height, width).
            With a number the picture has three channels.
        layers: names of layers that give feature maps (N, C, h, w).

    Returns:
        The field of each layer by name.

    Raises:
        ValueError: for an unknown layer, one that runs twice or not at all, one that gives no feature map, or one
            that depends on an operation not listed above; the message names it.
        TypeError: for a layer that gives no tensor, or an input that is not floating point or of another precision.

    Source: A. Araujo, W. Norris, J. Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019,
    for size, stride and offset.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3))
    >>> field = receptive_fields(net, 32, ["1"])["1"]
    >>> field.size, field.stride, field.box(0, 1)
    ((7, 7), (2, 2), Box(top=0, left=2, bottom=7, right=9))
    """
    inputs = _empty_input(model, size)
    follow = _Follow(inputs)

    def pass_on(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        if arguments[0] in follow.fields:
            follow.fields[output] = follow.fields[arguments[0]]

    across_channels = {
        name: pass_on
        for name, module in uncompiled(model).named_modules()
        if isinstance(module, nn.LocalResponseNorm)
    }
    with hooked(model, across_channels), recording(model, layers) as outputs, follow:
        model(inputs)
    return {name: _field(name, outputs[name], follow) for name in layers}


def effective_receptive_field(model: nn.Module, inputs: Tensor, layer: str, row: int, column: int) -> Tensor:
    """How much each pixel moves a unit: the size of the gradient, for the sum of its channels, over inputs.

    The field says which pixels *can* matter, this which of them do: the "effective receptive field".

    Args:
        model: any network; run in evaluation mode, its own gradients are left alone.
        inputs: the model's input, float, shape (N, C, H, W).
        layer: name of a layer that gives feature maps.
        row: row of the feature map.
        column: column of the feature map.

    Returns:
        Shape (H, W), on the CPU, sums to 1; 0 everywhere if no unit there is active.

    Raises:
        TypeError: for inputs that are not floating point, or not of the network's precision.
        ValueError: for an unknown layer, one that runs twice or not at all, gives no feature maps with channels first
            or does not depend on the inputs, for a position that it does not have, no inputs or NaN in them.

    Source: W. Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
    NeurIPS 2016, section 3.
    """
    # the backward pass too is inside, since it may run parts of the network again (activation checkpointing)
    with differentiating(model), recording(model, [layer], graph=True) as outputs:
        leaf = network_input(model, inputs).requires_grad_()
        model(leaf.clone())
        maps = feature_maps(outputs[layer], layer, leaf)
        if not (0 <= row < maps.shape[2] and 0 <= column < maps.shape[3]):
            raise ValueError(
                f"layer {layer!r} gives shape {tuple(maps.shape)}: it has no row {row}, column {column}"
            )
        (gradient,) = torch.autograd.grad(maps[:, :, row, column].sum(), leaf, allow_unused=True)
    if gradient is None:
        raise ValueError(
            f"no gradient goes from layer {layer!r} to the inputs: it does not depend on them, or something on the way "
            "has no derivative; choose another layer"
        )
    size = at_least_float32(gradient).abs().sum((0, 1)).cpu()
    return size / size.sum().clamp(min=torch.finfo(size.dtype).tiny)


def _empty_input(model: nn.Module, size: int | tuple[int, int] | Tensor) -> Tensor:
    if isinstance(size, Tensor):
        if size.ndim != 4 or len(size) != 1 or not size.numel():
            raise ValueError(
                f"the input must have shape (1, channels, height, width), not {tuple(size.shape)}"
            )
        return network_input(model, size)
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"the picture must have at least one pixel, not {height}×{width}")
    like = first_parameter(model)
    return torch.zeros(1, 3, height, width, dtype=like.dtype, device=like.device)


def _field(name: str, output: Tensor, follow: _Follow) -> ReceptiveField:
    if output.ndim != 4:
        raise ValueError(
            f"layer {name!r} gives shape {tuple(output.shape)}, not a feature map (N, C, h, w): its units have no "
            "position, and a fully connected one sees the whole picture"
        )
    seen = follow.fields.get(output)
    if seen is None:
        raise ValueError(f"layer {name!r} does not depend on the picture")
    if isinstance(seen, str):
        raise ValueError(f"the receptive field of layer {name!r} is not known: {seen}")
    rows, columns = seen
    return ReceptiveField(
        size=(rows.size, columns.size),
        stride=(rows.stride, columns.stride),
        offset=(rows.offset, columns.offset),
        rows=rows.intervals(),
        columns=columns.intervals(),
        picture=(rows.length, columns.length),
    )


@dataclass(frozen=True)
class _Axis:
    """What the rows (or columns) of a map see: exact intervals, and the rule they follow away from the border.

    ``first`` and ``past`` hold one entry a row of the map; an empty interval is (length, 0), so that unions need no
    special case.
    """

    first: np.ndarray
    past: np.ndarray
    size: int
    stride: int
    offset: int
    length: int

    @classmethod
    def pixels(cls, length: int) -> _Axis:
        """Each pixel sees itself."""
        pixels = np.arange(length)
        return cls(pixels, pixels + 1, 1, 1, 0, length)

    def whole(self) -> _Axis:
        """One position that sees everything these see together."""
        first, past = self.first.min(keepdims=True), self.past.max(keepdims=True)
        return _Axis(first, past, self.length, 0, 0, self.length)

    def slide(self, windows: int, kernel: int, stride: int, padding: int, dilation: int) -> _Axis:
        """What the windows of a convolution or pooling see."""
        taps = np.arange(windows)[:, None] * stride - padding + np.arange(kernel) * dilation
        return _Axis(
            *self._union(taps),
            size=self.size + (kernel - 1) * dilation * self.stride,
            stride=self.stride * stride,
            offset=self.offset - padding * self.stride,
            length=self.length,
        )

    def _union(self, taps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Union of the intervals at ``taps`` (windows, taps); those outside the map are padding."""
        inside = (taps >= 0) & (taps < len(self.first))
        taps = taps.clip(0, len(self.first) - 1)
        first = np.where(inside, self.first[taps], self.length).min(1)
        return first, np.where(inside, self.past[taps], 0).max(1)

    def broadcast(self, count: int) -> _Axis:
        """The same axis, its only position repeated ``count`` times if need be."""
        if len(self.first) == count:
            return self
        first, past = self.first.repeat(count), self.past.repeat(count)
        return _Axis(first, past, self.size, 0, self.offset, self.length)

    def unite(self, other: _Axis) -> _Axis:
        """What two branches see together.

        Raises:
            _UnknownError: if the branches move at different strides, so that their union has no common rule.
        """
        first, past = np.minimum(self.first, other.first), np.maximum(self.past, other.past)
        offset = min(self.offset, other.offset)
        end = max(self.offset + self.size, other.offset + other.size)
        if self.stride != other.stride and len(first) > 1:
            if not (first.max() == 0 and past.min() == self.length):
                raise _UnknownError(
                    f"it unites branches of different strides ({self.stride} and {other.stride})"
                )
            return _Axis(first, past, self.length, 0, 0, self.length)
        return _Axis(first, past, end - offset, max(self.stride, other.stride), offset, self.length)

    def intervals(self) -> tuple[tuple[int, int], ...]:
        """The intervals as plain numbers, an empty one as (0, 0)."""
        return tuple(
            (int(first), int(past)) if first < past else (0, 0)
            for first, past in zip(self.first, self.past, strict=True)
        )


_Axes = tuple[_Axis, _Axis]


class _UnknownError(Exception):
    """The field cannot be followed; the message says why."""


class _Follow(TorchDispatchMode):
    """While active, notes for each tensor that depends on the picture what it sees, or why that is not known."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.fields: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.fields[inputs] = (_Axis.pixels(inputs.shape[2]), _Axis.pixels(inputs.shape[3]))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # before the call, since an in-place operation gives its own input back
        seen = [self.fields[tensor] for tensor in _tensors(args) if tensor in self.fields]
        result = func(*args, **(kwargs or {}))
        produced = _tensors([result])
        if seen and produced and func.overloadpacket not in _CONSTANT:
            first, *others = produced
            self.fields[first] = _propagate(func, args, kwargs or {}, seen, first)
            for other in others:  # indices of a maximum, parts of a split
                self.fields[other] = f"it depends on the second output of {func.overloadpacket}"
            if func._schema.is_mutable and (len(seen) > 1 or not _is_pointwise(func)):
                self._forget_aliases(first)
        return result

    def _forget_aliases(self, written: Tensor) -> None:
        """What shares memory with a tensor that something was written into no longer sees what it saw."""
        memory = written.untyped_storage().data_ptr()
        for tensor in list(self.fields):
            if tensor is not written and tensor.untyped_storage().data_ptr() == memory:
                self.fields[tensor] = "it depends on a tensor that was written into in place, in parts"


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    """The tensors among the arguments or results, those in lists included (torch.cat takes one)."""
    found = []
    for argument in args:
        if isinstance(argument, Tensor):
            found.append(argument)
        elif isinstance(argument, (list, tuple)):
            found.extend(item for item in argument if isinstance(item, Tensor))
    return found


def _propagate(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], seen: list[_Axes | str], output: Tensor
) -> _Axes | str:
    """What ``output`` sees, or why that is not known."""
    axes = []
    for what in seen:
        if isinstance(what, str):
            return what
        axes.append(what)
    # the schema names arguments that the caller gave by position, and fills in defaults
    named = {argument.name: argument.default_value for argument in func._schema.arguments}
    named.update(zip(named, args, strict=False))
    named.update(kwargs)
    try:
        if output.ndim == 4 and _is_pointwise(func):
            return _unite(axes, output)
        rule = _RULES.get(func.overloadpacket)
        if rule is None or output.ndim != 4 or (len(axes) > 1 and rule is not _cat):
            raise _UnknownError(
                f"it depends on {func.overloadpacket}, which is not an operation that this module can follow"
            )
        return rule(axes, named, output)
    except _UnknownError as reason:
        return str(reason)


def _is_pointwise(func: Any) -> bool:
    return torch.Tag.pointwise in func.tags or func.overloadpacket in _POINTWISE


def _unite(axes: list[_Axes], output: Tensor) -> _Axes:
    """Every position sees what the inputs' positions there see."""
    rows, columns = (side.broadcast(n) for side, n in zip(axes[0], output.shape[2:], strict=True))
    for more in axes[1:]:
        rows = rows.unite(more[0].broadcast(output.shape[2]))
        columns = columns.unite(more[1].broadcast(output.shape[3]))
    return rows, columns


def _convolution(axes: list[_Axes], named: dict[str, Any], output: Tensor) -> _Axes:
    if named["transposed"]:
        raise _UnknownError("it depends on a transposed convolution")
    kernel = list(named["weight"].shape[2:])
    return _slide(axes[0], kernel, named, output)


def _pool(axes: list[_Axes], named: dict[str, Any], output: Tensor) -> _Axes:
    return _slide(axes[0], named["kernel_size"], named, output)


def _slide(axes: _Axes, kernel: Sequence[int], named: dict[str, Any], output: Tensor) -> _Axes:
    settings = (
        kernel,
        named["stride"] or kernel,  # pooling's default
        named["padding"],
        named.get("dilation", 1),
    )
    pairs = [_pair(setting) for setting in settings]
    rows, columns = (
        side.slide(count, *(pair[i] for pair in pairs))
        for i, (side, count) in enumerate(zip(axes, output.shape[2:], strict=True))
    )
    return rows, columns


def _pair(setting: int | Sequence[int]) -> tuple[int, int]:
    """A setting for rows and for columns; one given once holds for both."""
    numbers = [setting] if isinstance(setting, int) else list(setting)
    return numbers[0], numbers[-1]


def _adaptive_pool(axes: list[_Axes], named: dict[str, Any], output: Tensor) -> _Axes:
    rows, columns = (_adapt(side, count) for side, count in zip(axes[0], output.shape[2:], strict=True))
    return rows, columns


def _adapt(side: _Axis, count: int) -> _Axis:
    if count == 1:
        return side.whole()
    positions = len(side.first)
    if positions % count:
        raise _UnknownError(f"it pools {positions} positions adaptively into {count} windows of unequal size")
    step = positions // count
    return side.slide(count, step, step, 0, 1)


def _reduce(axes: list[_Axes], named: dict[str, Any], output: Tensor) -> _Axes:
    reduced = {dim % 4 for dim in named["dim"] or range(4)}
    rows, columns = axes[0]
    return rows.whole() if 2 in reduced else rows, columns.whole() if 3 in reduced else columns


def _normalise(axes: list[_Axes], named: dict[str, Any], output: Tensor) -> _Axes:
    """Batch norm: pointwise with stored statistics, but with the picture's own every unit sees all of it."""
    return _everything(axes, named, output) if named.get("training") else axes[0]


def _everything(axes: list[_Axes], named: dict[str, Any], output: Tensor) -> _Axes:
    rows, columns = (
        side.whole().broadcast(count) for side, count in zip(axes[0], output.shape[2:], strict=True)
    )
    return rows, columns


def _cat(axes: list[_Axes], named: dict[str, Any], output: Tensor) -> _Axes:
    if named["dim"] % 4 != 1:
        raise _UnknownError("it lays maps side by side in space")
    return _unite(axes, output)


def _pad(axes: list[_Axes], named: dict[str, Any], output: Tensor) -> _Axes:
    left, _, top, _ = [*named["pad"], 0, 0][:4]
    rows, columns = axes[0]
    return rows.slide(output.shape[2], 1, 1, top, 1), columns.slide(output.shape[3], 1, 1, left, 1)


_aten = torch.ops.aten
# not all that work on each position alone are tagged so, and fewer in PyTorch 2.9 than later
_POINTWISE = {
    _aten.detach,
    _aten.clone,
    _aten.alias,
    _aten._to_copy,
    _aten.hardswish,
    _aten.hardswish_,
    _aten._prelu_kernel,
    _aten.leaky_relu,
    _aten.leaky_relu_,
    _aten.elu_,
    _aten.celu_,
    _aten.hardtanh_,
    _aten.hardsigmoid_,
    _aten.mish_,
}
# take no more than the shape of what they are given
_CONSTANT = {
    *(_aten.new_zeros, _aten.new_ones, _aten.new_full, _aten.new_empty, _aten.new_empty_strided),
    *(_aten.zeros_like, _aten.ones_like, _aten.full_like, _aten.empty_like),
}
_RULES: dict[Any, Callable[[list[_Axes], dict[str, Any], Tensor], _Axes]] = {
    _aten.convolution: _convolution,
    _aten.max_pool2d_with_indices: _pool,
    _aten.avg_pool2d: _pool,
    _aten._adaptive_avg_pool2d: _adaptive_pool,
    _aten.adaptive_max_pool2d: _adaptive_pool,
    _aten.mean: _reduce,
    _aten.amax: _reduce,
    _aten.native_batch_norm: _normalise,
    _aten._native_batch_norm_legit_no_training: _normalise,
    _aten.native_group_norm: _everything,
    _aten.constant_pad_nd: _pad,
    _aten.cat: _cat,
}
