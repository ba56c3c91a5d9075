"""Figures of embeddings: maps side by side, maps of pictures, neighbours, and a page that answers to the mouse."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from lessons_lib import plots
from lessons_lib.data.pictures import Pictures
from lessons_lib.methods.embeddings import nearest
from lessons_lib.plots import BARE, PROBABILITY, as_image

# of M. Okabe and K. Ito's, which colour-blind readers can tell; with two marks they make ten classes
CLASS_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#000000")
CLASS_MARKS = "ox"
MOST_CLASSES = len(CLASS_COLOURS) * len(CLASS_MARKS)
SAME, OTHER = "#0072B2", "#D55E00"  # frames of neighbours of the same class and of another

MOST_HOVERED = 1000  # pictures a page can hold in under a megabyte
_THUMBNAIL = 32
_PAGE_COLUMNS = 32  # thumbnails in a row of the page's one picture
_SQUARE = "border-radius:0;width:9px;height:9px"  # on a page, what is a cross in a figure
_FALLBACK = "Run this cell to get a map that answers to the mouse and the arrow keys."


def class_maps(
    maps: Mapping[str, Tensor], labels: Tensor, classes: Sequence[str], *, columns: int = 3
) -> Figure:
    """Maps side by side, a dot for each point in the colour of its class.

    A class is named at its median too, on maps where it has a place of its own: where most of the points nearest to
    its median, as many as it has, belong to it.

    Args:
        maps: by title, each of shape (N, 2).
        labels: int64, shape (N,).
        classes: the class names, at most ten.
        columns: maps in a row.

    Raises:
        ValueError: for other shapes or more than ten classes.
    """
    _check(maps, labels, classes)
    width = 3.1 * min(columns, len(maps))
    legend = 0.3 * _legend_rows(classes, width)
    figure, axes = plots.panels(len(maps), columns=columns, cell=(3.1, 3.35), margin=(0, legend))
    for axis, (title, placed) in zip(axes, maps.items(), strict=True):
        _draw_map(axis, placed, labels, classes)
        axis.set_title(title)
    _legend(figure, classes, width)
    return figure


def picture_map(placed: Tensor, pictures: Pictures, *, title: str, across: int = 16) -> Figure:
    """A map with as many of its pictures as fit without hiding each other, and a grey dot for every other.

    Args:
        placed: shape (N, 2).
        pictures: the N pictures.
        title: over the map.
        across: thumbnails that fit side by side.

    Raises:
        ValueError: if the map does not fit the pictures.
    """
    _check({title: placed}, pictures.labels, pictures.classes)
    half = 0.48 * _extent(placed) / across  # a little under half, so that neighbours do not touch
    figure, axis = plt.subplots(figsize=(9.4, 9.7))
    axis.scatter(placed[:, 0].numpy(), placed[:, 1].numpy(), s=7, color="0.7", linewidths=0)
    for i in spread_out(placed, across):
        x, y = placed[i].tolist()
        box = (x - half, x + half, y - half, y + half)
        axis.imshow(as_image(pictures.images[i]), extent=box, interpolation="antialiased", zorder=3)
    _frame(axis, placed, margin=2 * half)
    axis.set_title(title)
    return figure


def spread_out(placed: Tensor, across: int) -> list[int]:
    """Positions of points of a map that are all at least a thumbnail's side apart, in their order.

    Args:
        placed: shape (N, 2).
        across: how many thumbnails fit along the longer side of the map.
    """
    side = _extent(placed) / across
    kept: list[int] = []
    for i in range(len(placed)):
        gaps = (placed[kept] - placed[i]).abs().amax(1) if kept else torch.tensor([torch.inf])
        if float(gaps.min()) >= side:
            kept.append(i)
    return kept


def neighbour_rows(pictures: Pictures, queries: Sequence[int], neighbours: Mapping[str, Tensor]) -> Figure:
    """Query pictures, each with its nearest neighbours in several spaces, one row for each space.

    Neighbours of the query's class have a blue frame, others an orange dashed one and their class above.

    Args:
        pictures: the pictures that ``neighbours`` point into.
        queries: positions of the query pictures.
        neighbours: by space, positions of shape (Q, k), the nearest first.

    Raises:
        ValueError: if a space does not have a row for each query.
    """
    if not neighbours or any(len(found) != len(queries) for found in neighbours.values()):
        raise ValueError(f"each space needs neighbours of all {len(queries)} queries")
    k = next(iter(neighbours.values())).shape[1]
    height = len(queries) * len(neighbours)
    wide, high = 0.92 * (1 + k), 0.95 * height + 0.2
    # laid out by hand: matplotlib takes seconds to find places for so many axes
    edges = {"left": 0.05 / wide, "right": 1 - 0.05 / wide, "bottom": 0.05 / high, "top": 1 - 0.25 / high}
    grid = {**edges, "wspace": 0.3, "hspace": 0.26}
    options: dict[str, Any] = {"gridspec_kw": grid, "subplot_kw": BARE, "layout": "none", "squeeze": False}
    figure, axes = plt.subplots(height, 1 + k, figsize=(wide, high), **options)
    for i, query in enumerate(queries):
        label = int(pictures.labels[query])
        for j, (space, found) in enumerate(neighbours.items()):
            row = axes[i * len(neighbours) + j]
            if j == 0:
                row[0].imshow(as_image(pictures.images[query]))
                row[0].set_title(pictures.classes[label], fontsize=9, fontweight="bold")
            else:
                row[0].axis("off")
            row[1].set_ylabel(space, fontsize=8, labelpad=2)
            for axis, neighbour in zip(row[1:], found[i].tolist(), strict=True):
                _draw_neighbour(axis, pictures, neighbour, label)
    return figure


def tables(
    values: Mapping[str, Tensor], classes: Sequence[str], *, unit: str, rows: str, columns: str
) -> Figure:
    """Tables of classes by classes side by side, the diagonal left out, all in one colour scale.

    Args:
        values: by title, shape (classes, classes).
        classes: the class names.
        unit: what the numbers are.
        rows: what the rows are.
        columns: what the columns are.
    """
    size = len(classes)
    figure, axes = plots.panels(len(values), cell=(3.5, 4.2), margin=(0.9, 0))
    colours = plt.get_cmap(PROBABILITY).with_extremes(bad="0.85")
    off = {title: table.double().clone().fill_diagonal_(torch.nan) for title, table in values.items()}
    highest = max(float(table.nan_to_num().max()) for table in off.values())
    for axis, (title, table) in zip(axes, off.items(), strict=True):
        drawn = axis.imshow(table.numpy(), cmap=colours, vmin=0, vmax=highest)
        axis.set_xticks(range(size), classes, rotation=90 if max(map(len, classes)) > 2 else 0)
        axis.set_yticks(range(size), classes)
        axis.set(title=title, xlabel=columns, ylabel=rows)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label=unit)
    return figure


def picked(placed: Tensor, pictures: Pictures, index: int, *, title: str) -> Figure:
    """A map with one point ringed, its picture, and the pictures nearest to it on the map.

    Args:
        placed: the map, shape (N, 2).
        pictures: the N pictures, of at most ten classes.
        index: the point to pick, 0 to N − 1.
        title: over the map.

    Raises:
        ValueError: if there is no such point, or the map does not fit the pictures.
    """
    _check({title: placed}, pictures.labels, pictures.classes)
    if not 0 <= index < len(pictures):
        raise ValueError(f"the point must be in 0–{len(pictures) - 1}, not {index}")
    label = int(pictures.labels[index])
    figure = plt.figure(figsize=(9.6, 5.4))
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1), squeeze=False)[0]
    axis = left.subplots()
    _draw_map(axis, placed, pictures.labels, pictures.classes)
    axis.plot(*placed[index].tolist(), "o", markersize=15, fillstyle="none", color="black", markeredgewidth=2)
    axis.set_title(title)
    _legend(left, pictures.classes, 5.3)
    panels = right.add_gridspec(3, 4, height_ratios=(2.2, 1, 1))
    large = right.add_subplot(panels[0, :], **BARE)
    large.imshow(as_image(pictures.images[index]))
    large.set_title(f"point {index}: {pictures.classes[label]}")
    for position, neighbour in enumerate(nearest(placed, 8, [index])[0].tolist()):
        small = right.add_subplot(panels[1 + position // 4, position % 4], **BARE)
        _draw_neighbour(small, pictures, neighbour, label)
    right.supxlabel("nearest to it on the map; dashed: of another class", fontsize=10)
    return figure


def hover_map(placed: Tensor, pictures: Pictures, *, title: str) -> HTML:
    """A map as a small page of its own: point at a dot, or walk with the arrow keys, and its picture appears.

    The dots are one group of radio buttons, class by class, so that Tab enters it, arrow keys move through it and
    a click keeps a picture beside the one pointed at. It needs no running kernel, no script and no other file. Where
    a viewer shows no pages inside pages, a sentence stands instead.

    Args:
        placed: the map, shape (N, 2).
        pictures: the N pictures, at most ``MOST_HOVERED``, of at most ten classes.
        title: what the map shows, a sentence for those who cannot see it.

    Raises:
        ValueError: for too many pictures, a title that is no sentence, or a map that does not fit the pictures.
    """
    _check({title: placed}, pictures.labels, pictures.classes)
    if len(pictures) > MOST_HOVERED:
        raise ValueError(f"at most {MOST_HOVERED} pictures fit, not {len(pictures)}: choose some with subset")
    if len(title.split()) < 5 or not title.endswith("."):
        raise ValueError(f"title must be a sentence that says what is seen, not {title!r}")
    middle = (placed.amin(0) + placed.amax(0)) / 2
    share = 50 + 96 * (placed - middle) / max(_extent(placed), 1e-12)
    order = np.lexsort((placed[:, 0].numpy(), pictures.labels.numpy()))
    rows = max(2, math.ceil(len(pictures) / _PAGE_COLUMNS))
    dots = []
    for i in order:
        label, (x, y) = int(pictures.labels[i]), share[i].tolist()
        name = html.escape(f"{pictures.classes[label]}, point {i}")
        row, column = divmod(int(i), _PAGE_COLUMNS)
        at = f"{100 * column / (_PAGE_COLUMNS - 1):.2f}% {100 * row / (rows - 1):.2f}%"
        dots.append(
            f'<input type=radio name=p aria-label="{name}" class=c{label} style="left:{x:.1f}%;top:{100 - y:.1f}%">'
            f'<b title="{name}" style="background-position:{at}"></b>'
        )
    names = "".join(
        f'<em style="left:{x:.1f}%;top:{100 - y:.1f}%">{html.escape(pictures.classes[number])}</em>'
        for number, (x, y) in _medians(share, pictures.labels).items()
    )
    colours = "".join(
        f".c{n}{{--c:{class_colour(n)}{'' if class_mark(n) == CLASS_MARKS[0] else ';' + _SQUARE}}}"
        for n in range(len(pictures.classes))
    )
    page = _PAGE.format(
        title=html.escape(title),
        colours=colours,
        sheet=_sheet(pictures.images, rows),
        columns=100 * _PAGE_COLUMNS,
        rows=100 * rows,
        dots="".join(dots),
        names=names,
    )
    return HTML(
        f'<div><iframe title="{html.escape(title)}" style="border:0;width:100%;max-width:840px;height:600px" '
        f'srcdoc="{html.escape(page)}">{_FALLBACK}</iframe></div>'
    )


_PAGE = """<!DOCTYPE html><html lang=en><meta charset=utf-8><title>{title}</title><style>
body{{margin:0;background:#fff;color:#222;font:14px sans-serif}}
main{{--side:580px;position:relative;width:var(--side);height:var(--side);margin:8px}}
input{{position:absolute;appearance:none;width:11px;height:11px;margin:-5px;border-radius:50%;
background:var(--c);border:1px solid #fff;cursor:pointer}}
input:hover,input:focus,input:checked{{outline:3px solid #000;z-index:2}}
b{{display:none;position:absolute;left:600px;top:0;width:192px;height:192px;background:#fff url({sheet});
background-size:{columns}% {rows}%;image-rendering:pixelated}}
b::after{{content:attr(title);position:absolute;top:192px;width:192px;padding:4px 0;background:#fff;
font-weight:normal}}
input:hover+b{{display:block}}
input:checked+b{{display:block;top:240px}}
em{{position:absolute;transform:translate(-50%,-50%);z-index:3;pointer-events:none;font-style:normal;
font-weight:bold;white-space:nowrap;text-shadow:0 0 3px #fff,0 0 3px #fff,0 0 3px #fff,0 0 3px #fff}}
p{{position:absolute;left:600px;top:480px;width:190px;margin:0;color:#555}}
@media(max-width:800px){{main{{--side:min(340px,100vw - 16px);--small:min(140px,50vw - 14px)}}
b,input:checked+b{{left:calc(var(--small) + 10px);top:calc(var(--side) + 12px);width:var(--small);height:var(--small)}}
input:checked+b{{left:0}}b::after{{top:var(--small);width:var(--small)}}
p{{left:0;top:calc(var(--side) + 190px);width:var(--side)}}}}
{colours}</style><main role=radiogroup aria-label="{title}">{dots}{names}
<p>Point at a dot, click to keep its picture, then walk with the arrow keys.</main></html>"""


def _sheet(images: Tensor, rows: int) -> str:
    """All pictures as thumbnails of one JPEG, for a page to cut out: a data address."""
    size = _THUMBNAIL, _THUMBNAIL
    small = [Image.fromarray(as_image(image)).resize(size, Image.Resampling.LANCZOS) for image in images]
    tiles = torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in small])
    sheet = as_image(plots.tiled(tiles, _PAGE_COLUMNS, rows=rows, gap=0, fill=0))
    return plots.data_address(sheet, "jpeg", quality=70, optimize=True)


def _extent(placed: Tensor) -> float:
    """The longer side of a map, in its own units."""
    return float((placed.amax(0) - placed.amin(0)).max())


def _draw_map(axis: Axes, placed: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
    """The dots of a map in a square frame, in an order that lets no class lie on top, and the class names."""
    shuffled = np.random.default_rng(0).permutation(len(placed))
    size = float(np.clip(12000 / len(placed), 1.5, 16))
    owner = labels.numpy()[shuffled]
    colours = np.array([to_rgb(class_colour(number)) for number in range(len(classes))])[owner]
    x, y = placed.numpy()[shuffled].T
    for mark, width in zip(CLASS_MARKS, (0, 1), strict=True):
        drawn = np.array([class_mark(number) == mark for number in range(len(classes))])[owner]
        if drawn.any():
            axis.scatter(x[drawn], y[drawn], s=size, c=colours[drawn], marker=mark, linewidths=width)
    _frame(axis, placed, margin=0.03 * _extent(placed))
    _name_classes(axis, placed, labels, classes)


def _frame(axis: Axes, placed: Tensor, *, margin: float) -> None:
    """A square frame around a map, whatever its shape."""
    middle, reach = (placed.amin(0) + placed.amax(0)) / 2, max(0.5 * _extent(placed) + margin, 1e-12)
    x, y = middle.tolist()
    axis.set_aspect("equal", adjustable="box")
    axis.set(xlim=(x - reach, x + reach), ylim=(y - reach, y + reach), xticks=[], yticks=[])
    axis.spines[:].set(visible=True, color="0.85")


def _name_classes(axis: Axes, placed: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
    """The names of classes that have a place of their own, in black on white, to be read on any colour.

    A name that would hide one below it moves up until it does not.
    """
    halo = withStroke(linewidth=3, foreground="white")
    extent, centre = _extent(placed), float(placed[:, 0].max() + placed[:, 0].min()) / 2
    wide, tall = 0.0165 * extent, 0.07 * extent  # half a letter, a line
    named: list[tuple[float, float, str]] = []
    for number, middle in sorted(_medians(placed, labels).items(), key=lambda item: item[1][1]):
        around = (placed - torch.tensor(middle)).norm(dim=1).argsort()[: int((labels == number).sum())]
        if (labels[around] == number).double().mean() <= 0.5:
            continue
        name, y = classes[number], middle[1]
        room = 0.53 * extent - wide * len(name)
        x = float(np.clip(middle[0], centre - room, centre + room))  # inside the frame
        for other_x, other_y, other in sorted(named, key=lambda place: place[1]):
            if abs(x - other_x) < wide * len(name + other) and abs(y - other_y) < tall:
                y = other_y + tall
        named.append((x, y, name))
        text = axis.text(x, y, name, ha="center", va="center", fontsize=9, zorder=9)
        text.set_path_effects([halo])


def _medians(placed: Tensor, labels: Tensor) -> dict[int, tuple[float, ...]]:
    """The middle of each class that has points, by its number."""
    found = labels.unique().tolist()
    return {number: tuple(placed[labels == number].median(0).values.tolist()) for number in found}


def _legend(figure: FigureBase, classes: Sequence[str], width: float) -> None:
    """The colour of each class, under the figure, which is ``width`` inches wide."""
    dots = [
        Line2D([], [], marker=class_mark(number), linestyle="", color=class_colour(number), label=name)
        for number, name in enumerate(classes)
    ]
    columns = math.ceil(len(classes) / _legend_rows(classes, width))
    figure.legend(handles=dots, loc="outside lower center", ncols=columns, columnspacing=1, handletextpad=0)


def _legend_rows(classes: Sequence[str], width: float) -> int:
    """Rows of a legend that is at most ``width`` inches wide."""
    return math.ceil(len(classes) * (0.55 + 0.08 * max(map(len, classes))) / width)


def _draw_neighbour(axis: Axes, pictures: Pictures, index: int, label: int) -> None:
    """A neighbour's picture, framed by whether it is of class ``label``."""
    found = int(pictures.labels[index])
    image = as_image(pictures.images[index])
    axis.imshow(image)
    height, width = image.shape[:2]
    same = found == label
    look = {"edgecolor": SAME if same else OTHER, "linestyle": "-" if same else "--"}
    plots.frame(axis, -0.5, -0.5, width, height, linewidth=2.5, clip_on=False, **look)
    if not same:
        axis.set_title(pictures.classes[found], fontsize=8, pad=3)


def class_colour(label: int) -> str:
    """The colour of a class on every map, one of ``CLASS_COLOURS``."""
    # two further along for crosses, so that classes five apart differ in both
    return CLASS_COLOURS[(label + 2 * (label // len(CLASS_COLOURS))) % len(CLASS_COLOURS)]


def class_mark(label: int) -> str:
    """Its mark, one of ``CLASS_MARKS``."""
    return CLASS_MARKS[label // len(CLASS_COLOURS)]


def _check(maps: Mapping[Any, Tensor], labels: Tensor, classes: Sequence[str]) -> None:
    if len(classes) > MOST_CLASSES:
        raise ValueError(f"there are colours and marks for {MOST_CLASSES} classes, not {len(classes)}")
    for title, placed in maps.items():
        if placed.shape != (len(labels), 2) or not len(labels):
            raise ValueError(f"map {title!r} must have shape ({len(labels)}, 2), not {tuple(placed.shape)}")
