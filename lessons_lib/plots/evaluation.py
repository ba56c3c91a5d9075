"""Figures of the evaluation of explanations: maps side by side, and a scoreboard."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

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
        ValueError: if the maps or names are not as many as the pictures.
    """
    if any(len(stack) != len(images) for stack in maps.values()) or len(names) not in {0, len(images)}:
        raise ValueError(
            f"{len(images)} pictures need as many maps of each method, and as many names or none"
        )
    count = len(images)
    figure, axes = plt.subplots(
        count, 1 + len(maps), figsize=(1.25 * (1 + len(maps)), 1.25 * count + 0.4), squeeze=False
    )
    for i, line in enumerate(axes):
        line[0].imshow(as_image(images[i]))
        for axis, stack in zip(line[1:], maps.values(), strict=True):
            positive = stack[i].clamp(min=0).numpy()
            axis.imshow(positive, cmap=ACTIVATION, vmin=0, vmax=max(float(positive.max()), 1e-12))
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        if names:
            line[0].set_ylabel(names[i], fontsize=9)
    for axis, title in zip(axes[0], ("picture", *maps), strict=True):
        axis.set_title(title.replace(" ", "\n", 1), fontsize=8)
    return figure


def scoreboard(
    scores: Mapping[str, Mapping[str, Interval]],
    *,
    baselines: Collection[str] = (),
    chance: Mapping[str, float] | None = None,
    smaller_is_better: Collection[str] = (),
) -> Figure:
    """A panel for each metric, a line for each method: its mean and its confidence interval.

    Methods stand in the order of the first metric, the best on top.

    Args:
        scores: by metric, then method; each metric has the same methods.
        baselines: methods that know nothing of the network, drawn as grey squares.
        chance: by metric, what a map scores that is the same everywhere: a dashed line.
        smaller_is_better: metrics of which a small value is good.

    Raises:
        ValueError: if there are no scores, or metrics have different methods.
    """
    if not scores or len({frozenset(by_method) for by_method in scores.values()}) != 1:
        raise ValueError("each metric needs a score of each method, and there must be at least one metric")
    first = next(iter(scores))
    sign = 1 if first in smaller_is_better else -1
    methods = sorted(scores[first], key=lambda method: sign * scores[first][method].mean)
    figure, axes = plt.subplots(
        1,
        len(scores),
        figsize=(2.9 * len(scores) + 1.2, 0.34 * len(methods) + 1.1),
        sharey=True,
        squeeze=False,
    )
    for axis, (metric, by_method) in zip(axes[0], scores.items(), strict=True):
        for place, method in enumerate(methods):
            score = by_method[method]
            colour, marker = ("0.45", "s") if method in baselines else ("#0072B2", "o")
            axis.plot([score.low, score.high], [place, place], color=colour, linewidth=2)
            axis.plot(score.mean, place, marker, color=colour)
        if chance and metric in chance:
            axis.axvline(chance[metric], color="#D55E00", linestyle="--", linewidth=1)
        direction = "smaller is better" if metric in smaller_is_better else "larger is better"
        axis.set(title=metric, xlabel=direction)
        axis.grid(axis="y", color="0.92")
    axes[0, 0].set_yticks(range(len(methods)), methods)
    axes[0, 0].invert_yaxis()
    return figure
