"""Which pixels can a unit see? The receptive field of every position of a feature map.

NaN is catching: a sum or a maximum with NaN in it is NaN. So put NaN into some rows of a picture, run the network, and
see which units changed. That needs no formula for padding, dilation, pooling over the edge or residual branches. Where
a comparison stops NaN, as in ``torch.where(x > 0, x, 0)``, large random numbers take its place.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib.checks import check_range, check_tensor
from lessons_lib.networks import (
    at_least_float32,
    connected,
    differentiating,
    feature_maps,
    first_parameter,
    hooked,
    network_input,
    recording,
    uncompiled,
)

# what is added to a side of the picture until units in the middle see no border; multiples of any usual stride, so that
# padding that depends on the picture's size stays as it is
_MARGINS = (64, 256, 1024, 4096)
_NAN = float("nan")
_DRAWS = 8  # random numbers where NaN does not pass: a ReLU hides a change of a unit in about half of them


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
        rows: first and one past the last row of the picture that the units of each row of the map see; both 0 if they
            see nothing but padding.
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
        """The unit's field with the padding it sees: always ``size`` large, and partly outside at the border.

        Raises:
            ValueError: if the map has no such position.
        """
        self._check(row, column)
        top = self.offset[0] + row * self.stride[0]
        left = self.offset[1] + column * self.stride[1]
        return Box(top, left, top + self.size[0], left + self.size[1])

    def _check(self, row: int, column: int) -> None:
        check_range("row", row, 0, len(self.rows) - 1)
        check_range("column", column, 0, len(self.columns) - 1)


@torch.inference_mode(False)
@torch.no_grad()
def receptive_fields(
    model: nn.Module, size: int | tuple[int, int] | Tensor, layers: Sequence[str]
) -> dict[str, ReceptiveField]:
    """The receptive field of every unit of ``layers``.

    A copy of the network runs in float64 on the CPU, some forty times for each layer and axis: in float32 a fast
    convolution (Winograd's) computes several units from one tile, and NaN would pass between them. Where branches
    are united or concatenated, all channels are given the union of the branches' fields.

    Args:
        model: a feed-forward network; evaluation mode.
        size: side of the picture, its height and width, or a model input of shape (1, channels, height, width).
            With a number the picture has three channels.
        layers: names of layers that give feature maps (N, C, h, w). Up to them, the network must take pictures of
            other sizes, too.

    Returns:
        The field of each layer by name. A unit whose field is larger than the picture by over 4,000 pixels is taken
        for one that sees the whole picture.

    Raises:
        ValueError: for an unknown layer, one that runs twice or not at all, one that gives no feature map, one that
            does not depend on the picture, or one whose units do not see windows of one size at equal distances.
        TypeError: for a layer that gives no tensor, or an input that is not floating point or of another precision.

    Source: A. Araujo, W. Norris, J. Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019,
    for size, stride and offset.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3))
    >>> field = receptive_fields(net, 32, ["1"])["1"]
    >>> field.size, field.stride, field.box(0, 1)
    ((7, 7), (2, 2), Box(top=0, left=2, bottom=7, right=9))
    """
    inputs = _empty_input(model, size)
    with recording(model, layers) as outputs:
        model(inputs)
    for name, output in outputs.items():
        check_tensor(f"what layer {name!r} gives", output, "N C h w")
    exact = copy.deepcopy(uncompiled(model)).to("cpu", torch.float64)
    picture = torch.rand(inputs.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return {name: _field(exact, picture, name) for name in layers}


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
            or does not depend on the inputs, no inputs or NaN in them.

    Source: W. Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
    NeurIPS 2016, section 3.
    """
    # the backward pass too is inside, since it may run parts of the network again (activation checkpointing)
    with differentiating(model), recording(model, [layer], graph=True) as outputs:
        leaf = network_input(model, inputs).requires_grad_()
        model(leaf.clone())
        maps = feature_maps(outputs[layer], layer, leaf)
        (gradient,) = torch.autograd.grad(maps[:, :, row, column].sum(), leaf, allow_unused=True)
    gradient = connected(gradient, f"layer {layer!r}", "the inputs")
    size = at_least_float32(gradient).abs().sum((0, 1)).cpu()
    return size / size.sum().clamp(min=torch.finfo(size.dtype).tiny)


def _empty_input(model: nn.Module, size: int | tuple[int, int] | Tensor) -> Tensor:
    if isinstance(size, Tensor):
        check_tensor("the input", size, "1 channels height width")
        return network_input(model, size)
    height, width = (size, size) if isinstance(size, int) else size
    check_range("the side of the picture", min(height, width), 1)
    return torch.zeros(1, 3, height, width).to(first_parameter(model))


class _EnoughError(Exception):
    """The layer has run; what comes after it need not, and may not take pictures of this size."""


def _output(model: nn.Module, inputs: Tensor, layer: str) -> Tensor:
    """What a layer gives, without running what comes after it."""
    caught: list[Tensor] = []

    def keep(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        caught.append(output)
        raise _EnoughError

    with hooked(model, {layer: keep}), contextlib.suppress(_EnoughError):
        model(inputs)
    return caught[0]


def _field(model: nn.Module, picture: Tensor, layer: str) -> ReceptiveField:
    fill = torch.full_like(picture[..., :1, :1], _NAN)
    if not _output(model, fill.expand_as(picture).clone(), layer).isnan().all():
        generator = torch.Generator().manual_seed(1)
        fill = 1e3 * torch.randn(_DRAWS, *picture.shape[1:2], 1, 1, dtype=picture.dtype, generator=generator)
    along = functools.partial(_along, model, picture, layer, fill)
    (tall, down, top, rows), (wide, right, left, columns) = along(2), along(3)
    size = (picture.shape[2], picture.shape[3])
    field = ReceptiveField((tall, wide), (down, right), (top, left), rows, columns, size)
    _check(model, picture, layer, field)
    return field


def _along(
    model: nn.Module, picture: Tensor, layer: str, fill: Tensor, axis: int
) -> tuple[int, int, int, tuple[tuple[int, int], ...]]:
    """Size, stride, offset and each unit's interval along an axis."""
    length = picture.shape[axis]
    reached = _probe(model, picture, layer, axis, fill)
    sees = reached(0, length)
    if not any(sees):
        raise ValueError(f"layer {layer!r} does not depend on the picture")
    size, stride, offset = _rule(model, picture, layer, axis, fill)
    if not stride and not all(all(reached(end, end + 1)) for end in (0, length - 1)):
        raise _irregular(layer)
    windows = ((offset + i * stride, offset + i * stride + size) for i in range(len(sees)))
    intervals = tuple(
        (first, past) if first >= 0 and past <= length else _interval(reached, i, length)
        for i, (first, past) in enumerate(windows)
    )
    return size, stride, offset, intervals


_Probe = Callable[[int, int], list[bool]]


def _probe(model: nn.Module, canvas: Tensor, layer: str, axis: int, fill: Tensor) -> _Probe:
    """A function that says which rows of the map change with ``fill`` in rows ``begin`` to ``end`` − 1."""
    clean = _output(model, canvas.repeat(len(fill), 1, 1, 1), layer)

    @functools.cache
    def reached(begin: int, end: int) -> list[bool]:
        broken = canvas.repeat(len(fill), 1, 1, 1)
        broken.narrow(axis, begin, end - begin).copy_(fill)
        changed = _output(model, broken, layer) != clean  # NaN is like nothing
        return changed.any(0).any(0).any(3 - axis).tolist()

    return reached


def _interval(reached: _Probe, unit: int, length: int) -> tuple[int, int]:
    """First and one past the last row that a unit sees; (0, 0) for one that sees padding only."""
    first = bisect_left(range(length), True, key=lambda row: reached(0, row + 1)[unit])
    after = bisect_left(range(length), True, key=lambda row: reached(length - 1 - row, length)[unit])
    return (first, length - after) if first < length else (0, 0)


def _rule(model: nn.Module, picture: Tensor, layer: str, axis: int, fill: Tensor) -> tuple[int, int, int]:
    """Size, stride and offset along an axis, from three neighbours in the middle that see no border."""
    for margin in _MARGINS:
        shape = list(picture.shape)
        shape[axis] += margin
        length, border = shape[axis], max(32, shape[axis] // 8)
        reached = _probe(model, picture.new_zeros(shape), layer, axis, fill)
        # not only the outermost row: dilated filters have holes
        ends = reached(0, border), reached(length - border, length)
        at_border = [any(pair) for pair in zip(*ends, strict=True)]
        middle = len(at_border) // 2
        near = range(middle - 1, middle + 2)
        if len(at_border) < 3 or any(at_border[i] for i in near):
            continue
        (before, _), (first, past), (after, _) = (_interval(reached, i, length) for i in near)
        if not after - first == first - before > 0:
            raise _irregular(layer)
        return past - first, first - before, first - middle * (first - before)
    return picture.shape[axis], 0, 0


def _check(model: nn.Module, picture: Tensor, layer: str, field: ReceptiveField) -> None:
    """On the picture itself, units in two corners and the middle change with nothing outside their boxes.

    Other random pixels outside find what stops NaN on its way, as a comparison does.
    """
    clean = _output(model, picture.clone(), layer)
    ends = len(field.rows) - 1, len(field.columns) - 1
    for row, column in ((0, 0), (ends[0] // 2, ends[1] // 2), ends):
        box = field.box(row, column)
        seen = ..., slice(box.top, box.bottom), slice(box.left, box.right)
        for other in (torch.full_like(picture, _NAN), 1 - picture):
            other[seen] = picture[seen]
            if not torch.allclose(_output(model, other, layer)[0, :, row, column], clean[0, :, row, column]):
                raise _irregular(layer)


def _irregular(layer: str) -> ValueError:
    return ValueError(
        f"the units of layer {layer!r} do not see windows of one size at equal distances: choose a layer before "
        "anything that enlarges, exchanges or joins positions"
    )
