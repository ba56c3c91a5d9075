"""Figures of hidden parts, and of Δ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib import plots
from lessons_lib.plots import as_image
from lessons_lib.statistics import Interval


def hidden_parts(images: Tensor, hidden: Mapping[str, Tensor]) -> Figure:
    """Pictures and their occluded copies, a row for each picture: the paper's figure of hidden parts.

    Args:
        images: uint8, shape (N, 3, H, W).
        hidden: by condition, the same pictures occluded.
    """
    columns = {"original": images, **hidden}
    side = min(1.5, 11 / len(columns))
    shown = [as_image(stack[i]) for i in range(len(images)) for stack in columns.values()]
    heads = [condition.replace("_", " ") for condition in columns]
    figure, _ = plots.picture_grid(shown, heads=heads, cell=(side, side), margin=(0, 0.3))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    return figure


def deltas(values: Mapping[str, Mapping[str, Interval]], *, chance: float | None = None) -> Figure:
    """Δ by condition with its interval over pictures, a panel for each layer or network.

    Args:
        values: by panel, then condition; the control is drawn as a dashed line if it is called "random".
        chance: a value to draw as a dotted line.

    Raises:
        ValueError: if there are no panels, or they have different conditions.
    """
    names = plots.same_names(values)[::-1]
    figure, axes = plots.panels(len(values), cell=(3.4, 2.9), margin=(1.5, 0), sharex=True, sharey=True)
    thin: dict[str, Any] = {"color": "0.5", "linewidth": 1, "zorder": 0}
    for axis, (panel, by_condition) in zip(axes, values.items(), strict=True):
        means, reach = plots.with_reach([by_condition[name] for name in names])
        axis.errorbar(means, range(len(names)), xerr=reach, fmt="o", capsize=3, color="#0072B2")
        if "random" in by_condition:
            axis.axvline(by_condition["random"].mean, linestyle="--", label="random", **thin)
        if chance is not None:
            axis.axvline(chance, linestyle=":", label="chance", **thin)
        axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axis.set(title=panel, xlabel="Δ, mean share of signs that differ", ylim=(-0.6, len(names) - 0.4))
    if lines := axes[0].get_legend_handles_labels()[0]:
        figure.legend(handles=lines, loc="outside upper right", ncols=2, fontsize=9)
    return figure
