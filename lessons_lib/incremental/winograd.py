"""3×3 convolutions with a third of the multiplications: Winograd's minimal filtering, on a processor.

Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), F(4×4, 3×3) of section 4.3: a
tile of 4×4 results is made from 6×6 inputs by 36 multiplications a channel, not 144. Inputs, filters and products
are values of polynomials at five points and infinity. The paper's points are 0, ±1 and ±2; which ones lose least in
float32 has to be tried (Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep
Neural Networks", 2020), and ours lose less. That is still more than the convolution itself loses: about twice as much
as oneDNN's does with AVX2, seven times as much as with AVX-512. It may take more time or less, likewise by processor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
_TILE = 4  # results, a side
_KERNEL = 3
_READ = _TILE + _KERNEL - 1  # inputs, a side
_ONE = POINTS.index(1.0) * (_READ + 1)  # what stands at the point (1, 1) goes into each result once
_CHANNELS = 128  # with fewer, the transforms take as long as they save
_FEWEST, _MOST = 32, 512  # rows of a product: fewer do not pay for reading the filters, more only take memory


def matrices(points: tuple[float, ...] = POINTS) -> tuple[Tensor, Tensor, Tensor]:
    """The transforms of the results (4, 6), of the filter (6, 3) and of the input (6, 6), float64.

    Lavin & Gray call them Aᵀ, G and Bᵀ: in one dimension the results are Aᵀ · (G · filter × Bᵀ · input).

    Args:
        points: five different numbers at which the polynomials are taken.
    """
    others = [np.delete(points, n) for n in range(len(points))]
    at_infinity = len(points)
    results, filters, inputs = (np.zeros((rows, _READ)) for rows in (_TILE, _KERNEL, _READ))
    for n, (point, rest) in enumerate(zip(points, others, strict=True)):
        results[:, n] = point ** np.arange(_TILE)
        filters[:, n] = point ** np.arange(_KERNEL) / np.prod(point - rest)
        inputs[n, :-1] = np.poly(rest)[::-1]
    results[-1, at_infinity] = filters[-1, at_infinity] = 1
    inputs[at_infinity] = np.poly(points)[::-1]
    return torch.from_numpy(results), torch.from_numpy(filters.T.copy()), torch.from_numpy(inputs)


class Workspace:
    """Memory that convolutions use one after the other: to ask for it anew each time takes as long as to fill it.

    Two threads must not share one.
    """

    def __init__(self) -> None:
        self._halves = torch.empty(2, 0)

    def half(self, which: int, *shape: int) -> Tensor:
        """A tensor of this shape in one of the two halves, 0 or 1; it holds what was left there."""
        size = math.prod(shape)
        if size > self._halves.shape[1]:
            with torch.inference_mode(False):  # what is made in that mode cannot be written to outside it
                self._halves = torch.empty(2, size)
        return self._halves[which, :size].view(shape)


class Winograd:
    """A 3×3 convolution of stride 1 in float32.

    Args:
        weight: filters, shape (out_channels, in_channels, 3, 3).
        bias: shape (out_channels,), or ``None``.
        workspace: may be that of other convolutions.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, workspace: Workspace) -> None:
        results, _, inputs = matrices()
        self.weight, self.bias, self.workspace = weight, bias, workspace
        self.inputs, self.results = inputs.float(), results.float()

    @cached_property
    def filters(self) -> Tensor:
        """The transformed filters, shape (36, in_channels, out_channels): four times the memory of the weights."""
        _, matrix, _ = matrices()
        out_channels, in_channels = self.weight.shape[:2]
        flat = self.weight.permute(3, 2, 1, 0).reshape(_KERNEL**2, -1).double()
        some = torch.kron(matrix, matrix).split(
            _READ
        )  # a few at a time, since float64 takes twice the memory
        return torch.cat([(rows @ flat).float() for rows in some]).view(-1, in_channels, out_channels)

    def __call__(self, maps: Tensor, padding: tuple[int, int]) -> Tensor:
        """The convolution of ``maps``, shape (N, in_channels, H, W), with zeros around them."""
        down, across = _tiles(maps, padding)
        height, width = _results(maps, padding)
        found = maps.new_empty(len(maps), _TILE * down, _TILE * across, len(self.weight))
        some = max(1, _MOST // (down * across))
        for few, here in zip(maps.split(some), found.split(some), strict=True):
            self._convolve(few, padding, (down, across), here)
        return found[:, :height, :width].permute(0, 3, 1, 2)

    def _convolve(
        self, maps: Tensor, padding: tuple[int, int], tiles: tuple[int, int], found: Tensor
    ) -> None:
        """Write the results into ``found``, shape (N, 4 · rows of tiles, 4 · columns of tiles, out_channels)."""
        pixels = _padded(maps, padding, tiles)
        rows, channels, half = len(maps) * math.prod(tiles), maps.shape[1], self.workspace.half
        # what a transform adds up comes first, so that each is one product with a small matrix: rows, then columns
        lines = pixels.unfold(1, _READ, _TILE).permute(4, 0, 1, 2, 3)
        read = half(0, *lines.shape).copy_(lines)
        values = torch.mm(self.inputs, read.view(_READ, -1), out=half(1, _READ, read[0].numel()))
        columns = values.view(read.shape).unfold(3, _READ, _TILE).permute(5, 0, 1, 2, 3, 4)
        read = half(0, *columns.shape).copy_(columns)
        values = torch.mm(self.inputs, read.view(_READ, -1), out=half(1, _READ, read[0].numel()))
        products = half(0, _READ**2, rows, len(self.weight))
        torch.bmm(values.view(_READ**2, rows, channels), self.filters, out=products)
        if self.bias is not None:
            products[_ONE] += self.bias
        across = half(1, _TILE, _READ, products[0].numel())
        torch.mm(self.results, products.view(_READ, -1), out=across.view(_TILE, -1))
        written = half(0, _TILE, _TILE, products[0].numel())
        torch.bmm(self.results.expand(_TILE, -1, -1), across, out=written)
        placed = written.view(_TILE, _TILE, len(maps), *tiles, -1).permute(2, 3, 1, 4, 0, 5)
        found.view(placed.shape).copy_(placed)

    @staticmethod
    def pays(maps: Tensor, padding: tuple[int, int]) -> bool:
        """Whether this takes less time than the convolution: with enough tiles that are not mostly overhang."""
        height, width = _results(maps, padding)
        down, across = _tiles(maps, padding)
        products = _READ**2 * down * across
        return len(maps) * down * across >= _FEWEST and 2 * products <= _KERNEL**2 * height * width


def provides(weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """Whether ``Winograd`` is made for a convolution like this, and for this device and precision."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.shape[2:] == (_KERNEL, _KERNEL)
        and {*stride, *dilation, groups} == {1}
        and min(weight.shape[:2]) >= _CHANNELS
    )


def _results(maps: Tensor, padding: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the convolution's result."""
    height, width = (size + 2 * pad - _KERNEL + 1 for size, pad in zip(maps.shape[2:], padding, strict=True))
    return height, width


def _tiles(maps: Tensor, padding: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tiles that cover the result."""
    down, across = (-(-size // _TILE) for size in _results(maps, padding))
    return down, across


def _padded(maps: Tensor, padding: tuple[int, int], tiles: tuple[int, int]) -> Tensor:
    """The maps with zeros around them, as far as the tiles read: shape (N, rows, columns, C)."""
    above, left = padding
    rows, columns = (_TILE * count + _READ - _TILE for count in tiles)
    height, width = maps.shape[2:]
    beyond = (0, 0, left, columns - left - width, above, rows - above - height)
    return F.pad(maps.permute(0, 2, 3, 1), beyond)
