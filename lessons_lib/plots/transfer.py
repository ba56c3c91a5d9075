"""Figures of transfer learning: which layer serves which target, what is learned and forgotten, and the four cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lessons_lib import plots
from lessons_lib.methods.transfer import Decision, Scores
from lessons_lib.plots import MARKERS
from lessons_lib.statistics import Interval, share_interval, t_interval

_BLUE, _ORANGE, _RED = "#0072B2", "#E69F00", "#D55E00"


def layer_profiles(
    profiles: Mapping[str, Mapping[str, Sequence[float]]], chance: Mapping[str, float]
) -> Figure:
    """Accuracy of linear probes by layer, a panel for each target.

    Args:
        profiles: by target, then layer in the order they run: accuracies (0–1), one for each seed.
        chance: accuracy of a guess, by target.
    """
    figure, axes = plots.panels(len(profiles), cell=(3.2, 3.4), margin=(0.6, 0), sharey=True)
    for axis, (target, by_layer) in zip(axes, profiles.items(), strict=True):
        _line(axis, range(len(by_layer)), [*by_layer.values()], "mean and 95 % interval", MARKERS[0])
        axis.axhline(chance[target], color="0.5", linestyle=":", label="chance")
        axis.set(title=target, xlabel="layer, first to last", ylim=(0, 1.05))
        axis.set_xticks(range(len(by_layer)), list(by_layer), rotation=45, ha="right", fontsize=8)
    axes[0].set_ylabel("accuracy of a probe")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8)
    return figure


def curves(scores: Mapping[str, Scores], chance: Mapping[str, float]) -> Figure:
    """Accuracy by training pictures a class, a panel for each target and a line for each strategy.

    Args:
        scores: by target, strategy and pictures a class: accuracies (0–1), one for each seed.
        chance: accuracy of a guess, by target.
    """
    figure, axes = plots.panels(len(scores), cell=(4.2, 3.6), margin=(0.6, 0), sharey=True)
    for axis, (target, by_strategy) in zip(axes, scores.items(), strict=True):
        for name, by_count, marker in plots.marked(by_strategy):
            _line(axis, [*by_count], [*by_count.values()], name, marker)
        axis.axhline(chance[target], color="0.5", linestyle=":", label="chance")
        counts = sorted({count for by_count in by_strategy.values() for count in by_count})
        axis.set(title=target, xlabel="training pictures a class", xscale="log", ylim=(0, 1.02))
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
    axes[0].set_ylabel("accuracy")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    return figure


def _line(
    axis: Axes, places: Sequence[float], seeds: Sequence[Sequence[float]], label: str, marker: str
) -> None:
    """Means joined by a line, each with the interval over its seeds."""
    means, ends = plots.with_reach([t_interval(values) for values in seeds])
    (line,) = axis.plot(places, means, marker=marker, markersize=5, label=label)
    axis.errorbar(places, means, ends, fmt="none", color=line.get_color(), capsize=3, linewidth=1.5)


def trade_off(
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, old: float, new: float
) -> Figure:
    """What was learned against what was kept, a dot for each training.

    Args:
        points: by setting: accuracy on the new task, and share of the old one kept (both 0–1), one for each seed.
        old: the share that the network had before.
        new: the accuracy on the new task without changing the body.
    """
    figure, axis = plt.subplots(figsize=(6.5, 4.2))
    for name, (learned, kept), marker in plots.marked(points):
        axis.plot(learned, kept, marker, markersize=9, fillstyle="none", markeredgewidth=2, label=name)
    axis.plot(new, old, "kX", markersize=11, label="body unchanged")
    axis.set(
        title="Learned and kept, one mark a training",
        xlabel="accuracy on the new task",
        ylabel="photographs still named right, share",
        xlim=(0, 1.02),
        ylim=(-0.05, 1.05),
    )
    axis.legend(title="learning rate", fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def answers(
    table: Mapping[str, tuple[Sequence[int], int]], quoted: Mapping[str, float], *, title: str
) -> Figure:
    """Accuracies of several ways with 95 % intervals for the number of pictures, beside those somebody else reported.

    Args:
        table: by what was done: pictures right, one count for each seed, and how many pictures there are.
        quoted: accuracies (0–1) reported elsewhere, by the same names; drawn as diamonds.
        title: of the figure.
    """
    figure, axis = plt.subplots(figsize=(8.5, 1.1 + 0.5 * len(table)))
    for place, (name, (rights, of)) in enumerate(table.items()):
        mean = sum(rights) / len(rights) / of
        interval = share_interval(sum(rights) / len(rights), of)
        axis.hlines(place, interval.low, interval.high, _BLUE, linewidth=5, alpha=0.35)
        axis.plot([right / of for right in rights], [place] * len(rights), "|", color="0.3", markersize=12)
        axis.plot(mean, place, "o", color=_BLUE, markersize=8, label="mean, 95 % interval")
        if name in quoted:
            axis.plot(quoted[name], place, "D", color=_RED, markersize=7, label="the lecture's ResNet-50")
    _name_rows(axis, list(table))
    axis.set(title=title, xlabel="share of the pictures right")
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower right", ncols=2, fontsize=8)
    return figure


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    """Name what is drawn at 0, 1, …, the first on top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(axis="x", color="0.9")


def four_cases(cases: Mapping[str, tuple[Mapping[str, Sequence[float]], str, str, Interval]]) -> Figure:
    """The four cases of an advice: all strategies in each, with the two that the advice compares in colour.

    Args:
        cases: by title: accuracies (0–1) by strategy, one for each seed; the advised strategy, the one it is advised
            over, and the difference of the two.
    """
    figure, axes = plots.panels(len(cases), columns=2, cell=(5.2, 2.5), sharex=True)
    for axis, (title, (scores, advised, other, lead)) in zip(axes, cases.items(), strict=True):
        for place, (name, seeds) in enumerate(scores.items()):
            colour = {advised: _BLUE, other: _ORANGE}.get(name, "0.6")
            interval = t_interval(seeds)
            axis.hlines(place, interval.low, interval.high, colour, linewidth=5, alpha=0.4)
            axis.plot(seeds, [place] * len(seeds), "|", color="0.25", markersize=10)
            axis.plot(interval.mean, place, "o", color=colour, markersize=8)
        notes = {advised: " (advised)", other: " (instead of)"}
        _name_rows(axis, [name + notes.get(name, "") for name in scores])
        axis.set_title(f"{title}\nadvised − instead of: {lead}", fontsize=10)
        axis.set_xlim(0, 1.02)
    figure.supxlabel("accuracy, a tick for each seed, band: 95 % interval of the mean", fontsize=9)
    return figure


def decision(found: Decision) -> Figure:
    """The measured evidence for one case, the best strategy first; what is surely worse than it is pale.

    Args:
        found: what ``lessons_lib.methods.transfer.decide`` gave.
    """
    figure, axis = plt.subplots(figsize=(8.5, 2.9))
    for place, (name, interval) in enumerate(found.accuracies.items()):
        alpha = 1 if name in found.ties else 0.35
        axis.hlines(place, interval.low, interval.high, _BLUE, linewidth=5, alpha=alpha / 2)
        axis.plot(interval.mean, place, "o", color=_BLUE, markersize=9, alpha=alpha)
        axis.text(interval.mean, place - 0.22, f"{interval.mean:.2f}", fontsize=9, ha="center")
    axis.set_yticks(range(len(found.accuracies)), list(found.accuracies))
    axis.set_ylim(len(found.accuracies) - 0.5, -0.6)
    axis.set(
        title=f"{found.target}, measured at {found.measured_at} pictures a class\n(pale: surely below the best)",
        xlabel="accuracy, band: 95 % interval over seeds",
        xlim=(0, 1.02),
    )
    return figure
