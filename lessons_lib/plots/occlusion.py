"""Figures of occlusion: what a network says while a patch covers each part of a picture."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import SVG
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from skimage.segmentation import mark_boundaries
from torch import Tensor

from lessons_lib import plots
from lessons_lib.methods.occlusion import OcclusionMap
from lessons_lib.plots import ACTIVATION, BARE, PROBABILITY, SIGNED, as_image

_CLASS_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#F0E442")
_OTHERS = "#777777"
_WRONG = "#D55E00"
_BAR: dict[str, Any] = {"fraction": 0.046, "pad": 0.03}  # as high as the picture beside it


def sensitivity(image: Tensor, result: OcclusionMap, name: str) -> Figure:
    """The lecture's pictures: photograph, the class's probability, where the answer changes, and both together.

    Args:
        image: the picture as the network saw it, uint8, shape (3, H, W).
        result: its map; the first target is drawn.
        name: the first target's class.
    """
    cell = 11.5 / 4, 0.9 + 2.2 * image.shape[1] / image.shape[2]
    figure, axes = plots.panels(4, cell=cell, subplot_kw=BARE)
    _draw_picture(axes[0], image, result)
    axes[0].set_title(f"picture and a patch of {result.patch}×{result.patch}")
    (clean,) = _clean([result])
    title = f"probability of {_short(name)}\nwithout a patch {clean:.2f}"
    drawn = _heat(axes[1], result.probabilities[0], result, title, cmap=PROBABILITY, clim=_range([result]))
    _colour_bar(figure, drawn, axes[1], [clean])
    wrong = ~result.keeps
    title = f"another answer at\n{int(wrong.sum()):,} of {result.positions:,} places"
    _heat(axes[2], wrong, result, title, cmap=ListedColormap(["0.93", _WRONG]), clim=(0, 1))
    axes[3].imshow(as_image(image))
    title = "the patch's centre there\nchanges the answer"
    veil = ListedColormap([(0, 0, 0, 0), (_WRONG, 0.6)])
    _heat(axes[3], wrong, result, title, cmap=veil, clim=(0, 1))
    return figure


def zeiler_fergus(image: Tensor, result: OcclusionMap, classes: Sequence[str], layer: str) -> Figure:
    """Figure 6 of the ZFNet paper: picture, strongest feature map, probability, most probable class.

    Args:
        image: uint8, shape (3, H, W).
        result: its map, with the activation of at least one channel.
        classes: the names of all classes.
        layer: the layer whose channel it is, for the title.

    Raises:
        ValueError: if the map has no activations.
    """
    if not result.channels:
        raise ValueError('this map has no activations: sweep with layer="…"')
    cell = 4.8, 0.8 + 3.6 * image.shape[1] / image.shape[2]
    figure, axes = plots.panels(4, columns=2, cell=cell, subplot_kw=BARE)
    _draw_picture(axes[0], image, result)
    axes[0].set_title(f"picture and a patch of {result.patch}×{result.patch}")
    activations, clean = result.activations[0], float(result.clean_activations[0])
    low, high = min(float(activations.min()), clean), max(float(activations.max()), clean)
    title = f"{layer}, channel {result.channels[0]}"
    drawn = _heat(axes[1], activations, result, title, cmap=ACTIVATION, clim=(low, max(high, low + 1e-6)))
    _colour_bar(figure, drawn, axes[1], [clean], "total activation")
    title = f"probability of {_short(classes[result.targets[0]])}"
    drawn = _heat(axes[2], result.probabilities[0], result, title, cmap=PROBABILITY, clim=_range([result]))
    _colour_bar(figure, drawn, axes[2], _clean([result]))
    _draw_classes(axes[3], result, classes, "most probable class")
    return figure


def predicted_classes(image: Tensor, result: OcclusionMap, classes: Sequence[str]) -> Figure:
    """The most probable class at each position, a colour for each, beside the picture.

    Args:
        image: uint8, shape (3, H, W).
        result: its map.
        classes: the names of all classes.
    """
    figure, (left, right) = plots.panels(2, cell=(3.75, 3), subplot_kw=BARE)
    left.imshow(as_image(image))
    left.set_title("picture")
    _draw_classes(right, result, classes, "most probable class, by the patch's centre")
    return figure


def heat_maps(images: Sequence[Tensor], rows: Mapping[str, Mapping[str, OcclusionMap]]) -> Figure:
    """Probability maps in a grid with one colour scale, each row beside its picture with the patch framed.

    What the probability is without a patch is marked on the colour bar, or in each title where the maps differ in it.

    Args:
        images: the picture of each row, uint8, shape (3, H, W).
        rows: maps by row name, then column name; the first target of each is drawn.

    Raises:
        ValueError: if there is not one picture for each row.
    """
    if len(images) != len(rows):
        raise ValueError(f"need one picture for each row of maps, not {len(images)} for {len(rows)}")
    columns = list(next(iter(rows.values())))
    every = [result for maps in rows.values() for result in maps.values()]
    ends, clean = _range(every), _clean(every)
    differ = len(clean) > 1
    width, height = images[0].shape[2] / images[0].shape[1], 1.95
    size = (height * width * (1 + len(columns)) + 1, (height + 0.25 + 0.15 * differ) * len(rows) + 0.2)
    figure, axes = plt.subplots(len(rows), 1 + len(columns), figsize=size, squeeze=False, subplot_kw=BARE)
    for line, image, (row, maps) in zip(axes, images, rows.items(), strict=True):
        _draw_picture(line[0], image, maps[columns[0]])
        line[0].set_ylabel(row, fontsize=9)
        for axis, column in zip(line[1:], columns, strict=True):
            result = maps[column]
            title = f"{column}\n" * (maps is next(iter(rows.values())))
            title += f"without a patch {_clean([result])[0]:.2f}\n" * differ
            title += f"answer stays at {result.kept} of {result.positions}"
            look = {"cmap": PROBABILITY, "clim": ends}
            drawn = _heat(axis, result.probabilities[0], result, title, fontsize=8, **look)
    _colour_bar(figure, drawn, axes, clean)
    return figure


def strips(groups: Mapping[str, Tensor], *, ylabel: str, title: str) -> Figure:
    """A dot for each picture, in a column for each group, and a line at the group's median.

    Args:
        groups: a number for each picture by group, shape (N,).
        ylabel: what is measured.
        title: the figure's.
    """
    figure, axis = plt.subplots(figsize=(1.4 + 1.3 * len(groups), 3))
    for place, values in enumerate(groups.values()):
        places = place + plots.spread(len(values), 0.3)
        axis.scatter(places, values.numpy(), s=18, alpha=0.7, color=_CLASS_COLOURS[5], linewidths=0)
        axis.hlines(float(values.median()), place - 0.3, place + 0.3, color="black")
    axis.set_xticks(range(len(groups)), [textwrap.fill(name, 12) for name in groups], fontsize=9)
    axis.set(ylabel=ylabel, xlim=(-0.6, len(groups) - 0.4))
    axis.set_title(title, fontsize=10)
    return figure


def segments(image: Tensor, labels: Tensor, drops: Tensor, name: str) -> Figure:
    """A picture with the borders of its segments, beside how much probability is lost when each is covered.

    Args:
        image: uint8, shape (3, H, W).
        labels: the number of each pixel's segment, from 0, shape (H, W).
        drops: for each segment, shape (S,).
        name: the class.
    """
    figure, (left, right) = plots.panels(2, cell=(3.8, 3.2), subplot_kw=BARE)
    left.imshow(mark_boundaries(as_image(image), labels.numpy(), color=(1, 1, 0)))
    left.set_title(f"{len(drops)} segments")
    most = float(drops.abs().max())
    drawn = right.imshow(drops[labels].numpy(), cmap=SIGNED, vmin=-most, vmax=most)
    right.set_title(f"what {_short(name)} loses\nwhen the segment is covered")
    figure.colorbar(drawn, ax=right, label="loss of probability")
    return figure


def _range(maps: Sequence[OcclusionMap]) -> tuple[float, float]:
    """The least and the greatest probability of the first targets, with and without a patch; at least 0.1 apart."""
    known = torch.cat([torch.tensor(_clean(maps)), *(result.probabilities[0].flatten() for result in maps)])
    known = known[~known.isnan()]
    middle = float(known.max() + known.min()) / 2
    half = max(float(known.max() - known.min()) / 2, 0.05)
    return max(0.0, middle - half), min(1.0, middle + half)


def patched(picture: Tensor, probabilities: Tensor, clean: Tensor, classes: Sequence[str]) -> SVG:
    """A picture with a patch on it, and what the network says of it: five classes, with and without the patch.

    Written as SVG, which is sharp at every size: the figure above a panel, for pages that cannot run it.

    Args:
        picture: uint8, shape (3, H, W), the patch drawn in.
        probabilities: with the patch, shape (classes,).
        clean: without, shape (classes,).
        classes: the names of all classes.
    """
    side, left, length, bar = 250, 440, 150, 24  # of the picture, of the bars' axis and of one bar, in pixels
    top = probabilities.topk(min(5, len(probabilities))).indices.tolist()
    usual = int(clean.argmax())
    bottom = 30 + 34 * len(top)
    rows = [
        f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{html.escape(_short(classes[i]))}</text>'
        f'<rect x="{left}" y="{y}" width="{length * float(probabilities[i]):.1f}" height="{bar}" '
        f'fill="{_CLASS_COLOURS[5] if i == usual else _OTHERS}"/>'
        f'<path d="M{left + length * float(clean[i]):.1f} {y - 3}v{bar + 6}" stroke="black" stroke-width="2.5"/>'
        f'<text x="{left + length + 44}" y="{y + 16}" text-anchor="end">{float(probabilities[i]):.2f}</text>'
        for y, i in zip(range(30, bottom, 34), top, strict=True)
    ]
    ticks = [
        f'<path d="M{left + length * value} {bottom}v5" stroke="black"/>'
        f'<text x="{left + length * value}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>'
        for value in (0, 0.5, 1)
    ]
    source = plots.data_address(as_image(picture), "png", compress_level=1)
    # enlarged a little, a photograph should be smooth; enlarged much, its pixels should be seen
    enlarged = "pixelated" if 3 * max(picture.shape[1:]) <= side else "auto"
    return SVG(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {side}" width="640" height="{side}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="12"><rect width="640" height="250" fill="white"/>'
        f'<image width="{side}" height="{side}" style="image-rendering: {enlarged}" '
        f'href="{source}"/>'
        f'<text x="{left + length / 2}" y="14" text-anchor="middle">black marks: without the patch</text>'
        f'<path d="M{left} 24V{bottom}h{length}" stroke="black" fill="none"/>{"".join(rows + ticks)}'
        f'<text x="{left + length / 2}" y="{bottom + 36}" text-anchor="middle">probability</text></svg>'
    )


def _short(name: str) -> str:
    return textwrap.shorten(name, 22, placeholder="…")


def _extent(result: OcclusionMap) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the map in the picture's pixels: a position stands where the patch's centre is."""
    sides = []
    for starts in (result.lefts, result.tops):
        first, last = float(starts[0]) + result.patch // 2, float(starts[-1]) + result.patch // 2
        half = (last - first) / (len(starts) - 1) / 2 if len(starts) > 1 else result.patch / 2
        sides.append((first - half, last + half))
    (left, right), (top, bottom) = sides
    return left, right, bottom, top


def _heat(
    axis: Axes, values: Tensor, result: OcclusionMap, title: str, *, fontsize: float = 10, **look: Any
) -> AxesImage:
    """A map where it lies in the picture, on axes as large as the picture."""
    drawn = axis.imshow(values.numpy(), extent=_extent(result), **look)
    height, width = result.filled.shape[1:]
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axis.set_title(title, fontsize=fontsize)
    return drawn


def _colour_bar(
    figure: Figure, drawn: AxesImage, axes: Axes | np.ndarray, clean: list[float], name: str = "probability"
) -> None:
    """A bar, with a line at what it is without a patch if that is one number."""
    place: dict[str, Any] = _BAR if isinstance(axes, Axes) else {"shrink": 0.7}
    bar = figure.colorbar(drawn, ax=axes, label=name, **place)
    if len(clean) == 1:
        bar.ax.axhline(clean[0], color="white", linewidth=4)
        bar.ax.axhline(clean[0], color="black", linewidth=1.5)
        bar.set_label(f"{name} (line: without a patch)", fontsize=8)


def _clean(maps: Sequence[OcclusionMap]) -> list[float]:
    """What the first targets' probabilities are without a patch, each once."""
    return sorted({round(float(result.clean_probabilities[result.targets[0]]), 6) for result in maps})


def _draw_picture(axis: Axes, image: Tensor, result: OcclusionMap) -> None:
    """A picture with a frame where the patch of the map's middle lies."""
    axis.imshow(as_image(image))
    left, top = (int(starts[len(starts) // 2]) - 0.5 for starts in (result.lefts, result.tops))
    plots.frame(axis, left, top, result.patch, result.patch, edgecolor="white", linewidth=1.5)


def _draw_classes(axis: Axes, result: OcclusionMap, classes: Sequence[str], title: str) -> None:
    found, counts = result.predicted.unique(return_counts=True)
    order = [c for c in found[counts.argsort(descending=True)].tolist() if c >= 0]
    named = order[: len(_CLASS_COLOURS)]
    colours = [*_CLASS_COLOURS[: len(named)], _OTHERS]
    index = torch.full_like(result.predicted, len(named))
    for i, c in enumerate(named):
        index[result.predicted == c] = i
    _heat(axis, index, result, title, cmap=ListedColormap(colours), clim=(-0.5, len(colours) - 0.5))
    labels = [_short(classes[c]) for c in named] + ["others"] * (len(order) > len(named))
    patches = [Patch(color=colour, label=label) for colour, label in zip(colours, labels, strict=False)]
    below = 0.5, -0.02
    axis.legend(handles=patches, loc="upper center", bbox_to_anchor=below, fontsize=8, handlelength=1, ncol=2)
