"""The way down: from activations to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lessons_lib.methods.deconvnet.steps import REVERSE
from lessons_lib.methods.deconvnet.way_up import Trace, trace


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
    activations: Tensor,
    channel: int | Tensor,
    row: int | Tensor | None = None,
    column: int | Tensor | None = None,
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
        ValueError: for another shape, or a channel or position that is not there.
    """
    if activations.ndim not in {2, 4} or not activations.numel():
        raise ValueError(
            f"activations must have shape (N, C, H, W) or (N, C), not {tuple(activations.shape)}"
        )
    if (row is None) != (column is None):
        raise ValueError("give both row and column, or neither to keep the channel's greatest activation")
    if row is not None and activations.ndim == 2:
        raise ValueError("a fully connected layer has no rows and columns: give the channel only")
    pictures = torch.arange(len(activations), device=activations.device)
    at = [pictures, _index(channel, activations, 1, "channel")]
    if row is not None and column is not None:
        at += [_index(row, activations, 2, "row"), _index(column, activations, 3, "column")]
    elif activations.ndim == 4:
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
    if start.shape != trace.activations.shape:
        raise ValueError(
            f"start must have the shape of the activations, {tuple(trace.activations.shape)}, "
            f"not {tuple(start.shape)}"
        )
    if torch.isnan(start).any():
        raise ValueError("start holds NaN")
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
    channel: int | Tensor,
    row: int | Tensor | None = None,
    column: int | Tensor | None = None,
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


def _index(value: int | Tensor, activations: Tensor, dimension: int, name: str) -> Tensor:
    """``value`` as one index for each picture, int64 (N,); ValueError if it is out of range."""
    count, size = len(activations), activations.shape[dimension]
    index = torch.as_tensor(value)
    if index.is_floating_point() or index.dtype == torch.bool or index.ndim > 1:
        raise ValueError(f"{name} must be a whole number, or one for each picture, not {value!r}")
    if index.ndim == 1 and len(index) != count:
        raise ValueError(f"{count} pictures need {count} values of {name}, not {len(index)}")
    if not 0 <= int(index.min()) <= int(index.max()) < size:
        raise ValueError(f"{name} must be in 0–{size - 1}, not {value}")
    return index.long().to(activations.device).expand(count)
