"""Figures of weights: filters as pictures, and how smooth they are."""

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
from torch import Tensor

from lessons_lib.plots import MARKERS, SIGNED, as_image, size_name
from lessons_lib.statistics import Interval

Scale = Literal["shared", "own"]

_NOISE = "0.88"  # the band of white noise
_GAP = 0.2  # between tiles, as a share of their side
_SIDE = 0.55  # of a tile in a row of sixteen, in inches


def as_colours(filters: Tensor, scale: Scale = "shared") -> Tensor:
    """Filters on red, green and blue as pictures: weight 0 is mid-grey, a bright red pixel wants red there.

    Args:
        filters: shape (N, 3, H, W), or (N, 1, H, W), which become grey pictures.
        scale: "shared": the largest weight of all, either sign, becomes black or full colour, so that weak
            filters stay grey; "own": the largest of each filter, so that each uses the full range and strengths
            cannot be compared.

    Returns:
        Shape (N, 3, H, W), each in 0–1; a filter that is zero is grey.

    Raises:
        ValueError: for another shape, no filters, or another scale.
    """
    if filters.ndim != 4 or filters.shape[1] not in (1, 3) or not filters.numel():
        raise ValueError(
            "only filters on one channel or on red, green and blue, shape (N, 3, H, W), are pictures; "
            f"these are {tuple(filters.shape)}"
        )
    if scale not in ("shared", "own"):
        raise ValueError(f'scale must be "shared" or "own", not {scale!r}')
    colours = filters.detach().float().cpu().expand(-1, 3, -1, -1)
    peak = colours.abs().amax() if scale == "shared" else colours.abs().amax((1, 2, 3), keepdim=True)
    return 0.5 + colours / (2 * peak.clamp(min=torch.finfo(colours.dtype).tiny))


def filter_rows(
    groups: Mapping[str, Tensor], *, scale: Scale = "shared", columns: int = 16, suptitle: str = ""
) -> Figure:
    """Filters as pictures, group below group, all tiles of one size on the page.

    Args:
        groups: filters by title, shape (N, 3, H, W) or (N, 1, H, W) each.
        scale: see ``as_colours``; "shared" is shared within a group, and its title says the largest weight.
        columns: filters in a row.
        suptitle: over the figure.

    Raises:
        ValueError: if there are no groups, or one holds no pictures.
    """
    if not groups:
        raise ValueError("there are no filters to draw")
    rows = [math.ceil(len(filters) / columns) for filters in groups.values()]
    heights = [_SIDE * count + 0.3 for count in rows]
    figure, axes = plt.subplots(
        len(groups),
        1,
        figsize=(_SIDE * columns + 0.3, sum(heights) + 0.4 * bool(suptitle)),
        height_ratios=heights,
        squeeze=False,
    )
    for axis, count, (title, filters) in zip(axes.flat, rows, groups.items(), strict=True):
        for i, tile in enumerate(as_colours(filters, scale)):
            top, left = (place * (1 + _GAP) for place in divmod(i, columns))
            axis.imshow(as_image(tile), extent=(left, left + 1, top + 1, top))
            axis.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor="0.5", linewidth=0.6))
        axis.set(xlim=(0, columns * (1 + _GAP) - _GAP), ylim=(count * (1 + _GAP) - _GAP, 0))
        axis.axis("off")
        peak = filters.abs().max().item()
        ends = "black and white" if filters.shape[1] == 1 else "black and full colour"
        note = f"  ({ends}: ±{peak:.2f})" if scale == "shared" else ""
        axis.set_title(title + note, loc="left", fontsize=10)
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def pictures_in_colour(
    filters: Tensor, titles: Sequence[str], *, scale: Scale = "own", columns: int = 5, suptitle: str = ""
) -> Figure:
    """Weights as pictures, each large and with a title: shapes, class templates.

    Args:
        filters: shape (N, 3, H, W) or (N, 1, H, W).
        titles: one for each.
        scale: see ``as_colours``.
        columns: pictures in a row.
        suptitle: over the figure.

    Raises:
        ValueError: if there are not as many titles, or the filters are no pictures.
    """
    tiles = as_colours(filters, scale)
    if len(titles) != len(tiles):
        raise ValueError(f"{len(tiles)} filters need {len(tiles)} titles, not {len(titles)}")
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(9 / max(columns, 5) * columns, (9 / max(columns, 5) + 0.25) * rows + 0.3),
        squeeze=False,
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, tile, title in zip(axes.flat, tiles, titles, strict=False):
        axis.imshow(as_image(tile))
        height, width = tile.shape[1:]
        axis.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor="0.5", linewidth=0.6))
        axis.set_title(title, fontsize=9)
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def smoothness_strips(groups: Mapping[str, Tensor], noise: Mapping[str, float], *, title: str = "") -> Figure:
    """A dot for each filter, a bar for each group's mean, a grey band for 95 % of white noise of its size.

    Args:
        groups: autocorrelation of each filter, by group, shape (N,); NaN is left out.
        noise: standard deviation of white noise, by group.
        title: over the figure.

    Raises:
        ValueError: if there are no groups.
    """
    if not groups:
        raise ValueError("there are no groups of filters to draw")
    figure, axis = plt.subplots(figsize=(9, 3.8))
    for place, (name, values) in enumerate(groups.items()):
        finite = np.sort(values[~values.isnan()].numpy())
        # neighbours in value stand apart, so that no dot hides another; nothing random
        offsets = 0.5 * ((np.arange(len(finite)) * 0.618) % 1) - 0.25
        low, high = -1.96 * noise[name], 1.96 * noise[name]
        first = place == 0
        axis.fill_between(
            [place - 0.4, place + 0.4], low, high, color=_NOISE, label="95 % of white noise" * first, zorder=0
        )
        axis.scatter(
            place + offsets, finite, s=16, alpha=0.6, linewidths=0, color="#0072B2", label="a filter" * first
        )
        axis.hlines(
            finite.mean(), place - 0.36, place + 0.36, color="#D55E00", linewidth=2, label="mean" * first
        )
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.set_xticks(range(len(groups)), list(groups), fontsize=8)
    axis.set(ylabel="autocorrelation at lag one", title=title)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def smoothness_by_epoch(panels: Mapping[str, Mapping[str, Mapping[int, Interval]]]) -> Figure:
    """The mean autocorrelation over training with its interval: a panel for each network, a line for each layer.

    Args:
        panels: mean and interval by network, layer and epoch; the snapshots stand at equal distances.

    Raises:
        ValueError: if there are no networks.
    """
    if not panels:
        raise ValueError("there are no networks to draw")
    figure, axes = plt.subplots(1, len(panels), figsize=(4.5 * len(panels), 3.6), squeeze=False, sharey=True)
    for axis, (network, layers) in zip(axes.flat, panels.items(), strict=True):
        colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(layers)))
        for colour, marker, (layer, by_epoch) in zip(colours, MARKERS, layers.items(), strict=False):
            places, bars = range(len(by_epoch)), list(by_epoch.values())
            axis.plot(places, [b.mean for b in bars], marker=marker, markersize=4, color=colour, label=layer)
            axis.fill_between(
                places, [b.low for b in bars], [b.high for b in bars], color=colour, alpha=0.2, linewidth=0
            )
        axis.axhline(0, color="0.4", linestyle="--", linewidth=1, label="white noise")
        ticks = list(next(iter(layers.values())))
        axis.set(
            title=network,
            xlabel="epochs trained (not to scale)",
            xticks=range(len(ticks)),
            xticklabels=ticks,
        )
        axis.legend(fontsize=8)
    axes[0, 0].set_ylabel("mean autocorrelation at lag one\n(shaded: 95 % interval)")
    return figure


def filter_browser(filters: Tensor, index: int, title: str = "") -> Figure:
    """One filter of a layer: as a picture, and its weights as numbers.

    On three input channels the picture is in colour and the weights are shown for each channel; of a deeper layer
    each tile is the plane of one input channel, and the weights are those of the strongest.

    Args:
        filters: the layer's, shape (O, I, H, W).
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
    figure, axes = plt.subplots(1, 1 + len(channels), figsize=(2.3 * (1 + len(channels)) + 0.8, 3.2))
    if colour:
        axes[0].imshow(as_image(as_colours(chosen[None])[0]))
        axes[0].set_title(f"filter {index} in colour, {size_name(chosen)}")
    else:
        _draw_signed(figure, axes[0], _tiled(chosen, math.ceil(len(chosen) ** 0.5)))
        axes[0].set_title(f"filter {index}, {len(chosen)} inputs")
    peak = max(chosen.abs().max().item(), 1e-12)
    for axis, (name, plane) in zip(axes[1:], channels.items(), strict=True):
        axis.imshow(plane.numpy(), cmap=SIGNED, vmin=-peak, vmax=peak)
        axis.set_title(f"weights, {name}")
        _write_values(axis, plane, peak)
    for axis in axes:
        axis.axis("off")
    if title:
        figure.suptitle(title)
    return figure


def _tiled(planes: Tensor, columns: int) -> np.ndarray:
    """Planes (N, H, W) side by side, NaN between them and where there is none."""
    count, height, width = planes.shape
    rows = math.ceil(count / columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan, dtype=np.float32)
    for i, plane in enumerate(planes):
        row, column = divmod(i, columns)
        canvas[row * (height + 1) :, column * (width + 1) :][:height, :width] = plane
    return canvas


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
    )
    figure.colorbar(drawn, ax=axis, shrink=0.8, label="weight")
