"""Figures of hidden parts, of the sign patterns they leave, and of Δ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.correspondence import Delta
from lessons_lib.plots import SIGNED, as_image
from lessons_lib.statistics import Interval


def hidden_parts(images: Tensor, hidden: Mapping[str, Tensor]) -> Figure:
    """Pictures and their occluded copies, a row for each picture: the paper's figure of hidden parts.

    Args:
        images: uint8, shape (N, 3, H, W).
        hidden: by condition, the same pictures occluded.

    Raises:
        ValueError: if there are no pictures.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"need pictures of shape (N, 3, H, W), at least one, not {tuple(images.shape)}")
    columns = {"original": images, **hidden}
    side = min(1.5, 11 / len(columns))
    figure, axes = plt.subplots(
        len(images), len(columns), figsize=(side * len(columns), side * len(images) + 0.3), squeeze=False
    )
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for line, (condition, stack) in zip(axes.T, columns.items(), strict=True):
        line[0].set_title(condition.replace("_", " "), fontsize=9)
        for axis, image in zip(line, stack, strict=True):
            axis.imshow(as_image(image))
            axis.axis("off")
    return figure


def sign_patterns(hidden: Tensor, changes: Tensor, title: str, *, features: int = 120) -> Figure:
    """Occluded pictures, each beside the signs of the changes it causes: stripes are features that all agree on.

    Shown are the ``features`` that change in most of the pictures, sorted by the sum of their signs.

    Args:
        hidden: the occluded pictures, uint8, shape (N, 3, H, W), N at most a dozen.
        changes: ε = original − occluded at one layer, shape (N, …).
        title: over the figure.
        features: how many to show.

    Raises:
        ValueError: if there are not as many pictures as changes.
    """
    if hidden.ndim != 4 or len(hidden) != len(changes) or not len(changes):
        raise ValueError(
            f"need as many pictures (N, 3, H, W) as changes (N, …), at least one, not {tuple(hidden.shape)} and "
            f"{tuple(changes.shape)}"
        )
    signs = changes.flatten(1).sign()
    often = signs.abs().sum(0).argsort(descending=True, stable=True)[:features]
    order = often[signs[:, often].sum(0).argsort(descending=True, stable=True)]
    count = len(hidden)
    figure = plt.figure(figsize=(11, 0.55 * count + 1.1))
    grid = figure.add_gridspec(count, 2, width_ratios=(0.6, 10))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.01, wspace=0, hspace=0)
    for i, picture in enumerate(hidden):
        axis = figure.add_subplot(grid[i, 0])
        axis.imshow(as_image(picture))
        axis.axis("off")
    bars = figure.add_subplot(grid[:, 1])
    drawn = bars.imshow(
        signs[:, order].numpy(),
        cmap=ListedColormap(plt.get_cmap(SIGNED)((0.15, 0.5, 0.85))),
        vmin=-1,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
    )
    bars.set_yticks([i + 0.5 for i in range(count - 1)], minor=True)
    bars.set(
        yticks=[],
        xticks=[],
        xlabel=f"{len(order)} of {signs.shape[1]:,} features, those changed most often",
    )
    bars.grid(which="minor", axis="y", color="white", linewidth=3)
    bars.tick_params(which="minor", length=0)
    legend = figure.colorbar(drawn, ax=bars, ticks=[-2 / 3, 0, 2 / 3], shrink=0.9, pad=0.01)
    legend.ax.set_yticklabels(["grew", "same", "shrank"], fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def deltas(values: Mapping[str, Mapping[str, Delta | Interval]], *, chance: float | None = None) -> Figure:
    """Δ by condition with its interval over pictures, a panel for each layer or network.

    Args:
        values: by panel, then condition; the control is drawn as a dashed line if it is called "random".
        chance: a value to draw as a dotted line.

    Raises:
        ValueError: if there are no panels, or they have different conditions.
    """
    conditions = {tuple(by_condition) for by_condition in values.values()}
    if len(conditions) != 1:
        raise ValueError("need at least one panel, and the same conditions in each, in the same order")
    figure, axes = plt.subplots(
        1, len(values), figsize=(1.5 + 3.4 * len(values), 2.9), sharex=True, sharey=True, squeeze=False
    )
    for axis, (panel, by_condition) in zip(axes[0], values.items(), strict=True):
        names = list(by_condition)[::-1]
        means = torch.tensor([by_condition[name].mean for name in names])
        ends = torch.tensor([[by_condition[name].low, by_condition[name].high] for name in names])
        reach = torch.stack([means - ends[:, 0], ends[:, 1] - means]).clamp(min=0)
        axis.errorbar(
            means.numpy(), range(len(names)), xerr=reach.numpy(), fmt="o", capsize=3, color="#0072B2"
        )
        if "random" in by_condition:
            axis.axvline(by_condition["random"].mean, color="0.5", linestyle="--", linewidth=1, zorder=0)
        if chance is not None:
            axis.axvline(chance, color="0.5", linestyle=":", linewidth=1, zorder=0)
        axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axis.set(title=panel, xlabel="Δ, mean share of signs that differ", ylim=(-0.6, len(names) - 0.4))
    return figure


def spoken(values: Mapping[str, Mapping[str, Delta | Interval]]) -> str:
    """What :func:`deltas` shows, for readers who cannot see it: Δ with its interval, by panel and condition.

    Args:
        values: by panel, then condition.

    Returns:
        A sentence, such as "Δ in layer 5: nose 0.40 [0.38, 0.42], random 0.47 [0.46, 0.48]; in layer 7: …".
    """
    panels = []
    for panel, by_condition in values.items():
        names = [
            f"{name.replace('_', ' ')} {value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"
            for name, value in by_condition.items()
        ]
        panels.append(f"{panel}: {', '.join(names)}")
    return f"Δ in {'; in '.join(panels)}."


def marked(
    image: Tensor, points: Mapping[str, tuple[float, float]], row: float, column: float, part: str
) -> Figure:
    """A picture with the parts marked so far and a crosshair where the next mark would be.

    Args:
        image: uint8, shape (3, H, W).
        points: by part, (row, column) as shares of the sides, 0–1.
        row: of the crosshair, 0–1 from the top.
        column: of the crosshair, 0–1 from the left.
        part: what the crosshair is to mark.
    """
    height, width = image.shape[1:]
    figure, axis = plt.subplots(figsize=(4 * min(1.3, width / height), 4.2))
    axis.imshow(as_image(image))
    for colour, (name, (down, across)) in zip(_colours(len(points)), points.items(), strict=True):
        axis.plot(
            across * width - 0.5,
            down * height - 0.5,
            "o",
            color=colour,
            markeredgecolor="white",
            markersize=9,
        )
        axis.annotate(
            name.replace("_", " "), (across * width, down * height), xytext=(8, 4), textcoords="offset points",
            color="white", fontsize=9, bbox={"facecolor": "black", "alpha": 0.6, "pad": 1.5, "edgecolor": "none"},
        )  # fmt: skip
    for colour, line in (("white", 2.5), ("black", 1)):
        axis.axhline(row * height - 0.5, color=colour, linewidth=line)
        axis.axvline(column * width - 0.5, color=colour, linewidth=line)
    axis.set_title(f"crosshair: {part.replace('_', ' ')}")
    axis.axis("off")
    return figure


def _colours(count: int) -> Sequence[str]:
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    return [colours[i % len(colours)] for i in range(count)]
