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
from torch import Tensor

from lessons_lib import plots
from lessons_lib.plots import SIGNED, as_image, size_name
from lessons_lib.statistics import Interval

Scale = Literal["shared", "own"]

_NOISE = "0.88"  # the band of white noise
_GAP = 0.2  # between tiles, as a share of their side
_ROW = 16  # tiles
_SIDE = 0.55  # of a tile, in inches


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
        ValueError: for another shape, or no filters.
    """
    if filters.ndim != 4 or filters.shape[1] not in (1, 3) or not filters.numel():
        raise ValueError(
            "only filters on one channel or on red, green and blue, shape (N, 3, H, W), are pictures; "
            f"these are {tuple(filters.shape)}"
        )
    colours = filters.detach().float().cpu().expand(-1, 3, -1, -1)
    peak = colours.abs().amax({"shared": (0, 1, 2, 3), "own": (1, 2, 3)}[scale], keepdim=True)
    return 0.5 + colours / (2 * peak.clamp(min=torch.finfo(colours.dtype).tiny))


def filter_rows(groups: Mapping[str, Tensor], *, scale: Scale = "shared", suptitle: str) -> Figure:
    """Filters as pictures, group below group, all tiles of one size on the page.

    Args:
        groups: filters by title, shape (N, 3, H, W) or (N, 1, H, W) each.
        scale: see ``as_colours``; "shared" is shared within a group, and its title says the largest weight.
        suptitle: over the figure.

    Raises:
        ValueError: if a group holds no pictures.
    """
    rows = [math.ceil(len(filters) / _ROW) for filters in groups.values()]
    heights = [_SIDE * count + 0.3 for count in rows]
    size = _SIDE * _ROW + 0.3, sum(heights) + 0.4
    figure, axes = plt.subplots(len(groups), 1, figsize=size, height_ratios=heights, squeeze=False)
    for axis, count, (title, filters) in zip(axes.flat, rows, groups.items(), strict=True):
        for i, tile in enumerate(as_colours(filters, scale)):
            top, left = (place * (1 + _GAP) for place in divmod(i, _ROW))
            axis.imshow(as_image(tile), extent=(left, left + 1, top + 1, top))
            plots.frame(axis, left, top, 1, 1, edgecolor="0.5", linewidth=0.6)
        axis.set(xlim=(0, _ROW * (1 + _GAP) - _GAP), ylim=(count * (1 + _GAP) - _GAP, 0))
        axis.axis("off")
        peak = filters.abs().max().item()
        ends = "black and white" if filters.shape[1] == 1 else "black and full colour"
        note = f"  ({ends}: ±{peak:.2f})" if scale == "shared" else ""
        axis.set_title(title + note, loc="left", fontsize=10)
    figure.suptitle(suptitle)
    return figure


def pictures_in_colour(
    filters: Tensor, titles: Sequence[str], *, columns: int = 5, suptitle: str = ""
) -> Figure:
    """Weights as pictures, each large, on a scale of its own and with a title: shapes, class templates.

    Args:
        filters: shape (N, 3, H, W) or (N, 1, H, W).
        titles: one for each.
        columns: pictures in a row.
        suptitle: over the figure.

    Raises:
        ValueError: if there are not as many titles, or the filters are no pictures.
    """
    columns = min(columns, len(filters))
    side = 9 / max(columns, 5)
    shown = [as_image(tile) for tile in as_colours(filters, "own")]
    figure, axes = plots.picture_grid(
        shown, titles, columns=columns, cell=(side, side + 0.25), margin=(0, 0.3)
    )
    for axis in axes:
        plots.frame(axis, -0.5, -0.5, *filters.shape[:1:-1], edgecolor="0.5", linewidth=0.6)
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def smoothness_strips(groups: Mapping[str, Tensor], noise: Mapping[str, float], *, title: str) -> Figure:
    """A dot for each filter, a bar for each group's mean, a grey band for 95 % of white noise of its size.

    Args:
        groups: autocorrelation of each filter, by group, shape (N,); NaN is left out.
        noise: standard deviation of white noise, by group.
        title: over the figure.
    """
    figure, axis = plt.subplots(figsize=(9, 3.8))
    for place, (name, values) in enumerate(groups.items()):
        finite = np.sort(values[~values.isnan()].numpy())
        edges, high = [place - 0.4, place + 0.4], 1.96 * noise[name]
        axis.fill_between(edges, -high, high, color=_NOISE, label="95 % of white noise", zorder=0)
        places = place + plots.spread(len(finite), 0.5)
        axis.scatter(places, finite, s=16, alpha=0.6, linewidths=0, color="#0072B2", label="a filter")
        axis.hlines(finite.mean(), place - 0.36, place + 0.36, color="#D55E00", linewidth=2, label="mean")
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.set_xticks(range(len(groups)), list(groups), fontsize=8)
    axis.set(ylabel="autocorrelation at lag one", title=title)
    axis.legend(handles=axis.collections[:3], fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def smoothness_by_epoch(panels: Mapping[str, Mapping[str, Mapping[int, Interval]]]) -> Figure:
    """The mean autocorrelation over training with its interval: a panel for each network, a line for each layer.

    Args:
        panels: mean and interval by network, layer and epoch; the snapshots stand at equal distances.

    Raises:
        ValueError: if there are no networks.
    """
    figure, axes = plots.panels(len(panels), cell=(4.5, 3.6), sharey=True)
    for axis, (network, layers) in zip(axes, panels.items(), strict=True):
        colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(layers)))
        for colour, (layer, by_epoch, marker) in zip(colours, plots.marked(layers), strict=True):
            places, means = range(len(by_epoch)), list(by_epoch.values())
            plots.mean_line(axis, places, means, marker=marker, color=colour, label=layer)
        axis.axhline(0, color="0.4", linestyle="--", linewidth=1, label="white noise")
        axis.set_xticks(places, [str(epoch) for epoch in by_epoch])
        axis.set(title=network, xlabel="epochs trained (not to scale)")
        axis.legend(fontsize=8)
    axes[0].set_ylabel("mean autocorrelation at lag one\n(shaded: 95 % interval)")
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
    peak, planes = plots.limit(chosen), chosen
    if len(chosen) == 3:
        whole = as_image(as_colours(chosen[None])[0])
        titles = [f"filter {index} in colour, {size_name(chosen)}"]
        titles += [f"weights, {colour}" for colour in ("red", "green", "blue")]
    else:
        whole = plots.tiled(chosen, math.ceil(len(chosen) ** 0.5), gap=1, fill=torch.nan).numpy()
        strongest = int(chosen.flatten(1).norm(dim=1).argmax())
        planes = chosen[[strongest]]
        titles = [f"filter {index}, {len(chosen)} inputs", f"weights, input channel {strongest}"]
    look = {"cmap": plt.get_cmap(SIGNED).with_extremes(bad="0.75"), "vmin": -peak, "vmax": peak}
    figure, axes = plots.picture_grid(
        [whole, *planes.numpy()], titles, fontsize=10, look=look, cell=(2.3, 3.2), margin=(0.8, 0)
    )
    if len(chosen) != 3:
        figure.colorbar(axes[0].images[0], ax=axes[0], shrink=0.8, label="weight")
    for axis, plane in zip(axes[1:], planes, strict=True):
        _write_weights(axis, plane, peak)
    if title:
        figure.suptitle(title)
    return figure


def _write_weights(axis: Axes, plane: Tensor, peak: float) -> None:
    """Each weight as a number on its pixel, in hundredths where that is enough to tell them apart."""
    digits = 2 if peak >= 0.095 else 3
    size = 10 if max(plane.shape) <= 3 else 5.5 if max(plane.shape) >= 7 else 7

    def text(value: float) -> str:
        return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−").replace("0.", ".", 1)

    plots.write_numbers(axis, plane, text, fontsize=size, limit=peak)
