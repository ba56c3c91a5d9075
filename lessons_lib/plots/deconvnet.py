"""Figures of the deconvnet: switches, the way down, top activations beside their projections, and what they show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib import plots
from lessons_lib.methods.deconvnet import Projection, Trace
from lessons_lib.methods.receptive_field import ReceptiveField
from lessons_lib.plots import ACTIVATION, SIGNED, as_image, size_name

_MARK = "#56B4E9"
_BRIGHTEST = 0.995  # of a projection's values, so that a few extremes do not turn the rest grey

Block = tuple[Tensor, Tensor]


def as_pictures(pixels: Tensor) -> Tensor:
    """Projections or gradients as pictures: 0 is mid-grey, and each uses the full range of its own.

    Contrast is enhanced, as in the paper: the strongest 0.5 % of a projection's values that are not 0 are clipped.

    Args:
        pixels: signed, shape (N, 3, H, W).

    Returns:
        uint8, shape (N, 3, H, W); a projection that is zero is grey (128).
    """
    # a projection that is zero has no quantile of what is not
    peaks = [
        picture.where(picture > 0, torch.nan).nanquantile(_BRIGHTEST).nan_to_num(1)
        for picture in pixels.abs().float().cpu()
    ]
    scaled = pixels.float().cpu() / torch.stack(peaks)[:, None, None, None]
    return (scaled.clamp(-1, 1) * 127 + 128).round().to(torch.uint8)


def numbers(stages: Mapping[str, Tensor], *, marked: Mapping[str, Tensor]) -> Figure:
    """Small maps with their numbers written in, side by side: for steps that are done by hand.

    Args:
        stages: by title, shape (H, W) each, read from left to right.
        marked: for some of the titles, bool (H, W): the numbers to frame.
    """
    top = 1.6 * max(plots.limit(stage) for stage in stages.values())
    figure, axes = plots.panels(len(stages), cell=(2.1, 2.4))
    for axis, (name, stage) in zip(axes, stages.items(), strict=True):
        axis.imshow(stage.numpy(), cmap=SIGNED, vmin=-top, vmax=top)
        axis.set(title=name, xticks=[], yticks=[])
        plots.write_numbers(axis, stage, "{:g}".format, fontsize=11)
        if name in marked:
            for row, column in marked[name].nonzero().tolist():
                plots.frame(axis, column - 0.46, row - 0.46, 0.92, 0.92, linewidth=2)
    return figure


def way_down(image: Tensor, trace: Trace, projection: Projection, *, columns: int = 7) -> Figure:
    """One activation on its way down: the reconstruction after each step, from the layer to the pixels.

    A reconstruction has many channels; drawn is its strength at each position, the root of the sum of squares over
    channels, each on a scale of its own. Steps at which nothing happens are left out.

    Args:
        image: the picture, uint8, shape (3, H, W).
        trace: its way up, of one picture.
        projection: the way down.
        columns: steps in a row.

    Raises:
        ValueError: if the trace is not of one picture.
    """
    if len(trace.inputs) != 1:
        raise ValueError(f"the process is drawn for one picture, not {len(trace.inputs)}")
    *steps, last = projection.reversals
    stages = [
        (f"{step.operation} · {step.layer}", step.maps[0]) for step in steps if step.operation != "pass"
    ]
    shown, titles = [as_image(image)], ["picture"]
    for name, stage in [(f"kept in {trace.steps[-1].name}", projection.start[0]), *stages]:
        alone = stage.ndim == 1  # the units of a fully connected layer have no positions
        strength = stage.abs()[None] if alone else stage.square().sum(0).sqrt()
        size = f"{len(stage)} units" if alone else f"{len(stage)}×{size_name(stage)}"
        shown.append(strength.float().cpu().numpy())
        titles.append(f"{name}\n{size}, {int((stage != 0).sum()):,} not 0")
    shown.append(as_image(as_pictures(last.maps)[0]))
    titles.append(f"{last.operation} · {last.layer}\npixels")
    look = {"cmap": ACTIVATION, "vmin": 0}
    figure, _ = plots.picture_grid(
        shown, titles, fontsize=8, look=look, columns=columns, cell=(1.6, 1.95), margin=(0, 0.3)
    )
    figure.suptitle(f"From one activation of {trace.steps[-1].name} down to the pixels", fontsize=11)
    return figure


def top_grid(blocks: Mapping[str, Block], *, columns: int = 3, title: str = "") -> Figure:
    """Channels' strongest activations: projections on the left of each pair, the image patches on the right.

    As figure 2 of the paper.

    Args:
        blocks: by title (a channel's name), the projections and the patches: uint8, shape (k, 3, h, w) each.
        columns: pairs in a row.
        title: over the figure.

    Raises:
        ValueError: if there are no blocks, or a channel has not as many patches as projections.
    """
    for name, (projections, patches) in blocks.items():
        if len(projections) != len(patches):
            raise ValueError(f"{name}: {len(projections)} projections beside {len(patches)} patches")
    shown, margin = [_pair(*block) for block in blocks.values()], (0, 0.3 * bool(title))
    figure, _ = plots.picture_grid(shown, list(blocks), columns=columns, cell=(3.6, 2.0), margin=margin)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def evolution(layers: Mapping[str, Tensor], epochs: Sequence[int]) -> Figure:
    """Features through training: a block for each layer, in it a row for each feature, a column for each epoch.

    As figure 4 of the paper.

    Args:
        layers: by name, uint8, shape (features, epochs, 3, h, w).
        epochs: the columns.

    Raises:
        ValueError: if a layer has not one picture for each epoch.
    """
    if any(stack.ndim != 5 or stack.shape[1] != len(epochs) for stack in layers.values()):
        shapes = {name: tuple(stack.shape) for name, stack in layers.items()}
        raise ValueError(f"need (features, {len(epochs)}, 3, h, w) for each layer, not {shapes}")
    features = max(len(stack) for stack in layers.values())
    cell = 0.5 * len(epochs), 0.5 * features + 0.95
    figure, axes = plots.panels(len(layers), columns=2, cell=cell, margin=(0.6, 0))
    for axis, (name, stack) in zip(axes, layers.items(), strict=True):
        side = stack.shape[-1] + _gap(stack)
        axis.imshow(as_image(_tiled(stack.flatten(0, 1), len(epochs))))
        middles = [i * side + stack.shape[-1] / 2 - 0.5 for i in range(len(epochs))]
        axis.set(title=name, xticks=middles, xticklabels=epochs, yticks=[], xlabel="epoch", frame_on=False)
        axis.tick_params(length=0)
    return figure


def settling(curves: Mapping[str, Mapping[int, float]], *, threshold: float | None = None) -> Figure:
    """When each layer settles: agreement with its final features by epoch.

    Args:
        curves: by layer, then epoch: correlation with the trained network's features, up to 1.
        threshold: an agreement to draw as a dashed line.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    for i, (layer, curve, marker) in enumerate(plots.marked(curves)):
        colour = plt.get_cmap("viridis")(0.9 * i / max(1, len(curves) - 1))
        axis.plot(list(curve), list(curve.values()), marker=marker, markersize=5, color=colour, label=layer)
    epochs = list(next(iter(curves.values())))
    if threshold is not None:
        axis.axhline(threshold, color="0.4", linestyle="--", linewidth=1)
    axis.set(
        title="How much the features are already what they will be",
        xlabel="epoch",
        xticks=epochs,
        ylabel="correlation with the end",
        ylim=(min(0.0, axis.get_ylim()[0]), 1.03),
    )
    axis.legend(fontsize=8, loc="lower right")
    return figure


def methods(rows: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """What several methods make of the same activations: a row for each activation, a column for each method.

    Args:
        rows: by activation, then column title, uint8, shape (3, h, w) each.
    """
    heads = list(next(iter(rows.values())))
    shown = [as_image(cells[title]) for cells in rows.values() for title in heads]
    figure, _ = plots.picture_grid(
        shown, heads=heads, names=list(rows), fontsize=10, cell=(1.75, 1.75), margin=(0, 0.35)
    )
    return figure


def learning_curves(curves: Mapping[str, Tensor], title: str) -> Figure:
    """Accuracy by epoch: the mean over trainings, and a band from the least to the greatest of them.

    Args:
        curves: by condition, accuracies (0-1), shape (trainings, epochs).
        title: what is shown.
    """
    figure, axis = plt.subplots(figsize=(7, 3.6))
    for name, runs, marker in plots.marked(curves):
        epochs = range(1, runs.shape[1] + 1)
        (line,) = axis.plot(epochs, runs.mean(0).numpy(), marker=marker, markersize=4, label=name)
        least, greatest = runs.amin(0).numpy(), runs.amax(0).numpy()
        axis.fill_between(epochs, least, greatest, alpha=0.2, color=line.get_color())
    axis.set(title=title, xlabel="epoch", ylabel="accuracy")
    axis.legend(fontsize=8)
    return figure


def inspected(
    image: Tensor, trace: Trace, projection: Projection, field: ReceptiveField, channel: int
) -> Figure:
    """One channel's greatest activation: where it is, what it sees, its projection, and switches on the way down.

    The switches are those of the first pooling below, in the channel that most of the reconstruction runs through.

    Args:
        image: the picture, uint8, shape (3, H, W).
        trace: its way up, of one picture, to a layer with feature maps.
        projection: the way down of the channel's greatest activation.
        field: the receptive field of the layer's units.
        channel: the channel.
    """
    maps = trace.activations[0, channel].float().cpu()
    row, column = divmod(int(maps.argmax()), maps.shape[1])
    box = field.box(row, column)
    drawn = as_pictures(projection.pixels)[0]
    seen = (slice(None), slice(box.top, box.bottom), slice(box.left, box.right))
    shown = {
        f"channel {channel}, {size_name(maps)}": maps.numpy(),
        "picture": as_image(image),
        "what the unit sees": as_image(image[seen]),
        "its projection": as_image(drawn[seen]),
        "in the picture": as_image(drawn),
    }
    poolings = [step for step in projection.reversals if step.operation == "unpool"]
    if poolings:
        busiest = int(poolings[0].maps[0].square().sum((1, 2)).argmax())
        position = [step.name for step in trace.steps].index(poolings[0].layer)
        before = trace.steps[position - 1].output if position else trace.inputs
        pooled = before[0, busiest].float().cpu()
        shown[f"switches of {poolings[0].layer},\nchannel {busiest}"] = pooled.numpy()
    look = {"cmap": ACTIVATION, "vmin": 0}
    figure, axes = plots.picture_grid(
        list(shown.values()), list(shown), fontsize=10, look=look, cell=(2.25, 2.75)
    )
    mark: dict[str, Any] = {"edgecolor": _MARK, "linewidth": 2}
    plots.frame(axes[0], column - 0.5, row - 0.5, 1, 1, **mark)
    for axis in (axes[1], axes[4]):
        plots.frame(axis, box.left - 0.5, box.top - 0.5, box.width, box.height, **mark)
    if poolings:
        _draw_switches(axes[5], trace.switches[poolings[0].layer].index[0, busiest].cpu(), pooled)
    peak = maps[row, column].item()
    answer = f"{peak:.2f} at row {row}, column {column}" if peak > 0 else "silent on this picture"
    figure.suptitle(f"{trace.steps[-1].name}, channel {channel}: {answer}", fontsize=11)
    return figure


def _draw_switches(axis: Axes, index: Tensor, maps: Tensor) -> None:
    """A dot on each position of ``maps`` that a window chose, larger the more chose it, whatever the axes' size."""
    chosen = index.flatten().bincount(minlength=maps.numel()).view(maps.shape)
    rows, columns = chosen.nonzero(as_tuple=True)
    sizes = (0.28 * (190 / len(chosen))) ** 2 * chosen[rows, columns].numpy()
    axis.scatter(columns, rows, s=sizes, facecolors="none", edgecolors=_MARK, linewidths=0.9)


def _pair(left: Tensor, right: Tensor) -> np.ndarray:
    """Two square blocks of pictures beside each other, white between."""
    blocks = [_tiled(stack, math.ceil(math.sqrt(len(stack)))) for stack in (left, right)]
    gap = torch.full((3, blocks[0].shape[1], 3 * _gap(left)), 255, dtype=torch.uint8)
    return as_image(torch.cat([blocks[0], gap, blocks[1]], dim=2))


def _tiled(stack: Tensor, columns: int) -> Tensor:
    """Pictures (N, 3, h, w) in a grid with white lines between, shape (3, H, W)."""
    return plots.tiled(stack, columns, gap=_gap(stack), fill=255)


def _gap(stack: Tensor) -> int:
    """White pixels between pictures: as thick on the page whatever the pictures' size."""
    return max(1, round(stack.shape[-1] / 24))
