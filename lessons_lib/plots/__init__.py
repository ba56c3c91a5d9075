"""Every figure of the course, drawn by functions that return it and touch nothing else.

Here is what all lessons share; ``plots/X.py`` draws what ``methods/X.py`` computes.

A lesson shows a figure with ``show``, which needs a sentence for readers who cannot see it. A panel
(``lessons_lib.widgets``) redraws the same function, so that a page without widgets has the figure too.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
import pkgutil
from collections.abc import Mapping, Sequence

import lazy_loader
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML, SVG, display
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from lessons_lib.data.critters import PARTS, Critters
from lessons_lib.statistics import Interval

# the figures of a lesson are imported when they are first used
__getattr__, _, _ = lazy_loader.attach(__name__, [part.name for part in pkgutil.iter_modules(__path__)])

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


def _page_width(figure: Figure) -> int:
    """In pixels of the page."""
    return round(figure.get_figwidth() * plt.rcParams["figure.dpi"])


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
        kind, width = "png", f"{_page_width(figure)}px"
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
    if images.ndim != 4 or not len(images):
        raise ValueError(f"need pictures of shape (N, 3, H, W), at least one, not {tuple(images.shape)}")
    if titles and len(titles) != len(images):
        raise ValueError(f"{len(images)} pictures need {len(images)} titles, not {len(titles)}")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    title_height = 0.22 * (1 + max((title.count("\n") for title in titles), default=-1))
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * size, rows * (size + title_height)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        axis.imshow(as_image(image))
        if titles:
            axis.set_title(titles[i], fontsize=9)
    return figure


def parts(critters: Critters, *, size: float = 1.5) -> Figure:
    """Critters above their part masks, one colour for each part.

    Args:
        critters: at least one.
        size: side of a picture in inches.
    """
    if not len(critters):
        raise ValueError("there are no Critters to draw")
    colours = ListedColormap(["0.92", *_PART_COLOURS.values()])
    count = len(critters)
    figure, axes = plt.subplots(2, count, figsize=(count * size, 2 * size + 0.7), squeeze=False)
    for i in range(count):
        # later parts lie on earlier ones: eyes and nose on the head
        owner = torch.zeros(critters.images.shape[2:], dtype=torch.int64)
        for number, part in enumerate(_PART_COLOURS, start=1):
            owner[critters.masks[i, PARTS.index(part)]] = number
        axes[0, i].imshow(as_image(critters.images[i]))
        axes[0, i].set_title(critters.classes[int(critters.labels[i])])
        axes[1, i].imshow(owner.numpy(), cmap=colours, vmin=0, vmax=len(_PART_COLOURS))
        for axis in axes[:, i]:
            axis.axis("off")
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
    for (condition, line), marker in zip(values.items(), itertools.cycle(MARKERS), strict=False):
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
    if len({tuple(group) for group in groups.values()}) != 1:
        raise ValueError("need at least one group, and the same conditions in each, in the same order")
    conditions = list(next(iter(groups.values())))
    figure, axis = plt.subplots(figsize=(7, 0.6 * len(groups) + 1))
    for i, (name, marker) in enumerate(zip(conditions, itertools.cycle(MARKERS), strict=False)):
        found = [group[name] for group in groups.values()]
        places = [row + 0.18 * (i - (len(conditions) - 1) / 2) for row in range(len(groups))]
        reach = [[one.mean - one.low for one in found], [one.high - one.mean for one in found]]
        axis.errorbar([one.mean for one in found], places, xerr=reach, fmt=marker, capsize=3, label=name)
    axis.axvline(0, color="0.7", linewidth=1, zorder=0)
    axis.set(title=title, xlabel=xlabel, yticks=range(len(groups)), yticklabels=list(groups))
    axis.invert_yaxis()
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def epoch_name(epoch: int) -> str:
    """How figures call an epoch: 0 is the network before training."""
    return "before training" if epoch == 0 else f"after epoch {epoch}"


def as_image(image: Tensor) -> np.ndarray:
    """A picture (3, H, W) as matplotlib wants it, (H, W, 3)."""
    return image.permute(1, 2, 0).cpu().numpy()


def size_name(maps: Tensor) -> str:
    """Height × width of maps or pictures, for titles."""
    return f"{maps.shape[-2]}×{maps.shape[-1]}"
