"""Figures of the evaluation of explanations: maps side by side, and a scoreboard."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib import plots
from lessons_lib.plots import ACTIVATION, as_image
from lessons_lib.statistics import Interval


def side_by_side(images: Tensor, maps: Mapping[str, Tensor], names: Sequence[str] = ()) -> Figure:
    """Pictures and what each method says about them: a row for each picture, a column for each method.

    Each map has its own scale, from 0 (what speaks against the class counts as 0) to its greatest value: compare
    places, not brightness.

    Args:
        images: uint8, shape (N, 3, H, W).
        maps: by method, shape (N, h, w).
        names: of the rows, or none.

    Raises:
        ValueError: if the maps are not as many as the pictures.
    """
    if any(len(stack) != len(images) for stack in maps.values()):
        raise ValueError(f"{len(images)} pictures need as many maps of each method")
    shown = []
    for i, image in enumerate(images):
        shown += [as_image(image), *(stack[i].clamp(min=0).numpy() for stack in maps.values())]
    heads = [title.replace(" ", "\n", 1) for title in ("picture", *maps)]
    look = {"cmap": ACTIVATION, "vmin": 0}
    figure, _ = plots.picture_grid(
        shown, heads=heads, names=names, fontsize=8, look=look, cell=(1.25, 1.25), margin=(0, 0.4)
    )
    return figure


def scoreboard(
    scores: Mapping[str, Mapping[str, Interval]],
    *,
    baselines: Collection[str] = (),
    chance: Mapping[str, float] | None = None,
    smaller_is_better: Collection[str] = (),
    controls: Collection[str] = (),
) -> Figure:
    """A panel for each metric, a line for each method: its mean and its confidence interval.

    Methods stand in the order of the first metric, the best on top.

    Args:
        scores: by metric, then method; each metric has the same methods.
        baselines: methods that know nothing of the network, drawn as grey squares.
        chance: by metric, what a map scores that is the same everywhere: a dashed line.
        smaller_is_better: metrics of which a small value is good.
        controls: metrics that should come out near 0. All panels then have one scale, to compare them by.

    Raises:
        ValueError: if there are no scores, or metrics have different methods.
    """
    plots.same_names(scores)
    first, leading = next(iter(scores.items()))
    methods = sorted(leading, key=lambda m: leading[m].mean, reverse=first not in smaller_is_better)
    cell = 2.9, 0.34 * len(methods) + 1.1
    figure, axes = plots.panels(len(scores), cell=cell, margin=(1.2, 0), sharex=bool(controls), sharey=True)
    for axis, (metric, by_method) in zip(axes, scores.items(), strict=True):
        for place, method in enumerate(methods):
            score = by_method[method]
            colour, marker = ("0.45", "s") if method in baselines else ("#0072B2", "o")
            axis.plot([score.low, score.high], [place, place], color=colour, linewidth=2)
            axis.plot(score.mean, place, marker, color=colour)
        if chance and metric in chance:
            axis.axvline(chance[metric], color="#D55E00", linestyle="--", linewidth=1)
        direction = "smaller is better" if metric in smaller_is_better else "larger is better"
        axis.set(title=metric, xlabel="control: near 0 expected" if metric in controls else direction)
        axis.grid(axis="y", color="0.92")
    axes[0].set_yticks(range(len(methods)), methods)
    axes[0].invert_yaxis()
    return figure
