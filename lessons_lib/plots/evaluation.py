"""Figures of the evaluation of explanations: maps side by side, a scoreboard, curves, and the randomisation check."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.evaluation import Curve, Randomisation, ranking
from lessons_lib.plots import ACTIVATION, as_image
from lessons_lib.statistics import Interval

_STYLES = ("o-", "s--", "D-.", "^:", "v-", "P--", "X-.", "*:")


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


def curves(groups: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Mean probability of the target as pixels go or come back: a panel for each group, a line for each method.

    Args:
        groups: by title ("deletion", "insertion"), then method.
    """
    figure, axes = plt.subplots(
        1, len(groups), figsize=(4.2 * len(groups) + 1.5, 3.3), sharey=True, squeeze=False
    )
    for axis, (title, by_method) in zip(axes[0], groups.items(), strict=True):
        for (method, curve), style in zip(by_method.items(), itertools.cycle(_STYLES), strict=False):
            axis.plot(
                curve.shares.numpy(),
                curve.probabilities.mean(0).numpy(),
                style,
                markersize=4,
                markevery=4,
                label=method,
            )
        axis.set(title=title, xlabel="share of pixels changed", ylim=(-0.02, 1.02))
    axes[0, 0].set_ylabel("probability of the class")
    axes[0, -1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def removal(
    image: Tensor,
    map: Tensor,
    curve: Curve,
    step: int,
    *,
    mask: Tensor | None = None,
    title: str = "",
    seed: int = 0,
) -> Figure:
    """A picture, a map of it, the picture without the pixels that the map calls most important, and what that costs.

    Args:
        image: uint8, shape (3, H, W).
        map: shape (H, W).
        curve: the deletion curve of this map, of one picture.
        step: which of the curve's shares to show.
        mask: bool, shape (H, W): where the thing is, drawn as an outline; or none.
        title: what the network says of the whole picture.
        seed: decides between pixels that the map calls equally important, as in the curve.

    Raises:
        ValueError: if the shapes do not fit, the curve is of several pictures, or it has no such step.
    """
    if map.shape != image.shape[1:] or len(curve.probabilities) != 1 or not 0 <= step < len(curve.shares):
        raise ValueError(
            f"a picture {tuple(image.shape)} needs a map of its size, not {tuple(map.shape)}, a curve of one picture "
            f"and a step in 0–{len(curve.shares) - 1}, not {step}"
        )
    share, probability = float(curve.shares[step]), float(curve.probabilities[0, step])
    gone = ranking(map[None], seed=seed)[0] < round(share * map.numel())
    left = torch.where(gone, torch.tensor(128, dtype=torch.uint8), image)
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.7), width_ratios=(1, 1, 1, 1.3))
    positive = map.clamp(min=0).numpy()
    axes[0].imshow(as_image(image))
    axes[1].imshow(positive, cmap=ACTIVATION, vmin=0, vmax=max(float(positive.max()), 1e-12))
    axes[2].imshow(as_image(left))
    for axis, name in zip(axes, (title, "the map", f"without its top {share:.0%}"), strict=False):
        axis.set(title=name, xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        if mask is not None and mask.any() and not mask.all():
            axis.contour(mask.float().numpy(), levels=[0.5], colors="white", linewidths=1.2)
    axes[3].plot(curve.shares.numpy(), curve.probabilities[0].numpy())
    axes[3].plot(share, probability, "o", color="#D55E00")
    axes[3].set(
        title=f"probability now {probability:.2f}",
        xlabel="share of pixels taken away",
        ylabel="probability of the class",
        ylim=(-0.02, 1.02),
    )
    return figure


def randomisation(checks: Mapping[str, Randomisation]) -> Figure:
    """How like a map stays to itself while layers lose their weights: a line for each method.

    Args:
        checks: by method, all with the same layers.

    Raises:
        ValueError: if there are none, or their layers differ.
    """
    if len({check.layers for check in checks.values()}) != 1:
        raise ValueError("need at least one check, all with the same layers")
    layers = next(iter(checks.values())).layers
    figure, axis = plt.subplots(figsize=(7, 3.5))
    for (method, check), style in zip(checks.items(), itertools.cycle(_STYLES), strict=False):
        means = np.nanmean(check.rank_correlation.numpy(), axis=1)
        axis.plot(range(len(layers) + 1), [1, *means], style, markersize=4, label=method)
    axis.set_xticks(range(len(layers) + 1), ["none", *layers], rotation=45, ha="right", fontsize=8)
    axis.set(xlabel="random from the top down to", ylabel="rank correlation with\nthe trained network's map")
    axis.axhline(0, color="0.85", linewidth=1, zorder=0)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
