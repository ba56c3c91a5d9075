"""Figures of weights: filters as pictures, the waves they are made of, and how smooth they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy import fft
from torch import Tensor

from lessons_lib.methods.filters import CUTOFF, frequencies, spectrum
from lessons_lib.plots import PROBABILITY, SIGNED, as_image, size_name
from lessons_lib.plots.activations import mosaic
from lessons_lib.statistics import Interval

Scale = Literal["shared", "own"]

_MARK = "#D55E00"
_WAVE_GAP = 0.15  # between waves, as a share of their side


def as_colours(filters: Tensor, scale: Scale = "shared") -> Tensor:
    """Filters on red, green and blue as pictures: weight 0 is mid-grey, a bright red pixel wants red there.

    Args:
        filters: shape (N, 3, H, W).
        scale: "shared": the largest weight of all, either sign, becomes black or full colour, so that weak
            filters stay grey; "own": the largest of each filter, so that each uses the full range and strengths
            cannot be compared.

    Returns:
        Shape (N, 3, H, W), each in 0–1; a filter that is zero is grey.

    Raises:
        ValueError: for another shape, no filters, or another scale.
    """
    if filters.ndim != 4 or filters.shape[1] != 3 or not filters.numel():
        raise ValueError(
            f"only filters on red, green and blue, shape (N, 3, H, W), have colours; these are {tuple(filters.shape)}"
        )
    if scale not in ("shared", "own"):
        raise ValueError(f'scale must be "shared" or "own", not {scale!r}')
    size = filters.abs()
    peak = size.amax() if scale == "shared" else size.amax((1, 2, 3), keepdim=True)
    return 0.5 + filters / (2 * peak.clamp(min=torch.finfo(filters.dtype).tiny))


def filter_grids(
    groups: Mapping[str, Tensor], *, scale: Scale = "shared", columns: int = 3, suptitle: str = ""
) -> Figure:
    """First-layer filters in colour, a grid for each group.

    Args:
        groups: filters by title, shape (N, 3, H, W) each.
        scale: see :func:`as_colours`; "shared" is shared within a group.
        columns: grids in a row.
        suptitle: over the figure.

    Raises:
        ValueError: if there are no groups, or one has no colours.
    """
    if not groups:
        raise ValueError("there are no filters to draw")
    grids = {title: colour_grid(filters, scale) for title, filters in groups.items()}
    columns = min(columns, len(groups))
    rows = math.ceil(len(groups) / columns)
    height = 3.3 * max(grid.shape[0] / grid.shape[1] for grid in grids.values())
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.3 * columns, (height + 0.3) * rows + (0.3 if suptitle else 0)),
        squeeze=False,
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, grid) in zip(axes.flat, grids.items(), strict=False):
        axis.imshow(grid)
        axis.set_title(title)
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def colour_grid(filters: Tensor, scale: Scale = "shared") -> np.ndarray:
    """Filters (N, 3, H, W) in colour, tiled as :func:`mosaic` does, white between: (rows, columns, 3) in 0–1."""
    tiles = as_colours(filters.float().cpu(), scale)
    channels = [mosaic(tiles[:, channel]) for channel in range(3)]
    return np.nan_to_num(np.stack(channels, axis=-1), nan=1.0)


def pictures_in_colour(
    filters: Tensor, titles: Sequence[str], *, scale: Scale = "own", columns: int = 5, suptitle: str = ""
) -> Figure:
    """Weights on red, green and blue, each large and with a title: class templates, effective filters.

    Args:
        filters: shape (N, 3, H, W).
        titles: one for each.
        scale: see :func:`as_colours`.
        columns: pictures in a row.
        suptitle: over the figure.

    Raises:
        ValueError: if there are not as many titles, or the filters have no colours.
    """
    tiles = as_colours(filters.float().cpu(), scale)
    if len(titles) != len(tiles):
        raise ValueError(f"{len(tiles)} filters need {len(tiles)} titles, not {len(titles)}")
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.6 * columns, 1.85 * rows + (0.3 if suptitle else 0)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, tile, title in zip(axes.flat, tiles, titles, strict=False):
        axis.imshow(as_image(tile))
        axis.set_title(title, fontsize=9)
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def kernels(filters: Tensor, *, outputs: int = 12, inputs: int = 24, title: str = "") -> Figure:
    """A deeper layer's weights: a row for each filter, a tile for each channel it reads, one scale for all.

    Args:
        filters: shape (O, I, H, W).
        outputs: the most filters to draw.
        inputs: the most channels to draw.
        title: over the figure.

    Raises:
        ValueError: for another shape.
    """
    if filters.ndim != 4 or not filters.numel():
        raise ValueError(f"need filters of shape (O, I, H, W), not {tuple(filters.shape)}")
    shown = filters[:outputs, :inputs].float().cpu()
    rows, columns, height, width = shown.shape
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan, dtype=np.float32)
    for i in range(rows):
        for j in range(columns):
            canvas[i * (height + 1) :, j * (width + 1) :][:height, :width] = shown[i, j]
    figure, axis = plt.subplots(figsize=(9.5, 1.2 + 7.6 * canvas.shape[0] / canvas.shape[1]))
    _draw_signed(figure, axis, canvas)
    axis.set_xticks(
        np.arange(columns) * (width + 1) + (width - 1) / 2, [str(i) for i in range(columns)], fontsize=8
    )
    axis.set_yticks(
        np.arange(rows) * (height + 1) + (height - 1) / 2, [str(i) for i in range(rows)], fontsize=8
    )
    part = f"the first {rows} of {len(filters)} filters × {columns} of {filters.shape[1]} input channels"
    axis.set(xlabel="input channel", ylabel="filter", title=f"{title}: {part}" if title else part)
    return figure


def plane_grids(groups: Mapping[str, Tensor], *, columns: int = 3, suptitle: str = "") -> Figure:
    """Filters on a single channel, such as a depthwise convolution's, a mosaic for each group.

    Args:
        groups: filters by title, shape (N, H, W) each; one colour scale a group.
        columns: mosaics in a row.
        suptitle: over the figure.

    Raises:
        ValueError: if there are no groups, or one has another shape.
    """
    if not groups:
        raise ValueError("there are no filters to draw")
    columns = min(columns, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.8 * columns, 3.3 * rows + (0.3 if suptitle else 0)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, filters) in zip(axes.flat, groups.items(), strict=False):
        _draw_signed(figure, axis, mosaic(filters))
        axis.set_title(title)
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def matrices(layers: Mapping[str, Tensor], *, ylabel: str = "", yticklabels: Sequence[str] = ()) -> Figure:
    """Fully connected weights, one picture a layer or state: a row for each output, a column for each input.

    Args:
        layers: weights (outputs, inputs) by title, all of one shape; one colour scale for each picture.
        ylabel: what the outputs are.
        yticklabels: their names.

    Raises:
        ValueError: if there are none, or one is no matrix.
    """
    if not layers or any(matrix.ndim != 2 for matrix in layers.values()):
        raise ValueError("need at least one matrix of weights (outputs, inputs)")
    figure, axes = plt.subplots(len(layers), 1, figsize=(9, 2.2 * len(layers)), squeeze=False)
    for axis, (title, matrix) in zip(axes.flat, layers.items(), strict=True):
        _draw_signed(figure, axis, matrix.float().cpu().numpy())
        axis.set(title=title, ylabel=ylabel)
        if yticklabels:
            axis.set_yticks(range(len(yticklabels)), yticklabels, fontsize=7)
    axes[-1, 0].set_xlabel("input")
    return figure


def waves(sizes: Sequence[int], cutoff: float = CUTOFF) -> Figure:
    """All cosine waves that square filters of each size are sums of; those that count as low are framed.

    Args:
        sizes: sides of the filters, at least 2.
        cutoff: in cycles per pixel.

    Raises:
        ValueError: if there are no sizes or one is under 2.
    """
    if not sizes or min(sizes) < 2:
        raise ValueError(f"need sizes of at least 2, not {list(sizes)}")
    figure, axes = plt.subplots(1, len(sizes), figsize=(4.4 * len(sizes), 4.7), squeeze=False)
    for axis, size in zip(axes.flat, sizes, strict=True):
        wave = fft.idct(np.eye(size), axis=0, norm="ortho")  # column i is wave i
        basis = np.einsum("yi,xj->ijyx", wave, wave)
        basis /= np.abs(basis).max(axis=(2, 3), keepdims=True)
        low = frequencies(size, size) <= cutoff + 1e-12
        for i, j in np.ndindex(size, size):
            left, top = j * (1 + _WAVE_GAP), i * (1 + _WAVE_GAP)
            axis.imshow(basis[i, j], cmap="gray", vmin=-1, vmax=1, extent=(left, left + 1, top + 1, top))
            colour, line = (_MARK, 2.5) if low[i, j] else ("0.6", 0.5)
            axis.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=colour, linewidth=line))
        end = size * (1 + _WAVE_GAP)
        axis.set(xlim=(-_WAVE_GAP, end), ylim=(end, -_WAVE_GAP))
        axis.set_title(f"{size}×{size}: {size**2} waves, {int(low.sum())} of them low")
        axis.axis("off")
    return figure


def smoothness_strips(
    groups: Mapping[str, Tensor],
    intervals: Mapping[str, Interval],
    noise: Mapping[str, float],
    *,
    ylabel: str = "low-frequency share",
) -> Figure:
    """A dot for each filter, a diamond for each group's mean with its interval, a dash for white noise.

    Args:
        groups: a measure of each filter, by group, shape (N,); NaN is left out.
        intervals: mean and confidence interval, by group.
        noise: what white noise scores, by group.
        ylabel: the measure.

    Raises:
        ValueError: if there are no groups.
    """
    if not groups:
        raise ValueError("there are no groups of filters to draw")
    figure, axis = plt.subplots(figsize=(1.6 + 1.35 * len(groups), 3.6))
    for place, (name, values) in enumerate(groups.items()):
        finite = np.sort(values[~values.isnan()].numpy())
        # neighbours in value stand apart, so that no dot hides another; nothing random
        offsets = 0.26 * ((np.arange(len(finite)) * 0.618) % 1) - 0.34
        axis.scatter(
            place + offsets,
            finite,
            s=14,
            alpha=0.6,
            linewidths=0,
            color="#0072B2",
            label="a filter" if not place else "",
        )
        bar = intervals[name]
        axis.errorbar(
            place + 0.14,
            bar.mean,
            yerr=[[bar.mean - bar.low], [bar.high - bar.mean]],
            fmt="D",
            color="black",
            markersize=5,
            capsize=4,
            label="mean, 95 % interval" if not place else "",
        )
        axis.hlines(
            noise[name],
            place - 0.4,
            place + 0.3,
            color="0.4",
            linestyle="--",
            label="white noise" if not place else "",
        )
    axis.set_xticks(range(len(groups)), list(groups))
    axis.set_ylabel(ylabel)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def smoothness_by_epoch(
    panels: Mapping[str, Mapping[str, Mapping[int, Interval]]],
    noise: Mapping[str, Mapping[str, float]],
    *,
    ylabel: str = "low-frequency share",
) -> Figure:
    """A measure over training with its confidence band: a panel for each network, a line for each layer.

    Args:
        panels: mean and interval by network, layer and epoch.
        noise: what white noise scores, by network and layer.
        ylabel: the measure.

    Raises:
        ValueError: if there are no networks.
    """
    if not panels:
        raise ValueError("there are no networks to draw")
    figure, axes = plt.subplots(1, len(panels), figsize=(4.8 * len(panels), 3.6), squeeze=False, sharey=True)
    for axis, (network, layers) in zip(axes.flat, panels.items(), strict=True):
        colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(layers)))
        for colour, (layer, by_epoch) in zip(colours, layers.items(), strict=True):
            places = range(len(by_epoch))
            bars = list(by_epoch.values())
            axis.plot(places, [bar.mean for bar in bars], "o-", markersize=4, color=colour, label=layer)
            axis.fill_between(
                places,
                [bar.low for bar in bars],
                [bar.high for bar in bars],
                color=colour,
                alpha=0.2,
                linewidth=0,
            )
            axis.axhline(noise[network][layer], color=colour, linestyle="--", linewidth=1)
        ticks = list(next(iter(layers.values())))
        axis.set(title=network, xlabel="epoch", xticks=range(len(ticks)), xticklabels=ticks)
        axis.legend(fontsize=8)
    axes[0, 0].set_ylabel(ylabel)
    return figure


def filter_browser(filters: Tensor, index: int, title: str = "") -> Figure:
    """One filter of a layer: as a picture, its weights, and its spectrum.

    On three input channels the picture is in colour and the weights are shown for each channel; of a deeper layer
    each tile is the plane of one input channel, and the weights are those of the strongest.

    Args:
        filters: the layer's, shape (O, I, H, W), at least 2×2.
        index: the filter, 0 to O − 1.
        title: over the figure.

    Raises:
        ValueError: if there is no such filter.
    """
    if not 0 <= index < len(filters):
        raise ValueError(f"filter must be in 0–{len(filters) - 1}, not {index}")
    chosen = filters[index].float().cpu()
    colour = len(chosen) == 3
    channels = {name: chosen[i] for i, name in enumerate(("red", "green", "blue"))} if colour else {}
    if not colour:
        strongest = int(chosen.flatten(1).norm(dim=1).argmax())
        channels = {f"input channel {strongest}": chosen[strongest]}
    figure, axes = plt.subplots(1, 2 + len(channels), figsize=(2.4 * (2 + len(channels)) + 0.6, 3.4))
    if colour:
        axes[0].imshow(as_image(as_colours(chosen[None])[0]))
        axes[0].set_title(f"filter {index} in colour, {size_name(chosen)}")
    else:
        _draw_signed(figure, axes[0], mosaic(chosen))
        axes[0].set_title(f"filter {index}, {len(chosen)} inputs")
    peak = max(chosen.abs().max().item(), 1e-12)
    for axis, (name, plane) in zip(axes[1:-1], channels.items(), strict=True):
        axis.imshow(plane.numpy(), cmap=SIGNED, vmin=-peak, vmax=peak)
        axis.set_title(f"weights, {name}")
        _write_values(axis, plane, peak)
    waves = axes[-1].imshow(spectrum(filters[index : index + 1])[0].numpy(), cmap=PROBABILITY, vmin=0)
    axes[-1].set(title="spectrum", xlabel="half turns across", ylabel="half turns down")
    axes[-1].set_xticks(range(chosen.shape[2]))
    axes[-1].set_yticks(range(chosen.shape[1]))
    figure.colorbar(waves, ax=axes[-1], shrink=0.8, label="share of energy")
    for axis in axes[:-1]:
        axis.axis("off")
    if title:
        figure.suptitle(title)
    return figure


def _write_values(axis: Axes, plane: Tensor, peak: float) -> None:
    """Each weight as a number on its pixel, in hundredths where that is enough to tell them apart."""
    digits = 2 if peak >= 0.095 else 3
    size = 10 if max(plane.shape) <= 3 else 5.5 if max(plane.shape) >= 7 else 7
    for i, line in enumerate(plane.tolist()):
        for j, value in enumerate(line):
            text = f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−").replace("0.", ".", 1)
            dark = abs(value) > 0.6 * peak
            axis.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if dark else "black")


def _draw_signed(figure: Figure, axis: Axes, canvas: np.ndarray) -> None:
    """Signed weights with white in the middle of the scale, grey where there is none, and a colour bar."""
    peak = max(float(np.nanmax(np.abs(canvas))), 1e-12)
    colours = plt.get_cmap(SIGNED).with_extremes(bad="0.75")
    drawn = axis.imshow(
        canvas,
        cmap=colours,
        vmin=-peak,
        vmax=peak,
        aspect="auto" if canvas.shape[1] > 6 * canvas.shape[0] else "equal",
    )
    figure.colorbar(drawn, ax=axis, shrink=0.8, label="weight")
