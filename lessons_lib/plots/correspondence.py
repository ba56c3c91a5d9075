"""Figures of hidden parts, of the sign patterns they leave, and of Δ."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

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


def sign_patterns(hidden: Mapping[str, Tensor], signs: Mapping[str, Tensor], xlabel: str) -> Figure:
    """Occluded pictures, each beside the signs of the changes it causes: a panel for each condition.

    Args:
        hidden: by condition, the occluded pictures, uint8, shape (N, 3, H, W), N at most a dozen.
        signs: by condition −1, 0 or 1 for each picture and feature, shape (N, features).
        xlabel: which features, in which order.

    Raises:
        ValueError: if there are not as many pictures as rows of signs.
    """
    if any(len(signs[condition]) != len(stack) for condition, stack in hidden.items()):
        raise ValueError("need a row of signs for each picture of each condition")
    count = max(map(len, hidden.values()))
    figure = plt.figure(figsize=(10.5, len(hidden) * (0.42 * count + 0.4) + 0.3))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.01, wspace=0, hspace=0)
    grid = figure.add_gridspec(len(hidden) * count, 2, width_ratios=(0.5, 10))
    colours = ListedColormap(plt.get_cmap(SIGNED)((0.15, 0.5, 0.85)))
    axes = []
    for panel, (condition, stack) in enumerate(hidden.items()):
        for i, picture in enumerate(stack):
            axis = figure.add_subplot(grid[panel * count + i, 0])
            axis.imshow(as_image(picture))
            axis.axis("off")
        bars = figure.add_subplot(grid[panel * count : (panel + 1) * count, 1])
        drawn = bars.imshow(
            signs[condition].numpy(), cmap=colours, vmin=-1, vmax=1, aspect="auto", interpolation="nearest"
        )
        bars.set_yticks([i + 0.5 for i in range(count - 1)], minor=True)
        bars.set(yticks=[], xticks=[], title=f"{condition.replace('_', ' ')} hidden")
        bars.grid(which="minor", axis="y", color="white", linewidth=3)
        bars.tick_params(which="minor", length=0)
        axes.append(bars)
    axes[-1].set_xlabel(xlabel)
    legend = figure.colorbar(drawn, ax=axes, ticks=[-2 / 3, 0, 2 / 3], shrink=0.6, pad=0.01)
    legend.ax.set_yticklabels(["grew", "same", "shrank"], fontsize=8)
    return figure


def deltas(values: Mapping[str, Mapping[str, Interval]], *, chance: float | None = None) -> Figure:
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
