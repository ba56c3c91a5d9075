"""Every figure of the course, drawn by functions that return a matplotlib figure and touch nothing else.

A lesson shows a figure with :func:`show`, which needs a sentence for readers who cannot see it. A panel
(:mod:`lessons_lib.widgets`) redraws the same function, so that a page without widgets has the figure too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from lessons_lib.data.critters import PARTS, Critters
from lessons_lib.methods.activations import Measures
from lessons_lib.training import Epoch

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
_SHARP = 2  # pixels of the PNG for each pixel of the page, for fine screens


def show(figure: Figure, alt: str) -> None:
    """Display ``figure`` with ``alt``, a sentence that says what is seen, and close it.

    Raises:
        ValueError: if ``alt`` is not a sentence.
    """
    if len(alt.split()) < 5 or not alt.rstrip().endswith("."):
        raise ValueError(f"alt text must be a sentence that says what is seen, not {alt!r}")
    png = to_png(figure)
    width = round(figure.get_figwidth() * plt.rcParams["figure.dpi"])
    display(Image(data=png, alt=alt, width=width))


def to_png(figure: Figure) -> bytes:
    """``figure`` as a PNG of twice the page's resolution; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_SHARP * plt.rcParams["figure.dpi"])
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
        axis.imshow(_as_image(image))
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
        axes[0, i].imshow(_as_image(critters.images[i]))
        axes[0, i].set_title(critters.classes[int(critters.labels[i])])
        axes[1, i].imshow(owner.numpy(), cmap=colours, vmin=0, vmax=len(_PART_COLOURS))
        for axis in axes[:, i]:
            axis.axis("off")
    patches = [Patch(color=colour, label=part.replace("_", " ")) for part, colour in _PART_COLOURS.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=9)
    return figure


def mosaic(maps: Tensor) -> np.ndarray:
    """Tile the channels of one picture's feature maps, row by row, with a line of NaN between.

    Maps smaller than 8 pixels are enlarged by a whole factor, so that the lines stay thin beside them.

    Args:
        maps: shape (C, H, W).

    Returns:
        A two-dimensional float array, tiles in a grid about as square as C allows.

    Raises:
        ValueError: for another shape.
    """
    if maps.ndim != 3 or not maps.numel():
        raise ValueError(f"need the maps of one picture, shape (C, H, W), not {tuple(maps.shape)}")
    factor = _enlargement(maps)
    tiles = maps.float().cpu().repeat_interleave(factor, 1).repeat_interleave(factor, 2).numpy()
    channels, height, width = tiles.shape
    columns = _columns(channels)
    rows = math.ceil(channels / columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan, dtype=np.float32)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def mean_maps(images: Tensor, rows: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """The mean feature map of each layer for a few pictures, one group of rows for each state of the network.

    Args:
        images: uint8, shape (N, 3, H, W).
        rows: feature maps (N, C, h, w) by state ("untrained", …) and layer.

    Each map has its own colour scale, from its least to its greatest value: compare shapes, not brightness.
    """
    states = list(rows)
    layers = list(rows[states[0]])
    count = len(images)
    figure, axes = plt.subplots(
        count * len(states),
        1 + len(layers),
        figsize=(1.25 * (1 + len(layers)), 1.25 * count * len(states) + 0.4),
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for i in range(count):
        for j, state in enumerate(states):
            line = axes[i * len(states) + j]
            line[0].imshow(_as_image(images[i]))
            line[0].set_ylabel(state)
            for axis, layer in zip(line[1:], layers, strict=True):
                axis.imshow(rows[state][layer][i].float().mean(0).numpy(), cmap=ACTIVATION)
    axes[0, 0].set_title("picture")
    for axis, layer in zip(axes[0, 1:], layers, strict=True):
        axis.set_title(f"{layer}\n{_size(rows[states[0]][layer])}", fontsize=9)
    return figure


def channels_by_epoch(image: Tensor, maps: Mapping[int, Tensor], layer: str) -> Figure:
    """Every channel of one layer for one picture, one mosaic for each epoch.

    A mosaic has one colour scale, from 0 to the 99.5th percentile of its own values: a dark tile is a silent channel.

    Args:
        image: the picture, uint8, shape (3, H, W).
        maps: its feature maps (C, h, w) by epoch.
        layer: its name, for the title.
    """
    columns = min(3, len(maps))
    rows = math.ceil(len(maps) / columns)
    stack = next(iter(maps.values()))
    shape = mosaic(stack).shape
    height = 2.9 * shape[0] / shape[1] + 0.3
    figure = plt.figure(figsize=(1.6 + 2.9 * columns, rows * height + 0.3))
    grid = figure.add_gridspec(rows, 1 + columns, width_ratios=(1.5, *[2.9] * columns))
    picture = figure.add_subplot(grid[:, 0])
    picture.imshow(_as_image(image))
    picture.set_title("picture", fontsize=9)
    picture.axis("off")
    for i, (epoch, by_channel) in enumerate(maps.items()):
        axis = figure.add_subplot(grid[i // columns, 1 + i % columns])
        _draw_mosaic(axis, by_channel)
        axis.set_title(epoch_name(epoch), fontsize=9)
        axis.axis("off")
    figure.suptitle(f"{layer}: all {len(stack)} channels of {_size(stack)} positions", fontsize=11)
    return figure


def measures_by_epoch(measures: Mapping[str, Mapping[int, Measures]]) -> Figure:
    """Sparsity, localisation, dead channels and likeness over training, a line for each layer.

    Args:
        measures: by layer, then epoch.
    """
    panels = (
        ("sparsity", "Sparsity", "share of activations that are 0"),
        ("localisation", "Localisation", "0 = even, 1 = one position"),
        ("dead", "Dead channels", "share of channels"),
        ("likeness", "Likeness to the picture", "|correlation| with brightness"),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 3))
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(measures)))
    for axis, (name, title, unit) in zip(axes, panels, strict=True):
        for colour, (layer, by_epoch) in zip(colours, measures.items(), strict=True):
            values = [getattr(measure, name) for measure in by_epoch.values()]
            axis.plot(range(len(by_epoch)), values, marker="o", markersize=4, color=colour, label=layer)
        ticks = list(next(iter(measures.values())))
        axis.set(title=title, ylabel=unit, xlabel="epoch", xticks=range(len(ticks)), xticklabels=ticks)
        axis.set_ylim(0, max(1.02 * axis.get_ylim()[1], 0.05))
    axes[0].legend(fontsize=8)
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
    for (condition, line), marker in zip(values.items(), "osD^v", strict=False):
        axis.plot(list(line), list(line.values()), marker=marker, label=condition)
    if reference is not None:
        axis.axhline(reference, color="0.4", linestyle="--", label=reference_name)
    top = max(max(line.values()) for line in values.values())
    axis.set(title=title, ylabel=ylabel, ylim=(-0.02, min(1.02, 1.3 * max(top, reference or 0, 0.1))))
    axis.legend(fontsize=8)
    return figure


def history(epochs: Sequence[Epoch], *, reference: float | None = None, reference_name: str = "") -> Figure:
    """Training loss, and training and test accuracy, by epoch.

    Args:
        epochs: what :func:`lessons_lib.training.fit` recorded.
        reference: an accuracy (0–1) to draw as a dashed line.
        reference_name: what that line is.

    Raises:
        ValueError: if there are no epochs.
    """
    if not epochs:
        raise ValueError("no epoch was completed, so there is no history to draw")
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    numbers = [epoch.epoch for epoch in epochs]
    left.plot(numbers, [epoch.train_loss for epoch in epochs], marker="o", markersize=3)
    left.set(title="Training loss", xlabel="epoch", ylabel="cross-entropy (nats)")
    left.set_ylim(bottom=0)
    right.plot(
        numbers, [epoch.train_accuracy for epoch in epochs], marker="o", markersize=3, label="training"
    )
    right.plot(numbers, [epoch.test_accuracy for epoch in epochs], marker="s", markersize=3, label="held out")
    if reference is not None:
        right.axhline(reference, color="0.4", linestyle="--", label=reference_name)
    right.set(title="Accuracy", xlabel="epoch", ylabel="share right", ylim=(0, 1.02))
    right.legend(loc="lower right", fontsize=8)
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
    return figure


def channel_browser(image: Tensor, maps: Tensor, channel: int, title: str = "") -> Figure:
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
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.5), width_ratios=(1, 1.6, 1.1))
    left.imshow(_as_image(image))
    left.set_title("picture")
    top = _draw_mosaic(middle, maps)
    middle.set_title(f"all {len(maps)} channels")
    height, width = (_enlargement(maps) * side for side in maps.shape[1:])
    row, column = divmod(channel, _columns(len(maps)))
    frame = (column * (width + 1) - 1, row * (height + 1) - 1)
    middle.add_patch(Rectangle(frame, width + 1, height + 1, fill=False, edgecolor="#56B4E9", linewidth=2))
    drawn = right.imshow(maps[channel].float().numpy(), cmap=ACTIVATION, vmin=0, vmax=top)
    right.set_title(f"channel {channel}, {_size(maps)}")
    figure.colorbar(drawn, ax=right, shrink=0.8, label="activation")
    for axis in (left, middle, right):
        axis.axis("off")
    if title:
        figure.suptitle(title)
    return figure


def epoch_name(epoch: int) -> str:
    """How figures call an epoch: 0 is the network before training."""
    return "before training" if epoch == 0 else f"after epoch {epoch}"


def _draw_mosaic(axis: Axes, maps: Tensor) -> float:
    """Draw all channels with one colour scale; returns its upper end."""
    top = max(torch.quantile(maps.float().flatten()[: 2**24], 0.995).item(), 1e-6)
    colours = plt.get_cmap(ACTIVATION).with_extremes(bad="0.75")
    axis.imshow(mosaic(maps), cmap=colours, vmin=0, vmax=top)
    return top


def _enlargement(maps: Tensor) -> int:
    """How many pixels of a mosaic a position takes, each way."""
    return max(1, 8 // maps.shape[1])


def _columns(channels: int) -> int:
    """Tiles in a row of a mosaic: the smallest divisor of ``channels`` at or above its square root."""
    start = math.ceil(math.sqrt(channels))
    divisor = next(n for n in range(start, channels + 1) if channels % n == 0)
    return divisor if divisor <= 2 * start else start


def _as_image(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).cpu().numpy()


def _size(maps: Tensor) -> str:
    return f"{maps.shape[-2]}×{maps.shape[-1]}"
