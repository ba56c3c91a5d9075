"""Figures of what units see: receptive fields, patches that excite them, the pixels they mark, the parts they cover."""

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
from lessons_lib.methods.patches import TopActivations, crops, unit_mask
from lessons_lib.methods.receptive_field import Box, ReceptiveField
from lessons_lib.plots import ACTIVATION, BARE, as_image
from lessons_lib.statistics import t_interval

_CENTRE, _CORNER = "#E69F00", "#56B4E9"  # the unit in the middle of a map, the unit in its corner


def field_boxes(image: Tensor, fields: Mapping[str, ReceptiveField]) -> Figure:
    """The receptive fields of two units of each layer on a picture: one in the middle, one in the corner.

    Solid lines: what the unit sees of the picture. Dashed: its field with the padding.

    Args:
        image: uint8, shape (3, H, W).
        fields: by layer, for pictures of this size.
    """
    figure, axes = plots.panels(len(fields), cell=(2.1, 2.6), subplot_kw=BARE)
    height, width = image.shape[1:]
    # room for the largest field, in every panel alike
    ends = [
        end
        for field in fields.values()
        for box in (field.window(0, 0), field.window(len(field.rows) // 2, len(field.columns) // 2))
        for end in (box.top, box.left, box.bottom, box.right)
    ]
    limits = (min(0, *ends) - 1, max(height, width, *ends) + 1)
    for axis, (layer, field) in zip(axes, fields.items(), strict=True):
        axis.imshow(as_image(image), extent=(0, width, height, 0))
        rows, columns = len(field.rows), len(field.columns)
        for (row, column), colour in (((0, 0), _CORNER), ((rows // 2, columns // 2), _CENTRE)):
            _outline(axis, field.window(row, column), colour, "--")
            _outline(axis, field.box(row, column), colour, "-")
        axis.set(xlim=limits, ylim=limits[::-1])
        axis.set_title(f"{layer}: {rows}×{columns} units\nfield {field.size[0]}×{field.size[1]}", fontsize=9)
    return figure


def _outline(axis: Axes, box: Box, colour: str, style: str) -> None:
    look = {"edgecolor": colour, "linestyle": style, "linewidth": 1.8 if style == "-" else 1.0}
    plots.frame(axis, box.left, box.top, box.width, box.height, **look)


def influences(maps: Mapping[str, Tensor], boxes: Mapping[str, Box]) -> Figure:
    """How much each pixel moves the unit in the middle of each layer, and its field as a box.

    Each map has its own colour scale, from 0 to its greatest value.

    Args:
        maps: by layer, of ``lessons_lib.methods.receptive_field.effective_receptive_field``.
        boxes: the unit's field by layer.
    """
    figure, axes = plots.panels(len(maps), cell=(2.1, 2.5), subplot_kw=BARE)
    for axis, (layer, values) in zip(axes, maps.items(), strict=True):
        height, width = values.shape
        axis.imshow(values.numpy(), cmap=ACTIVATION, vmin=0, extent=(0, width, height, 0))
        _outline(axis, boxes[layer], _CENTRE, "-")
        axis.set_title(f"{layer}: sees {boxes[layer].height}×{boxes[layer].width}", fontsize=9)
    return figure


def patch_sheet(patches: Tensor) -> np.ndarray:
    """Patches in a square grid with white lines between, as one picture.

    Small ones are enlarged by a whole factor, to 24 pixels or more.

    Args:
        patches: uint8, shape (k, 3, h, w).

    Returns:
        uint8, shape (H, W, 3).
    """
    factor = max(1, math.ceil(24 / patches.shape[2]))
    tiles = patches.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    columns, line = math.ceil(math.sqrt(len(tiles))), max(1, tiles.shape[2] // 16)
    return as_image(plots.tiled(tiles, columns, rows=columns, gap=line, fill=255))


def patch_grids(rows: Mapping[str, Mapping[str, Tensor]], *, size: float = 1.5) -> Figure:
    """Top patches of several channels, a row for each layer (or kind of unit).

    Args:
        rows: by row name, then by channel name, patches (k, 3, h, w), strongest first; as many channels a row.
        size: side of a channel's grid in inches.
    """
    shown = [patch_sheet(patches) for row in rows.values() for patches in row.values()]
    titles = [title for row in rows.values() for title in row]
    columns = len(next(iter(rows.values())))
    figure, _ = plots.picture_grid(
        shown, titles, names=list(rows), fontsize=8, columns=columns, cell=(size, size + 0.25)
    )
    return figure


def marked_pictures(images: Tensor, marked: Tensor, titles: Sequence[str]) -> Figure:
    """Pictures that are dark except where a unit answers strongly.

    Args:
        images: uint8, shape (N, 3, H, W).
        marked: bool, shape (N, H, W).
        titles: one for each picture.

    Raises:
        ValueError: if there are not as many masks, or titles, as pictures.
    """
    figure, axes = plots.panels(len(images), columns=8, cell=(1.3, 1.55), subplot_kw=BARE)
    for axis, image, mask, title in zip(axes, images, marked, titles, strict=True):
        _draw_marked(axis, image, mask)
        axis.set_title(title, fontsize=9)
    return figure


def _draw_marked(axis: Axes, image: Tensor, marked: Tensor) -> None:
    axis.imshow(as_image(torch.where(marked, image, image // 4)))
    if marked.any() and not marked.all():
        axis.contour(marked.numpy(), levels=[0.5], colors="#E69F00", linewidths=1.2)


def one_against_others(
    measured: Mapping[str, tuple[float, Sequence[float]]],
    names: tuple[str, str] = ("the units", "random rotations"),
    *,
    title: str,
    ylabel: str,
) -> Figure:
    """One number in each column beside several of the same kind, with their mean.

    Args:
        measured: by column: the one number, and the others, at least two.
        names: what the one is called, and what the others are.
        title: what is shown.
        ylabel: the unit.
    """
    figure, axis = plt.subplots(figsize=(3.2 + 0.6 * len(measured), 3.2))
    for i, (one, others) in enumerate(measured.values()):
        (average,), ends = plots.with_reach([t_interval(others)])
        axis.plot([i + 0.12] * len(others), others, "o", color="0.6", markersize=5)
        axis.errorbar(i + 0.26, average, ends, fmt="s", color="black", markersize=4, capsize=3)
        axis.plot(i - 0.12, one, "D", color="#0072B2", markersize=7)
    axis.plot([], [], "D", color="#0072B2", label=names[0])
    axis.plot([], [], "o", color="0.6", label=names[1])
    axis.plot([], [], "s", color="black", label="their mean, 95 % interval")
    axis.set(title=title, ylabel=ylabel, xticks=range(len(measured)), xticklabels=list(measured))
    axis.set_xlim(-0.5, len(measured) - 0.4)
    axis.set_ylim(0, 1.1 * max(max(one, *others) for one, others in measured.values()))
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def unit_page(
    patches: tuple[Tensor, TopActivations, ReceptiveField],
    scenes: tuple[Tensor, Tensor, ReceptiveField],
    channel: int,
    quantile: float,
    title: str,
) -> Figure:
    """One channel: its top patches, and the pixels it marks in the scenes where it answers most.

    Args:
        patches: pictures (uint8, (N, 3, H, W)), the layer's top activations in them, its field there.
        scenes: other pictures, the layer's feature maps of them (M, C, h, w), its field there.
        channel: which.
        quantile: share of its positions above the level that counts as strong.
        title: over the figure.

    Raises:
        ValueError: if there is no such channel, or the quantile does not lie between 0 and 1.
    """
    images, top, field = patches
    pictures, maps, scene_field = scenes
    marked = unit_mask(maps, scene_field, channel, quantile)
    strongest = maps[:, channel].amax((1, 2)).argsort(descending=True, stable=True)[:8].tolist()
    grid: list[Any] = [["patches", "patches", 0, 1, 2, 3], ["patches", "patches", 4, 5, 6, 7]]
    figure, axes = plt.subplot_mosaic(grid, figsize=(10, 3.4), subplot_kw=BARE)
    axes["patches"].imshow(patch_sheet(crops(images, top, channel, field)))
    axes["patches"].set_title(f"its {top.values.shape[1]} strongest patches", fontsize=9)
    for i, scene in enumerate(strongest):
        _draw_marked(axes[i], pictures[scene], marked[scene])
    figure.suptitle(title, fontsize=11)
    return figure
