"""Figures of feature maps: one filter at work, mosaics of channels, layers side by side, measures over training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib import plots
from lessons_lib.plots import ACTIVATION, BARE, MARKERS, SIGNED, as_image, epoch_name, size_name
from lessons_lib.statistics import Interval


def mosaic(maps: Tensor) -> np.ndarray:
    """Tile the channels of one picture's feature maps, row by row, with a line of NaN between.

    Maps smaller than 8 pixels are enlarged by a whole factor, so that the lines stay thin beside them.

    Args:
        maps: shape (C, H, W).

    Returns:
        A two-dimensional float array, tiles in a grid about as square as C allows.
    """
    factor = _enlargement(maps)
    tiles = maps.float().cpu().repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    return plots.tiled(tiles, _columns(len(tiles)), gap=1, fill=torch.nan).numpy()


def one_filter(image: Tensor, weight: Tensor, summed: Tensor, activation: Tensor) -> Figure:
    """A picture, one filter, the map its weighted sums make, and what batch norm and ReLU leave of it.

    Args:
        image: uint8, shape (3, H, W).
        weight: the filter, shape (3, k, k).
        summed: after the convolution, shape (H, W).
        activation: after batch norm and ReLU, shape (H, W).
    """
    ratios = (1, 1.3, 1.25, 1.25)
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), width_ratios=ratios, subplot_kw=BARE)
    axes[0].imshow(as_image(image))
    shown = (mosaic(weight), SIGNED), (summed.numpy(), SIGNED), (activation.numpy(), ACTIVATION)
    for axis, (values, cmap) in zip(axes[1:], shown, strict=True):
        top = float(np.nanmax(np.abs(values)))
        drawn = axis.imshow(values, cmap=cmap, vmin=-top if cmap == SIGNED else 0, vmax=top)
        figure.colorbar(drawn, ax=axis, shrink=0.7)
    titles = ("picture", "filter: red, green, blue", "weighted sums", "after batch norm and ReLU")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
    return figure


def mean_maps(images: Tensor, rows: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """The mean feature map of each layer for a few pictures, state after state of the network.

    Args:
        images: uint8, shape (N, 3, H, W).
        rows: feature maps (N, C, h, w) by state ("untrained", …) and layer.

    Each map has its own colour scale, from its least to its greatest value: compare shapes, not brightness.
    """
    shown = []
    for layers in rows.values():
        for i, image in enumerate(images):
            shown += [as_image(image), *(maps[i].float().mean(0).numpy() for maps in layers.values())]
    names = [state for state in rows for _ in images]
    heads = ["picture", *(f"{layer}\n{size_name(maps)}" for layer, maps in layers.items())]
    look = {"cmap": ACTIVATION}
    figure, _ = plots.picture_grid(
        shown, heads=heads, names=names, look=look, cell=(1.25, 1.25), margin=(0, 0.4)
    )
    figure.suptitle("Mean over channels, each map from its least (dark) to its greatest value", fontsize=11)
    return figure


def channels_by_epoch(image: Tensor, maps: Mapping[int, Tensor], title: str) -> Figure:
    """The maps of some channels of one layer for one picture, one mosaic for each epoch.

    Each mosaic has a colour scale of its own, from 0 to the 99.5th percentile of its values: ages differ in size.

    Args:
        image: the picture, uint8, shape (3, H, W).
        maps: its feature maps (C, h, w) by epoch.
        title: over the figure.
    """
    columns = min(3, len(maps))
    rows = math.ceil(len(maps) / columns)
    shape = mosaic(next(iter(maps.values()))).shape
    height = 2.7 * shape[0] / shape[1] + 0.4
    figure = plt.figure(figsize=(1.4 + 3.1 * columns, rows * height + 0.4))
    grid = figure.add_gridspec(rows, 1 + columns, width_ratios=(1.3, *[3.1] * columns))
    picture = figure.add_subplot(grid[:, 0])
    picture.imshow(as_image(image))
    picture.set(title="picture", xticks=[], yticks=[])
    for i, (epoch, by_channel) in enumerate(maps.items()):
        axis = figure.add_subplot(grid[i // columns, 1 + i % columns], **BARE)
        drawn = axis.imshow(mosaic(by_channel), **_look(by_channel))
        ends = [0, drawn.norm.vmax]
        figure.colorbar(drawn, ax=axis, shrink=0.8, ticks=ends, format="%.1f", extend="max")
        axis.set_title(epoch_name(epoch), fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def lines(
    panels: Mapping[str, Mapping[str, Mapping[float, Interval]]],
    ylabels: Sequence[str],
    xlabel: str,
    controls: Mapping[str, Mapping[str, Mapping[float, Interval]]] | None = None,
    control: str = "",
) -> Figure:
    """A measure a panel, a line with intervals for each layer or kind of network, dashed for its control.

    Args:
        panels: mean and interval by title of the panel, line, and epoch or another setting, at equal distances.
        ylabels: the unit of each panel.
        xlabel: what the setting is.
        controls: the same for a control, for those panels that have one.
        control: what the dashed lines are.
    """
    figure, axes = plots.panels(len(panels), cell=(3.8, 3.6), margin=(1.8, 0))
    for axis, (title, kinds), ylabel in zip(axes, panels.items(), ylabels, strict=True):
        for i, (kind, line) in enumerate(kinds.items()):
            colour = plt.get_cmap("viridis")(0.9 * i / max(1, len(kinds) - 1))
            places = np.arange(len(line)) + 0.05 * (i - (len(kinds) - 1) / 2)  # beside each other, not on
            means, reach = plots.with_reach([*line.values()])
            look: dict[str, Any] = {"marker": MARKERS[i], "markersize": 4, "capsize": 2, "label": kind}
            axis.errorbar(places, means, reach, color=colour, **look)
            if dashed := (controls or {}).get(title):
                axis.plot(places, [v.mean for v in dashed[kind].values()], color=colour, linestyle="--", lw=1)
            axis.set_xticks(range(len(line)), [f"{setting:g}" for setting in line])
        axis.set(title=title, ylabel=ylabel, xlabel=xlabel)
    if controls:
        axis.plot([], [], color="0.3", linestyle="--", lw=1, label=control)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def channel_browser(image: Tensor, maps: Tensor, channel: int, title: str) -> Figure:
    """A picture, all channels of a layer with one framed, and that channel large.

    Args:
        image: uint8, shape (3, H, W).
        maps: the layer's feature maps of this picture, shape (C, h, w).
        channel: the one to enlarge, 0 to C − 1.
        title: over the figure.

    Raises:
        ValueError: if there is no such channel.
    """
    if not 0 <= channel < len(maps):
        raise ValueError(f"channel must be in 0–{len(maps) - 1}, not {channel}")
    titles = "picture", f"all {len(maps)} channels", f"channel {channel}, {size_name(maps)}"
    shown = [as_image(image), mosaic(maps), maps[channel].float().numpy()]
    layout: dict[str, Any] = {"cell": (10 / 3, 3.5), "width_ratios": (1, 1.6, 1.1)}
    figure, axes = plots.picture_grid(shown, titles, fontsize=10, look=_look(maps), **layout)
    height, width = (_enlargement(maps) * side for side in maps.shape[1:])
    row, column = divmod(channel, _columns(len(maps)))
    corner = column * (width + 1) - 1, row * (height + 1) - 1
    plots.frame(axes[1], *corner, width + 1, height + 1, edgecolor="#56B4E9", linewidth=2)
    figure.colorbar(axes[2].images[0], ax=axes[2], shrink=0.8, label="activation", extend="max")
    figure.suptitle(title)
    return figure


def _look(maps: Tensor) -> dict[str, Any]:
    """One colour scale for all channels, cut off at the top, with grey lines between."""
    top = max(torch.quantile(maps.float().flatten()[: 2**24], 0.995).item(), 1e-6)
    return {"cmap": plt.get_cmap(ACTIVATION).with_extremes(bad="0.75"), "vmin": 0, "vmax": top}


def _enlargement(maps: Tensor) -> int:
    """How many pixels of a mosaic a position takes, each way."""
    return max(1, 8 // maps.shape[1])


def _columns(channels: int) -> int:
    """Tiles in a row of a mosaic: the smallest divisor of ``channels`` at or above its square root."""
    start = math.ceil(math.sqrt(channels))
    divisor = next(n for n in range(start, channels + 1) if channels % n == 0)
    return divisor if divisor <= 2 * start else start
