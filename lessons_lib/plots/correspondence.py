"""Figures of hidden parts, and of Δ."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.plots import as_image
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
            axis.axvline(
                by_condition["random"].mean,
                color="0.5",
                linestyle="--",
                linewidth=1,
                zorder=0,
                label="random",
            )
        if chance is not None:
            axis.axvline(chance, color="0.5", linestyle=":", linewidth=1, zorder=0, label="chance")
        axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axis.set(title=panel, xlabel="Δ, mean share of signs that differ", ylim=(-0.6, len(names) - 0.4))
    if lines := axes[0, 0].get_legend_handles_labels()[0]:
        figure.legend(handles=lines, loc="outside upper right", ncols=2, fontsize=9)
    return figure
