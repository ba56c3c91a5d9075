"""Figures of the deconvnet: switches, the way down, top activations beside their projections, and what they show."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from lessons_lib.methods.deconvnet import Projection, Trace
from lessons_lib.methods.receptive_field import Box, ReceptiveField
from lessons_lib.plots import ACTIVATION, MARKERS, SIGNED, as_image, size_name

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

    Raises:
        ValueError: for another shape.
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.numel():
        raise ValueError(f"projections have shape (N, 3, H, W), not {tuple(pixels.shape)}")
    peaks = []
    for picture in pixels.abs().float().cpu():
        strength = picture[picture > 0]
        peaks.append(torch.quantile(strength, _BRIGHTEST) if len(strength) else torch.tensor(1.0))
    scaled = pixels.float().cpu() / torch.stack(peaks)[:, None, None, None]
    return (scaled.clamp(-1, 1) * 127 + 128).round().to(torch.uint8)


def numbers(
    stages: Mapping[str, Tensor], *, marked: Mapping[str, Tensor] | None = None, title: str = ""
) -> Figure:
    """Small maps with their numbers written in, side by side: for steps that are done by hand.

    Args:
        stages: by title, shape (H, W) each, read from left to right.
        marked: for some of the titles, bool (H, W): the numbers to frame.
        title: over the figure.

    Raises:
        ValueError: if a stage has another shape.
    """
    sizes = [stage.shape for stage in stages.values()]
    if not sizes or any(len(size) != 2 for size in sizes):
        raise ValueError(f"each stage must have shape (H, W), not {[tuple(size) for size in sizes]}")
    figure, axes = plt.subplots(
        1, len(stages), figsize=(2.1 * len(stages), 2.4 + 0.3 * bool(title)), squeeze=False
    )
    top = max(1e-6, *(stage.abs().max().item() for stage in stages.values()))
    for axis, (name, stage) in zip(axes[0], stages.items(), strict=True):
        axis.imshow(stage.numpy(), cmap=SIGNED, vmin=-1.6 * top, vmax=1.6 * top)
        for (row, column), value in np.ndenumerate(stage.numpy()):
            axis.text(column, row, f"{value:g}", ha="center", va="center", fontsize=11)
        frames = (marked or {}).get(name, torch.zeros(stage.shape, dtype=torch.bool))
        for row, column in frames.nonzero().tolist():
            axis.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, linewidth=2))
        axis.set_title(name)
        axis.set(xticks=[], yticks=[])
    if title:
        figure.suptitle(title)
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
    stages = [("picture", image), (f"kept in {trace.steps[-1].name}", projection.start[0])]
    stages += [
        (f"{step.operation} · {step.layer}", step.maps[0])
        for step in projection.reversals[:-1]
        if step.operation != "pass"
    ]
    last = projection.reversals[-1]
    stages.append((f"{last.operation} · {last.layer}", as_pictures(last.maps)[0]))
    rows = math.ceil(len(stages) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.6 * columns, 1.95 * rows + 0.3), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, stage) in zip(axes.flat, stages, strict=False):
        if stage.dtype == torch.uint8:
            axis.imshow(as_image(stage))
            axis.set_title(name if name == "picture" else f"{name}\npixels", fontsize=8)
            continue
        alone = stage.ndim == 1  # the units of a fully connected layer have no positions
        strength = stage.abs()[None] if alone else stage.square().sum(0).sqrt()
        size = f"{len(stage)} units" if alone else f"{len(stage)}×{size_name(stage)}"
        axis.imshow(strength.float().cpu().numpy(), cmap=ACTIVATION, vmin=0)
        axis.set_title(f"{name}\n{size}, {int((stage != 0).sum()):,} not 0", fontsize=8)
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
    if not blocks:
        raise ValueError("there are no channels to draw")
    columns = min(columns, len(blocks))
    rows = math.ceil(len(blocks) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 2.0 * rows + 0.3 * bool(title)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, (projections, patches)) in zip(axes.flat, blocks.items(), strict=False):
        if len(projections) != len(patches):
            raise ValueError(f"{name}: {len(projections)} projections beside {len(patches)} patches")
        axis.imshow(_pair(projections, patches))
        axis.set_title(name, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def evolution(layers: Mapping[str, Tensor], epochs: Sequence[int], *, title: str = "") -> Figure:
    """Features through training: a block for each layer, in it a row for each feature, a column for each epoch.

    As figure 4 of the paper.

    Args:
        layers: by name, uint8, shape (features, epochs, 3, h, w).
        epochs: the columns.
        title: over the figure.

    Raises:
        ValueError: if a layer has not one picture for each epoch.
    """
    if not layers or any(stack.ndim != 5 or stack.shape[1] != len(epochs) for stack in layers.values()):
        shapes = {name: tuple(stack.shape) for name, stack in layers.items()}
        raise ValueError(f"need (features, {len(epochs)}, 3, h, w) for each layer, not {shapes}")
    columns = 2 if len(layers) > 1 else 1
    rows = math.ceil(len(layers) / columns)
    features = max(len(stack) for stack in layers.values())
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(0.5 * len(epochs) * columns + 0.6, rows * (0.5 * features + 0.95) + 0.3 * bool(title)),
        squeeze=False,
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, stack) in zip(axes.flat, layers.items(), strict=False):
        side = stack.shape[-1] + _gap(stack)
        axis.axis("on")
        axis.imshow(as_image(_tiled(stack.flatten(0, 1), len(epochs))))
        middles = [i * side + stack.shape[-1] / 2 - 0.5 for i in range(len(epochs))]
        axis.set(title=name, xticks=middles, xticklabels=epochs, yticks=[], xlabel="epoch")
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def settling(curves: Mapping[str, Mapping[int, float]], *, threshold: float | None = None) -> Figure:
    """When each layer settles: agreement with its final features by epoch.

    Args:
        curves: by layer, then epoch: correlation with the trained network's features, up to 1.
        threshold: an agreement to draw as a dashed line.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(curves)))
    for (layer, curve), colour, marker in zip(
        curves.items(), colours, itertools.cycle(MARKERS), strict=False
    ):
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
    titles = list(next(iter(rows.values())))
    figure, axes = plt.subplots(
        len(rows), len(titles), figsize=(1.75 * len(titles), 1.75 * len(rows) + 0.35), squeeze=False
    )
    for line, (name, cells) in zip(axes, rows.items(), strict=True):
        for axis, title in zip(line, titles, strict=True):
            axis.imshow(as_image(cells[title]))
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, fontsize=9)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure


def learning_curves(curves: Mapping[str, Tensor], title: str) -> Figure:
    """Accuracy by epoch: the mean over trainings, and a band from the least to the greatest of them.

    Args:
        curves: by condition, accuracies (0-1), shape (trainings, epochs).
        title: what is shown.

    Raises:
        ValueError: if a condition has no trainings.
    """
    if not curves or any(runs.ndim != 2 or not len(runs) for runs in curves.values()):
        shapes = {name: tuple(runs.shape) for name, runs in curves.items()}
        raise ValueError(
            f"each condition needs accuracies (trainings, epochs), at least one training, not {shapes}"
        )
    figure, axis = plt.subplots(figsize=(7, 3.6))
    for (name, runs), marker in zip(curves.items(), itertools.cycle(MARKERS), strict=False):
        epochs = range(1, runs.shape[1] + 1)
        (line,) = axis.plot(epochs, runs.mean(0).numpy(), marker=marker, markersize=4, label=name)
        axis.fill_between(
            epochs, runs.amin(0).numpy(), runs.amax(0).numpy(), alpha=0.2, color=line.get_color()
        )
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
    panels = {
        "picture": image,
        "what the unit sees": image[seen],
        "its projection": drawn[seen],
        "in the picture": drawn,
    }
    poolings = [step for step in projection.reversals if step.operation == "unpool"]
    figure, axes = plt.subplots(1, 5 + bool(poolings), figsize=(2.25 * (5 + bool(poolings)), 2.75))
    axes[0].imshow(maps.numpy(), cmap=ACTIVATION, vmin=0)
    axes[0].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=_MARK, linewidth=2))
    axes[0].set_title(f"channel {channel}, {size_name(maps)}")
    for axis, (name, shown) in zip(axes[1:], panels.items(), strict=False):
        axis.imshow(as_image(shown))
        axis.set_title(name)
        if shown.shape == image.shape:
            _frame(axis, box)
    if poolings:
        busiest = int(poolings[0].maps[0].square().sum((1, 2)).argmax())
        position = [step.name for step in trace.steps].index(poolings[0].layer)
        before = trace.steps[position - 1].output if position else trace.inputs
        one, index = (
            before[0, busiest].float().cpu(),
            trace.switches[poolings[0].layer].index[0, busiest].cpu(),
        )
        axes[5].imshow(one.numpy(), cmap=ACTIVATION, vmin=0)
        _dot(axes[5], _chosen(one, index))
        axes[5].set_title(f"switches of {poolings[0].layer},\nchannel {busiest}")
    for axis in axes:
        axis.axis("off")
    peak = maps[row, column].item()
    answer = f"{peak:.2f} at row {row}, column {column}" if peak > 0 else "silent on this picture"
    figure.suptitle(f"{trace.steps[-1].name}, channel {channel}: {answer}", fontsize=11)
    return figure


def _chosen(maps: Tensor, index: Tensor) -> Tensor:
    """How many windows chose each position of a map (H, W)."""
    return index.flatten().bincount(minlength=maps.numel()).view(maps.shape)


def _dot(axis: Axes, chosen: Tensor) -> None:
    """A dot on each chosen position, larger the more windows chose it, whatever the size of the axes."""
    rows, columns = chosen.nonzero(as_tuple=True)
    unit = 190 / chosen.shape[0]
    sizes = (0.28 * unit) ** 2 * chosen[rows, columns].numpy()
    axis.scatter(columns, rows, s=sizes, facecolors="none", edgecolors=_MARK, linewidths=0.9)


def _frame(axis: Axes, box: Box) -> None:
    corner = (box.left - 0.5, box.top - 0.5)
    axis.add_patch(Rectangle(corner, box.width, box.height, fill=False, edgecolor=_MARK, linewidth=2))


def _pair(left: Tensor, right: Tensor) -> np.ndarray:
    """Two square blocks of pictures beside each other, white between."""
    blocks = [_tiled(stack, math.ceil(math.sqrt(len(stack)))) for stack in (left, right)]
    gap = torch.full((3, blocks[0].shape[1], 3 * _gap(left)), 255, dtype=torch.uint8)
    return as_image(torch.cat([blocks[0], gap, blocks[1]], dim=2))


def _tiled(stack: Tensor, columns: int) -> Tensor:
    """Pictures (N, 3, h, w) in a grid with white lines between, shape (3, H, W)."""
    gap = _gap(stack)
    rows = math.ceil(len(stack) / columns)
    height, width = stack.shape[2:]
    canvas = torch.full(
        (3, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8
    )
    for i, picture in enumerate(stack):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[:, top : top + height, left : left + width] = picture
    return canvas


def _gap(stack: Tensor) -> int:
    """White pixels between pictures: as thick on the page whatever the pictures' size."""
    return max(1, round(stack.shape[-1] / 24))
