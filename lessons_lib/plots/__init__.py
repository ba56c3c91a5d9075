"""Every figure of the course, drawn by functions that return it and touch nothing else.

Here is what all lessons share; ``plots/X.py`` draws what ``methods/X.py`` computes.

A lesson shows a figure with ``show``, which needs a sentence for readers who cannot see it. A panel
(``lessons_lib.widgets``) redraws the same function, so that a page without widgets has the figure too.
"""

from __future__ import annotations

import base64
import html
import io
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import lazy_loader
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, SVG, display
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image
from torch import Tensor

from lessons_lib.data.critters import PARTS, Critters
from lessons_lib.statistics import Interval

# the figures of a lesson are imported when they are first used
__getattr__, _, _ = lazy_loader.attach(__name__, [part.name for part in pkgutil.iter_modules(__path__)])

_Line = TypeVar("_Line")

# one colormap for each quantity, throughout the course
ACTIVATION = "magma"
SIGNED = "RdBu_r"
PROBABILITY = "viridis"

_PART_COLOURS = {
    "head": "#F0C987",
    "ears": "#E69F00",
    "left_eye": "#0072B2",
    "right_eye": "#56B4E9",
    "nose": "#D55E00",
}
# one more than there are colours in a row, so that the two together tell 56 lines apart
MARKERS = "osD^vPX*"
BARE: dict[str, Any] = {"xticks": [], "yticks": [], "frame_on": False}  # of axes that hold a picture
_SHARP = 2  # pixels of the PNG for each pixel of the page, for fine screens


def show(figure: Figure | SVG, alt: str) -> None:
    """Display ``figure`` with ``alt``, a sentence that says what is seen, and close it.

    Raises:
        ValueError: if ``alt`` is not a sentence.
    """
    if len(alt.split()) < 5 or not alt.rstrip().endswith("."):
        raise ValueError(f"alt text must be a sentence that says what is seen, not {alt!r}")
    # not as an output of its own: JupyterLab's pictures have no alt text
    display(HTML(img_tag(figure, alt)))


def img_tag(figure: Figure | SVG, alt: str, *, compression: int = 6) -> str:
    """``figure`` as an HTML element that holds all of it; a matplotlib figure is closed.

    Args:
        figure: what to draw.
        alt: a sentence that says what is seen.
        compression: of a matplotlib figure, as in ``to_png``.
    """
    if isinstance(figure, SVG):
        kind, width, data = "svg+xml", "auto", figure.data.encode()
    else:
        kind, width = "png", f"{round(figure.get_figwidth() * plt.rcParams['figure.dpi'])}px"
        data = to_png(figure, compression=compression)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{html.escape(alt)}" style="width: {width}; max-width: 100%" src="{source}">'


def to_png(figure: Figure, *, compression: int = 6) -> bytes:
    """``figure`` as a PNG of twice the page's resolution; the figure is closed.

    Args:
        figure: what to draw.
        compression: zlib's level, 1 (quick) to 9 (small). The pixels are the same.
    """
    buffer = io.BytesIO()
    dpi = _SHARP * plt.rcParams["figure.dpi"]
    figure.savefig(buffer, format="png", dpi=dpi, pil_kwargs={"compress_level": compression})
    plt.close(figure)
    return buffer.getvalue()


def pictures(images: Tensor, titles: Sequence[str] = (), *, columns: int = 8, size: float = 1.25) -> Figure:
    """A grid of pictures.

    Args:
        images: uint8, shape (N, 3, H, W).
        titles: one for each picture, or none.
        columns: pictures in a row.
        size: side of a picture in inches.

    Raises:
        ValueError: if there are no pictures, or the titles are not as many as the pictures.
    """
    title_height = 0.22 * (1 + max((title.count("\n") for title in titles), default=-1))
    shown = [as_image(image) for image in images]
    return picture_grid(shown, titles, columns=columns, cell=(size, size + title_height))[0]


def picture_grid(
    shown: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    *,
    heads: Sequence[str] = (),
    names: Sequence[str] = (),
    fontsize: float = 9,
    look: Mapping[str, Any] | None = None,
    columns: int | None = None,
    **layout: Any,
) -> tuple[Figure, list[Axes]]:
    """A grid of pictures and maps, for figures that draw something on them or beside them.

    Args:
        shown: pictures, as ``as_image`` gives them, and maps, shape (h, w), row by row.
        titles: one for each, or none.
        heads: instead of titles: one for each column.
        names: one for each row, or none.
        fontsize: of titles and heads.
        look: of the maps, as in ``matplotlib.pyplot.imshow``.
        columns: pictures in a row; by default as many as there are heads, or all.
        layout: as in ``panels``.

    Returns:
        The figure and the axes of each picture.

    Raises:
        ValueError: if there are no pictures, or the titles are not as many as the pictures.
    """
    if titles and len(titles) != len(shown):
        raise ValueError(f"{len(shown)} pictures need {len(shown)} titles, not {len(titles)}")
    columns = columns or len(heads) or len(shown)
    figure, axes = panels(len(shown), columns=columns, subplot_kw=BARE, **layout)
    for axis, picture in zip(axes, shown, strict=True):
        axis.imshow(picture, **look or {})
    for axis, title in zip(axes, titles or heads, strict=False):
        axis.set_title(title, fontsize=fontsize)
    for axis, name in zip(axes[::columns], names, strict=bool(names)):
        axis.set_ylabel(name, fontsize=9)
    return figure, axes


def panels(
    count: int,
    *,
    cell: tuple[float, float],
    margin: tuple[float, float] = (0, 0),
    columns: int | None = None,
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` axes, row by row.

    Args:
        count: at least one.
        cell: width and height of one in inches.
        margin: width and height that the figure has beside them.
        columns: axes in a row; by default all.
        options: as in ``matplotlib.pyplot.subplots``.

    Returns:
        The figure and its axes.

    Raises:
        ValueError: if ``count`` is 0.
    """
    if not count:
        raise ValueError("there is nothing to draw: at least one is needed")
    columns = min(columns or count, count)
    rows = math.ceil(count / columns)
    size = columns * cell[0] + margin[0], rows * cell[1] + margin[1]
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    for axis in axes.flat[count:]:
        axis.axis("off")
    return figure, list(axes.flat[:count])


def parts(critters: Critters) -> Figure:
    """Critters above their part masks, one colour for each part.

    Args:
        critters: at least one.
    """
    owners = []
    for masks in critters.masks.numpy():
        owner = np.zeros(masks.shape[1:])
        # later parts lie on earlier ones: eyes and nose on the head
        for number, part in enumerate(_PART_COLOURS, start=1):
            owner[masks[PARTS.index(part)]] = number
        owners.append(owner)
    colours = ListedColormap(["0.92", *_PART_COLOURS.values()])
    look = {"cmap": colours, "vmin": 0, "vmax": len(_PART_COLOURS)}
    shown = [*map(as_image, critters.images), *owners]
    heads = [critters.classes[label] for label in critters.labels]
    figure, _ = picture_grid(shown, heads=heads, fontsize=10, look=look, cell=(1.5, 1.5), margin=(0, 0.7))
    patches = [Patch(color=colour, label=part.replace("_", " ")) for part, colour in _PART_COLOURS.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=9)
    return figure


def by_layer(
    values: Mapping[str, Mapping[str, float]],
    *,
    title: str,
    ylabel: str,
    reference: float | None = None,
    reference_name: str = "",
) -> Figure:
    """One number for each layer, a line for each network or condition.

    Args:
        values: shares in 0–1 by condition, then layer.
        title: what is shown.
        ylabel: the unit.
        reference: a value to draw as a dashed line.
        reference_name: what that line is.
    """
    figure, axis = plt.subplots(figsize=(6, 3))
    for condition, line, marker in marked(values):
        axis.plot(list(line), list(line.values()), marker=marker, label=condition)
    if reference is not None:
        axis.axhline(reference, color="0.4", linestyle="--", label=reference_name)
    top = max(max(line.values()) for line in values.values())
    axis.set(title=title, ylabel=ylabel, ylim=(-0.02, min(1.02, 1.3 * max(top, reference or 0, 0.1))))
    axis.legend(fontsize=8)
    return figure


def intervals(groups: Mapping[str, Mapping[str, Interval]], xlabel: str, title: str) -> Figure:
    """Means with their intervals, a row for each group and in it a marker for each condition.

    Args:
        groups: by group, then condition, the same conditions in each.
        xlabel: the unit.
        title: what is shown.

    Raises:
        ValueError: if there are no groups, or they have different conditions.
    """
    conditions = same_names(groups)
    figure, axis = plt.subplots(figsize=(7, 0.6 * len(groups) + 1))
    for i, name in enumerate(conditions):
        means, reach = with_reach([group[name] for group in groups.values()])
        places = [row + 0.18 * (i - (len(conditions) - 1) / 2) for row in range(len(groups))]
        axis.errorbar(means, places, xerr=reach, fmt=MARKERS[i % len(MARKERS)], capsize=3, label=name)
    axis.axvline(0, color="0.7", linewidth=1, zorder=0)
    axis.set(title=title, xlabel=xlabel, yticks=range(len(groups)), yticklabels=list(groups))
    axis.invert_yaxis()
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def same_names(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The conditions that all groups have.

    Raises:
        ValueError: if there are no groups, or they have different conditions.
    """
    if len({frozenset(group) for group in groups.values()}) != 1:
        raise ValueError(f"need the same conditions in each group, not {[list(g) for g in groups.values()]}")
    return list(next(iter(groups.values())))


def with_reach(found: Sequence[Interval]) -> tuple[list[float], list[list[float]]]:
    """Means, and how far below and above them their intervals reach, as matplotlib's error bars want it."""
    means = [one.mean for one in found]
    # a mean of equal values can lie a rounding error outside its interval
    return means, [
        [max(0, one.mean - one.low) for one in found],
        [max(0, one.high - one.mean) for one in found],
    ]


def mean_line(axis: Axes, places: Sequence[float], found: Sequence[Interval], **look: Any) -> None:
    """A line through means, in a band that is as wide as their intervals.

    Args:
        axis: to draw on.
        places: of each mean, from left to right.
        found: the means.
        look: of the line.
    """
    (line,) = axis.plot(places, [one.mean for one in found], markersize=4, **look)
    low, high = [one.low for one in found], [one.high for one in found]
    axis.fill_between(places, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def marked(lines: Mapping[str, _Line]) -> Iterator[tuple[str, _Line, str]]:
    """Name and line, and a marker for it: after the last of ``MARKERS`` the first again."""
    for i, (name, line) in enumerate(lines.items()):
        yield name, line, MARKERS[i % len(MARKERS)]


def spread(count: int, width: float) -> np.ndarray:
    """How far beside their column dots stand, so that no dot hides its neighbour; nothing is random."""
    return width * ((np.arange(count) * 0.618) % 1) - width / 2


def frame(axis: Axes, left: float, top: float, width: float, height: float, **look: Any) -> None:
    """An empty rectangle on a picture."""
    axis.add_patch(Rectangle((left, top), width, height, fill=False, **look))


def write_numbers(
    axis: Axes, values: Tensor, text: Callable[[float], str], *, fontsize: float, limit: float = math.inf
) -> None:
    """Write each value of a map into its cell, white on the dark ends of a colour scale to ±``limit``.

    Args:
        axis: where the map is drawn.
        values: shape (H, W).
        text: given a value, what to write.
        fontsize: in points.
        limit: the end of the colour scale.
    """
    for (row, column), value in np.ndenumerate(values.double().numpy()):
        colour = "white" if abs(value) > 0.6 * limit else "black"
        axis.text(column, row, text(value), ha="center", va="center", fontsize=fontsize, color=colour)


def limit(values: Tensor) -> float:
    """The end of a colour scale that is even about 0."""
    return max(values.abs().max().item(), 1e-12)


def tiled(tiles: Tensor, columns: int, *, gap: int, fill: float, rows: int | None = None) -> Tensor:
    """Tiles in a grid, row by row, with lines of ``gap`` pixels between.

    Args:
        tiles: shape (N, H, W) or (N, 3, H, W).
        columns: tiles in a row.
        gap: in pixels.
        fill: the value of the lines, and of places that no tile takes.
        rows: by default as many as the tiles take.

    Returns:
        Shape (height, width) or (3, height, width).

    >>> import torch
    >>> tiled(torch.tensor([[[1]], [[2]], [[3]]]), 2, gap=1, fill=0)
    tensor([[1, 0, 2],
            [0, 0, 0],
            [3, 0, 0]])
    """
    rows, (height, width) = rows or math.ceil(len(tiles) / columns), tiles.shape[-2:]
    canvas = tiles.new_full((rows * columns, *tiles.shape[1:-2], height + gap, width + gap), fill)
    canvas[: len(tiles), ..., :height, :width] = tiles
    grid = canvas.unflatten(0, (rows, columns)).movedim((0, 1), (-4, -2)).flatten(-4, -3).flatten(-2, -1)
    return grid[..., : grid.shape[-2] - gap, : grid.shape[-1] - gap]


def epoch_name(epoch: int) -> str:
    """How figures call an epoch: 0 is the network before training."""
    return "before training" if epoch == 0 else f"after epoch {epoch}"


def as_image(image: Tensor) -> np.ndarray:
    """A picture (3, H, W) as matplotlib wants it, (H, W, 3)."""
    if image.ndim != 3:
        raise ValueError(f"a picture has shape (3, H, W), not {tuple(image.shape)}")
    return image.permute(1, 2, 0).cpu().numpy()


def data_address(picture: np.ndarray, kind: str, **options: Any) -> str:
    """A picture as an address that holds all of it, for HTML and SVG.

    Args:
        picture: uint8, shape (H, W, 3).
        kind: "png" or "jpeg".
        options: as in ``PIL.Image.Image.save``.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def size_name(maps: Tensor) -> str:
    """Height × width of maps or pictures, for titles."""
    return f"{maps.shape[-2]}×{maps.shape[-1]}"
