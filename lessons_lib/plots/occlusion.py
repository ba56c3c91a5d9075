"""Figures of occlusion: what a network says while a patch covers each part of a picture."""

from __future__ import annotations

import base64
import html
import io
import itertools
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import SVG
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, StrMethodFormatter
from PIL import Image
from torch import Tensor

from lessons_lib.methods.occlusion import OcclusionMap
from lessons_lib.plots import ACTIVATION, MARKERS, PROBABILITY, as_image

_CLASS_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#F0E442")
_OTHERS = "#777777"
_WRONG = "#D55E00"


def sensitivity(image: Tensor, result: OcclusionMap, name: str) -> Figure:
    """The lecture's pictures: photograph, the class's probability, where the answer changes, and both together.

    Args:
        image: the picture as the network saw it, uint8, shape (3, H, W).
        result: its map; the first target is drawn.
        name: the first target's class.
    """
    figure, axes = plt.subplots(1, 4, figsize=(11.5, 0.9 + 2.2 * image.shape[1] / image.shape[2]))
    for axis in axes:
        axis.axis("off")
    axes[0].imshow(as_image(image))
    axes[0].add_patch(_patch_at(result, len(result.tops) // 2, len(result.lefts) // 2))
    axes[0].set_title(f"picture and a patch of {result.patch}×{result.patch}")
    drawn = _heat(axes[1], result.probabilities[0], result, PROBABILITY, *_range([result]))
    clean = result.clean_probabilities[result.targets[0]]
    axes[1].set_title(f"probability of {_short(name)}\nwithout a patch {clean:.2f}")
    figure.colorbar(drawn, ax=axes[1], shrink=0.75)
    wrong = ~result.keeps
    axes[2].imshow(
        wrong.numpy(), cmap=ListedColormap(["0.93", _WRONG]), vmin=0, vmax=1, extent=_extent(result)
    )
    axes[2].set(xlim=axes[1].get_xlim(), ylim=axes[1].get_ylim())
    axes[2].set_title(f"another answer at\n{int(wrong.sum()):,} of {result.positions:,} positions")
    axes[3].imshow(as_image(image))
    veil = np.zeros((*wrong.shape, 4))
    veil[wrong.numpy()] = (*plt.matplotlib.colors.to_rgb(_WRONG), 0.6)
    axes[3].imshow(veil, extent=_extent(result))
    axes[3].set(xlim=(-0.5, image.shape[2] - 0.5), ylim=(image.shape[1] - 0.5, -0.5))
    axes[3].set_title("the patch's centre there\nchanges the answer")
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
    figure, axes = plt.subplots(1, 4, figsize=(11.5, 1.2 + 2.2 * image.shape[1] / image.shape[2]))
    for axis in axes:
        axis.axis("off")
    axes[0].imshow(as_image(image))
    axes[0].set_title("picture")
    activations = result.activations[0]
    drawn = _heat(axes[1], activations, result, ACTIVATION, 0, max(float(activations.max()), 1e-6))
    axes[1].set_title(f"{layer}, channel {result.channels[0]}\ntotal activation", fontsize=9)
    figure.colorbar(drawn, ax=axes[1], shrink=0.7)
    drawn = _heat(axes[2], result.probabilities[0], result, PROBABILITY, *_range([result]))
    axes[2].set_title(f"probability of\n{_short(classes[result.targets[0]])}", fontsize=9)
    figure.colorbar(drawn, ax=axes[2], shrink=0.7)
    _draw_classes(axes[3], result, classes)
    axes[3].set_title("most probable class", fontsize=9)
    return figure


def predicted_classes(image: Tensor, result: OcclusionMap, classes: Sequence[str]) -> Figure:
    """The most probable class at each position, a colour for each, beside the picture.

    Args:
        image: uint8, shape (3, H, W).
        result: its map.
        classes: the names of all classes.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
    for axis in (left, right):
        axis.axis("off")
    left.imshow(as_image(image))
    left.set_title("picture")
    _draw_classes(right, result, classes)
    right.set_title("most probable class, by the patch's centre")
    return figure


def heat_maps(image: Tensor, rows: Mapping[str, Mapping[str, OcclusionMap]]) -> Figure:
    """Probability maps in a grid with one colour scale: a row for each condition, a column for another.

    Args:
        image: uint8, shape (3, H, W), drawn once at the left.
        rows: maps by row name, then column name; the first target of each is drawn.
    """
    names = list(next(iter(rows.values())))
    low, high = _range([result for maps in rows.values() for result in maps.values()])
    figure, axes = plt.subplots(
        len(rows),
        1 + len(names),
        figsize=(1.75 * (1 + len(names)) + 0.6, 1.95 * len(rows) + 0.2),
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for i, (row, maps) in enumerate(rows.items()):
        if i == 0:
            axes[0, 0].imshow(as_image(image))
        axes[i, 1].set_ylabel(row)
        for j, name in enumerate(names, start=1):
            result = maps[name]
            drawn = _heat(axes[i, j], result.probabilities[0], result, PROBABILITY, low, high)
            kept = result.kept / result.positions
            axes[i, j].set_title(f"{name}\n" * (i == 0) + f"keeps {kept:.0%}", fontsize=9)
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="probability")
    return figure


def side_by_side(images: Sequence[Tensor], maps: Sequence[OcclusionMap], names: Sequence[str]) -> Figure:
    """Pictures above their probability maps.

    Args:
        images: uint8, shape (3, H, W) each.
        maps: one for each; the first target is drawn, with a colour scale of its own.
        names: the first targets' classes.
    """
    side = min(2.9, 11.5 / len(images))
    figure, axes = plt.subplots(2, len(images), figsize=(side * len(images), 2.2 * side), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for i, (image, result, name) in enumerate(zip(images, maps, names, strict=True)):
        axes[0, i].imshow(as_image(image))
        clean = float(result.clean_probabilities[result.targets[0]])
        axes[0, i].set_title(f"{_short(name)} {clean:.2f}")
        drawn = _heat(axes[1, i], result.probabilities[0], result, PROBABILITY, *_range([result]))
        axes[1, i].set_title(f"keeps its answer at {result.kept / result.positions:.0%}", fontsize=9)
        figure.colorbar(drawn, ax=axes[1, i], orientation="horizontal", shrink=0.8, pad=0.03)
    return figure


def ways(maps: Mapping[str, OcclusionMap]) -> Figure:
    """One map computed in several ways: the maps, what was computed of each, and how far it is from the first.

    Args:
        maps: by name, the exact one first. Other strides are welcome: differences are taken where positions coincide.
    """
    names = list(maps)
    first = maps[names[0]]
    low, high = _range(list(maps.values()))
    figure, axes = plt.subplots(2, len(maps), figsize=(3.1 * len(maps) + 0.6, 5.6), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for i, (name, result) in enumerate(maps.items()):
        heat = _heat(axes[0, i], result.probabilities[0], result, PROBABILITY, low, high)
        off = _difference(first, result).mean()
        axes[0, i].set_title(name + (f"\nmean |Δ probability| {off:.4f}" if i else "\n"), fontsize=9)
        rows, columns = result.computed.nonzero(as_tuple=True)
        centre = result.patch // 2
        axes[1, i].scatter(
            result.lefts[columns] + centre, result.tops[rows] + centre, s=0.6, color="0.2", linewidths=0
        )
        axes[1, i].set(xlim=axes[0, i].get_xlim(), ylim=axes[0, i].get_ylim(), aspect="equal")
        axes[1, i].set_title(f"computed: {len(rows):,} of {result.positions:,}", fontsize=9)
    figure.colorbar(heat, ax=axes[0], shrink=0.8, label="probability")
    return figure


def _difference(a: OcclusionMap, b: OcclusionMap) -> Tensor:
    """|Δ probability| of the first target at the positions that two maps share."""
    values = []
    for one, other in ((a, b), (b, a)):
        rows, columns = torch.isin(one.tops, other.tops), torch.isin(one.lefts, other.lefts)
        values.append(one.probabilities[0][rows][:, columns])
    return (values[0] - values[1]).abs()


def _range(maps: Sequence[OcclusionMap]) -> tuple[float, float]:
    """The least and the greatest probability of the first targets, at least a tenth apart."""
    known = torch.cat([result.probabilities[0].flatten() for result in maps])
    known = known[~known.isnan()]
    middle = float(known.max() + known.min()) / 2
    half = max(float(known.max() - known.min()) / 2, 0.05)
    return max(0.0, middle - half), min(1.0, middle + half)


def drops_by_part(drops: Mapping[str, float]) -> Figure:
    """How much probability is lost where a patch covers each part, longest bar first.

    Args:
        drops: mean loss of probability by part.
    """
    order = sorted(drops, key=drops.__getitem__, reverse=True)
    figure, axis = plt.subplots(figsize=(5.5, 0.32 * len(order) + 0.9))
    axis.barh(order, [drops[part] for part in order])
    axis.invert_yaxis()
    axis.set(title="What it costs to cover a pixel of …", xlabel="mean loss of probability")
    return figure


def costs(panels: Mapping[str, Mapping[str, Mapping[float, float]]]) -> Figure:
    """How the time of a map grows: a panel for each thing that is varied, a line for each way, both axes logarithmic.

    Args:
        panels: seconds by panel (the label of the horizontal axis), then way, then value.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3), squeeze=False, sharey=True)
    for axis, (label, lines) in zip(axes[0], panels.items(), strict=True):
        axis.set(xscale="log", yscale="log")
        for (way, points), marker in zip(lines.items(), itertools.cycle(MARKERS), strict=False):
            axis.plot(list(points), list(points.values()), marker=marker, label=way)
        ticks = sorted({value for points in lines.values() for value in points})
        axis.set(xlabel=label, xticks=ticks, xticklabels=[f"{t:g}" for t in ticks])
        axis.minorticks_off()
    axes[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[0, 0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[0, 0].set_ylabel("seconds for the map")
    axes[0, 0].legend(fontsize=8)
    figure.suptitle("What a map costs")
    return figure


def patched(picture: Tensor, probabilities: Tensor, clean: Tensor, classes: Sequence[str]) -> SVG:
    """A picture with a patch on it, and what the network says of it: five classes, with and without the patch.

    Written as SVG, for a panel that follows a slider: matplotlib takes several times as long as the network.

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
    buffer = io.BytesIO()
    Image.fromarray(as_image(picture)).save(buffer, format="png", compress_level=1)
    # enlarged a little, a photograph should be smooth; enlarged much, its pixels should be seen
    enlarged = "pixelated" if 3 * max(picture.shape[1:]) <= side else "auto"
    return SVG(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {side}" width="640" height="{side}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="12"><rect width="640" height="250" fill="white"/>'
        f'<image width="{side}" height="{side}" style="image-rendering: {enlarged}" '
        f'href="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"/>'
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
        centres = starts.double() + result.patch // 2
        half = (
            (centres[-1] - centres[0]) / max(len(centres) - 1, 1) / 2
            if len(centres) > 1
            else result.patch / 2
        )
        sides.append((float(centres[0] - half), float(centres[-1] + half)))
    (left, right), (top, bottom) = sides
    return left, right, bottom, top


def _heat(
    axis: Axes, values: Tensor, result: OcclusionMap, colours: str, low: float, high: float
) -> AxesImage:
    drawn = axis.imshow(values.numpy(), cmap=colours, vmin=low, vmax=high, extent=_extent(result))
    height, width = result.filled.shape[1:]
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return drawn


def _patch_at(result: OcclusionMap, row: int, column: int) -> Rectangle:
    corner = int(result.lefts[column]) - 0.5, int(result.tops[row]) - 0.5
    return Rectangle(corner, result.patch, result.patch, fill=False, edgecolor="white", linewidth=1.5)


def _draw_classes(axis: Axes, result: OcclusionMap, classes: Sequence[str]) -> None:
    found, counts = result.predicted.unique(return_counts=True)
    order = [c for c in found[counts.argsort(descending=True)].tolist() if c >= 0]
    named = order[: len(_CLASS_COLOURS)]
    colours = [*_CLASS_COLOURS[: len(named)], _OTHERS]
    index = torch.full_like(result.predicted, len(named))
    for i, c in enumerate(named):
        index[result.predicted == c] = i
    axis.imshow(
        index.numpy(),
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=len(colours) - 0.5,
        extent=_extent(result),
    )
    height, width = result.filled.shape[1:]
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    labels = [_short(classes[c]) for c in named] + ["others"] * (len(order) > len(named))
    patches = [Patch(color=colour, label=label) for colour, label in zip(colours, labels, strict=False)]
    axis.legend(handles=patches, loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, handlelength=1)
