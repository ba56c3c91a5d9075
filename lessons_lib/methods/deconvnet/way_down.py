"""The way down: from activations to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lessons_lib.checks import check_range, check_tensor
from lessons_lib.methods.deconvnet.steps import REVERSE
from lessons_lib.methods.deconvnet.way_up import Trace, trace

Index = int | Tensor
"""For all pictures, or int64 (N,) with one for each."""


@dataclass(frozen=True)
class Reversal:
    """One layer on the way down.

    Attributes:
        layer: the name of the layer that was inverted.
        operation: what was done: "unpool", "rectify", "filter", "scale" (batch norm), "spread" (average pooling),
            or "pass" where nothing is (contrast normalisation, dropout, flattening).
        maps: the reconstruction of that layer's *input*.
    """

    layer: str
    operation: str
    maps: Tensor


@dataclass(frozen=True)
class Projection:
    """The way of kept activations down to the pixels.

    Attributes:
        start: the activations kept, all others 0, shape of the layer's output.
        reversals: the layers in the order in which they were inverted; the last one's maps are the pixels.
    """

    start: Tensor
    reversals: tuple[Reversal, ...]

    @property
    def pixels(self) -> Tensor:
        """The projection, shape of the network's input; signed, in the units of activation × weights."""
        return self.reversals[-1].maps


def keep(
    activations: Tensor, channel: Index, row: Index | None = None, column: Index | None = None
) -> Tensor:
    """Set all activations of each picture to 0 but one of ``channel``: by default its greatest.

    Args:
        activations: shape (N, C, H, W), or (N, C) for a fully connected layer.
        channel: for all pictures, or int64 (N,) with one for each.
        row: the position to keep, likewise; needs ``column`` too.
        column: likewise.

    Returns:
        Shape of ``activations``.

    Raises:
        ValueError: for a channel or position that is not there.
    """
    if (row is None) != (column is None):
        raise ValueError("give both row and column, or neither to keep the channel's greatest activation")
    if row is not None and activations.ndim == 2:
        raise ValueError("a fully connected layer has no rows and columns: give the channel only")
    given = [channel] if row is None or column is None else [channel, row, column]
    pictures = torch.arange(len(activations), device=activations.device)
    at = [pictures, *(_index(value, activations, i) for i, value in enumerate(given, 1))]
    if row is None and activations.ndim == 4:
        width = activations.shape[3]
        greatest = activations[at[0], at[1]].flatten(1).argmax(1)
        at += [greatest // width, greatest % width]
    kept = torch.zeros_like(activations)
    kept[tuple(at)] = activations[tuple(at)]
    return kept


@torch.no_grad()
def project(trace: Trace, start: Tensor) -> Projection:
    """Project activations down to pixels: unpool, rectify and filter, from the last layer to the first.

    Twice the activations give twice the projection. But because reconstructions are rectified, the projection of
    several activations together is not the sum of their projections.

    Args:
        trace: the way up, from ``trace``.
        start: shape of the trace's activations: what to project. One activation of each picture (``keep``), a
            channel, or any other selection, all else 0.

    Raises:
        ValueError: if ``start`` has another shape or holds NaN.
    """
    check_tensor("start", start, trace.activations.shape, finite=True)
    maps, reversals = start.to(trace.activations), []
    for step in reversed(trace.steps):
        operation, reverse = REVERSE[type(step.module)]
        maps = reverse(maps.reshape(step.output.shape), step).reshape(step.shape)
        reversals.append(Reversal(step.name, operation, maps))
    return Projection(start, tuple(reversals))


def deconvnet(
    model: nn.Module,
    inputs: Tensor,
    layer: str,
    channel: Index,
    row: Index | None = None,
    column: Index | None = None,
) -> Projection:
    """Project one activation of each picture to pixels: ``trace``, ``keep`` and ``project`` in one call.

    Args:
        model: see ``trace``.
        inputs: the model's input, float, shape (N, C, H, W).
        layer: the layer the activation is in.
        channel: its channel, for all pictures or int64 (N,).
        row: its position, likewise; by default that of the channel's greatest activation.
        column: likewise.

    Raises:
        ValueError: as those functions do.
        TypeError: for inputs that are not floating point.
    """
    way_up = trace(model, inputs, layer)
    return project(way_up, keep(way_up.activations, channel, row, column))


def _index(value: Index, activations: Tensor, dimension: int) -> Tensor:
    """``value`` as one index for each picture, int64 (N,); ValueError if it is out of range."""
    index = torch.as_tensor(value).expand(len(activations))
    for end in index.aminmax():
        what = ("channel", "row", "column")[dimension - 1]
        check_range(what, int(end), 0, activations.shape[dimension] - 1)
    return index.to(activations.device)
