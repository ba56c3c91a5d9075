"""Figures of transfer learning: which layer serves which target, strategies against each other, and forgetting."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.transfer import STRATEGIES, Decision, Scores, Similarity, Verdict
from lessons_lib.plots import as_image
from lessons_lib.statistics import Interval, t_interval

_COLOURS = dict(zip(STRATEGIES, ("#0072B2", "#56B4E9", "#E69F00", "#000000"), strict=True))
_KINDS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
_MARKERS = dict(zip(STRATEGIES, "osD^", strict=True))


def layer_profiles(
    profiles: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], chance: Mapping[str, float]
) -> Figure:
    """Accuracy of linear probes by layer, a panel for each target.

    Args:
        profiles: by target, kind of probe, then layer in the order they run: accuracies (0–1), one for each seed.
        chance: accuracy of a guess, by target.

    Raises:
        ValueError: if there are no targets.
    """
    if not profiles:
        raise ValueError("there are no targets to draw")
    figure, axes = plt.subplots(
        1, len(profiles), figsize=(0.6 + 3.2 * len(profiles), 3.2), sharey=True, squeeze=False
    )
    for axis, (target, kinds) in zip(axes[0], profiles.items(), strict=True):
        for (kind, by_layer), colour, marker in zip(
            kinds.items(), itertools.cycle(_KINDS), itertools.cycle("osD^v"), strict=False
        ):
            layers = list(by_layer)
            intervals = [t_interval(values) for values in by_layer.values()]
            _line(axis, range(len(layers)), intervals, colour=colour, marker=marker, label=kind)
        axis.axhline(chance[target], color="0.5", linestyle=":", label="chance")
        best = max(by_layer, key=lambda name: sum(by_layer[name]))
        axis.axvline(layers.index(best), color="0.85", linewidth=8, zorder=0)
        axis.set(title=target, xlabel="layer, first to last", ylim=(0, 1.02))
        axis.set_xticks(range(len(layers)), layers, rotation=45, ha="right", fontsize=8)
    axes[0, 0].set_ylabel("share of test pictures right")
    axes[0, 0].legend(fontsize=8)
    return figure


def curves(scores: Mapping[str, Scores], chance: Mapping[str, float] | None = None) -> Figure:
    """Accuracy by training pictures a class, a panel for each target and a line for each strategy.

    Args:
        scores: by target, what :func:`lessons_lib.methods.transfer.learning_curves` gave.
        chance: accuracy of a guess, by target.

    Raises:
        ValueError: if there are no targets.
    """
    if not scores:
        raise ValueError("there are no targets to draw")
    figure, axes = plt.subplots(
        1, len(scores), figsize=(0.8 + 4 * len(scores), 3.6), sharey=True, squeeze=False
    )
    for axis, (target, by_strategy) in zip(axes[0], scores.items(), strict=True):
        for name, curve in by_strategy.items():
            intervals = [t_interval(values) for values in curve.values()]
            colour, marker = _COLOURS.get(name, "#CC79A7"), _MARKERS.get(name, "v")
            _line(axis, list(curve), intervals, colour=colour, marker=marker, label=name)
        if chance:
            axis.axhline(chance[target], color="0.5", linestyle=":", label="chance")
        sizes = sorted({size for curve in by_strategy.values() for size in curve})
        axis.set(title=target, xlabel="training pictures a class", xscale="log", ylim=(0, 1.02))
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("share of test pictures right")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    return figure


def _line(
    axis: Axes,
    places: Sequence[float],
    intervals: Sequence[Interval],
    *,
    colour: str,
    marker: str,
    label: str,
) -> None:
    """Means joined by a line, with the interval as a band."""
    axis.plot(places, [i.mean for i in intervals], marker=marker, markersize=5, color=colour, label=label)
    lows, highs = [max(0, i.low) for i in intervals], [min(1, i.high) for i in intervals]
    axis.fill_between(places, lows, highs, color=colour, alpha=0.15, linewidth=0)


def four_cases(
    scores: Mapping[Similarity, Scores],
    sizes: Mapping[str, int],
    verdicts: Mapping[tuple[str, str], Verdict],
    examples: Mapping[Similarity, Tensor],
) -> Figure:
    """The four cases of the usual advice: a row for each target, a panel for each size, a bar for each strategy.

    The bar that was advised is hatched; dots are single seeds, whiskers 95 % intervals.

    Args:
        scores: by similarity of the target.
        sizes: pictures a class, by the name of the size ("small", "large").
        verdicts: by size and similarity.
        examples: a few pictures of each target, uint8, shape (N, 3, H, W).
    """
    figure = plt.figure(figsize=(10.5, 2.9 * len(scores)))
    grid = figure.add_gridspec(len(scores), 1 + len(sizes), width_ratios=(1, *[2.1] * len(sizes)))
    for row, (similarity, curves_of) in enumerate(scores.items()):
        _examples(figure.add_subplot(grid[row, 0]), examples[similarity], f"{similarity} target")
        for column, (size, count) in enumerate(sizes.items(), start=1):
            axis = figure.add_subplot(grid[row, column])
            verdict = verdicts[size, similarity]
            here = {name: curve[count] for name, curve in curves_of.items()}
            _bars(axis, here, verdict.advised)
            said = "is undecided" if verdict.outcome == "undecided" else verdict.outcome
            axis.set_title(f"{size}: {count} a class; the advice {said}")
            axis.set(ylim=(0, 1.08))
            if column == 1:
                axis.set_ylabel("share right")
    return figure


def _examples(axis: Axes, images: Tensor, title: str) -> None:
    """Nine pictures in a square."""
    nine = images[:9]
    rows = [_row(nine[i : i + 3]) for i in range(0, len(nine) - len(nine) % 3, 3)]
    axis.imshow(as_image(_stacked(rows)))
    axis.set_title(title)
    axis.axis("off")


def _row(images: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) side by side, (3, H, N·W)."""
    return images.permute(1, 2, 0, 3).flatten(2)


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    height = sum(row.shape[1] for row in rows)
    canvas = rows[0].new_empty(3, height, rows[0].shape[2])
    top = 0
    for row in rows:
        canvas[:, top : top + row.shape[1]] = row
        top += row.shape[1]
    return canvas


def _bars(axis: Axes, values: Mapping[str, Sequence[float]], advised: str) -> None:
    """A bar with interval and dots for each strategy."""
    for place, (name, seeds) in enumerate(values.items()):
        interval = t_interval(seeds)
        chosen = name == advised
        axis.bar(
            place,
            interval.mean,
            color=_COLOURS.get(name, "#CC79A7"),
            alpha=0.85,
            hatch="//" if chosen else None,
            edgecolor="white",
        )
        low, high = interval.mean - max(0, interval.low), min(1, interval.high) - interval.mean
        axis.errorbar(place, interval.mean, [[low], [high]], color="0.3", capsize=4, linewidth=1.2)
        axis.plot([place + 0.22] * len(seeds), seeds, "o", color="0.3", markeredgecolor="white", markersize=5)
    axis.set_xticks(range(len(values)), [_two_lines(name, name == advised) for name in values], fontsize=8)


def _two_lines(name: str, advised: bool) -> str:
    words = name.split()
    half = (len(words) + 1) // 2
    lines = " ".join(words[:half]) + "\n" + " ".join(words[half:])
    return f"{lines}\n(advised)" if advised else lines


def forgetting(
    learned: Mapping[str, Mapping[int, float]],
    kept: Mapping[str, Mapping[int, float]],
    *,
    kept_name: str = "share of old answers unchanged",
) -> Figure:
    """What is learned and what is forgotten, by epoch, a line for each learning rate.

    Args:
        learned: accuracy on the new task (0–1), by learning rate and epoch.
        kept: share of the old answers that stay (0–1), likewise.
        kept_name: what that is.

    Raises:
        ValueError: if the two were not measured at the same learning rates.
    """
    if not learned or list(learned) != list(kept):
        raise ValueError(f"need both for the same learning rates, not {list(learned)} and {list(kept)}")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), sharey=True)
    panels = (
        ("Learned: the new task", "share of new pictures right", learned),
        ("Kept: the old answers", kept_name, kept),
    )
    colours = plt.get_cmap("viridis")([0.85 * i / max(len(learned) - 1, 1) for i in range(len(learned))])
    for axis, (title, unit, lines) in zip(axes, panels, strict=True):
        for (rate, by_epoch), colour, marker in zip(
            lines.items(), colours, itertools.cycle("osD^v<>"), strict=False
        ):
            axis.plot(list(by_epoch), list(by_epoch.values()), marker=marker, color=colour, label=rate)
        axis.set(title=title, xlabel="epoch", ylabel=unit, ylim=(0, 1.03))
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(title="learning rate", fontsize=8)
    return figure


def answers(
    table: Mapping[str, Interval | float], quoted: Mapping[str, float], *, title: str, chance: float
) -> Figure:
    """Accuracies of several ways as horizontal bars, beside those that somebody else reported.

    Args:
        table: accuracy (0–1), with an interval where there is one, by what was done.
        quoted: accuracies reported elsewhere, by the same names; drawn as diamonds.
        title: of the figure.
        chance: accuracy of a guess.
    """
    figure, axis = plt.subplots(figsize=(8.5, 0.9 + 0.5 * len(table)))
    names = list(table)
    for place, name in enumerate(names):
        value = table[name]
        mean = value.mean if isinstance(value, Interval) else value
        axis.barh(place, mean, color="#0072B2", alpha=0.85)
        if isinstance(value, Interval):
            axis.plot([max(0, value.low), min(1, value.high)], [place, place], color="0.2", linewidth=1.5)
        axis.text(0.01, place, f"{mean:.3f}", color="0.1", va="center", fontsize=9, bbox=_WHITE_BOX)
        if name in quoted:
            axis.plot(quoted[name], place, "D", color="#D55E00", label="the lecture's ResNet-50")
    axis.axvline(chance, color="0.5", linestyle=":", label="chance")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(title=title, xlabel="share of pictures right", xlim=(0, 1.02))
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower right", ncols=2, fontsize=8)
    return figure


def decision(found: Decision) -> Figure:
    """The measured evidence for one case, best strategy first; the one usually advised is hatched.

    Args:
        found: what :func:`lessons_lib.methods.transfer.decide` gave.
    """
    figure, axis = plt.subplots(figsize=(8.5, 2.9))
    for place, (name, interval) in enumerate(found.accuracies.items()):
        axis.barh(
            place,
            interval.mean,
            color=_COLOURS.get(name, "#CC79A7"),
            alpha=0.85 if name in found.ties else 0.35,
            hatch="//" if name == found.advised else None,
            edgecolor="white",
        )
        axis.plot([max(0, interval.low), min(1, interval.high)], [place, place], color="0.2", linewidth=1.5)
        axis.text(0.01, place, f"{interval.mean:.2f}", color="0.1", va="center", fontsize=9, bbox=_WHITE_BOX)
    names = [f"{name} (advised)" if name == found.advised else name for name in found.accuracies]
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    best = next(iter(found.accuracies))
    axis.set(
        title=f"{found.pictures} pictures a class, {found.similarity} target: {best}\n"
        f"(measured at {found.measured_at} a class; pale bars are clearly worse)",
        xlabel="share of test pictures right",
        xlim=(0, 1.02),
    )
    return figure


_WHITE_BOX = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
