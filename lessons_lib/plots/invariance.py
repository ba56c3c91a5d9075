"""Figures of transformed pictures and of how far their features move.

What is *measured* of a transformation is a table for each name: how far a layer's features moved, in units of the
distance between two pictures, and under ``ANSWER`` the probability of the right answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import MultipleLocator
from torch import Tensor

from lessons_lib import plots
from lessons_lib.plots import BARE, as_image
from lessons_lib.statistics import bootstrap_interval

ANSWER = "probability"  # what is no distance
"""The name of the curve that is a probability and no distance."""
NEUTRAL = {"shift": 0.0, "scale": 1.0, "rotation": 0.0}  # leaves a picture as it is
"""The amount of each transformation that leaves a picture as it is."""
_LABELS = {"shift": "shift (pixels down)", "scale": "scale (times)", "rotation": "rotation (degrees)"}
_INSET = 80  # pixels of a picture on a dial


def curves(amounts: Mapping[str, Sequence[float]], measured: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """Figure 5 of the paper: distances above, the right answer's probability below, a column a transformation.

    A thick line is the mean over pictures with its 95 % interval, a thin one a picture.

    Args:
        amounts: by transformation ("shift", "scale" or "rotation").
        measured: by transformation and name, shape (N, A).
    """
    figure, axes = plt.subplots(2, len(amounts), figsize=(3.3 * len(amounts), 5), sharey="row", squeeze=False)
    for (kind, steps), (above, below) in zip(amounts.items(), axes.T, strict=True):
        for name, table, marker in plots.marked(measured[kind]):
            found = [bootstrap_interval(column) for column in table.T]
            if name == ANSWER:
                below.plot(steps, table.T.numpy(), color="0.75", linewidth=0.7)
                plots.mean_line(below, steps, found, color="black", label="mean")
            else:
                plots.mean_line(above, steps, found, label=name, marker=marker)
        above.set(title=kind, ylim=(0, 1.1))
        below.set(ylim=(0, 1.02))
        _name_amounts(kind, above, below)
        above.set_xlabel("")
    axes[0, 0].set_ylabel("distance\n(1: another picture)")
    axes[1, 0].set_ylabel("probability of\nthe right answer")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=9)
    return figure


def _name_amounts(kind: str, *axes: Axes) -> None:
    for axis in axes:
        axis.set_xlabel(_LABELS[kind])
        if kind == "rotation":
            axis.xaxis.set_major_locator(MultipleLocator(90))


def clocks(views: Tensor, angles: Sequence[float], probabilities: Tensor, titles: Sequence[str]) -> Figure:
    """Turned pictures around a circle; the curve inside is the right answer's probability at each angle.

    Args:
        views: uint8, shape (N, A, 3, S, S); at most twelve angles are shown as pictures.
        angles: A of them in degrees, counter-clockwise, ascending from 0.
        probabilities: shape (N, A), 0–1.
        titles: one for each picture.
    """
    count = len(views)
    wide, high, dial = 3.6, 3.9, 2.25  # inches: of a dial with its pictures, and of the dial alone
    figure = plt.figure(figsize=(wide * count, high), layout="none")
    every = math.ceil(len(angles) / 12)
    # no finer than the page shows: nine photographs at full size would weigh a megabyte
    size = min(_INSET, views.shape[-1])
    small = F.interpolate(views[:, ::every].flatten(0, 1).float(), (size, size), mode="area").round().byte()
    insets = small.unflatten(0, (count, -1))
    for i in range(count):
        left, bottom = (i + (1 - dial / wide) / 2) / count, 0.7 / high
        place = left, bottom, dial / wide / count, dial / high
        axis = cast(PolarAxes, figure.add_axes(place, projection="polar"))
        axis.set_theta_zero_location("N")
        turned = np.deg2rad([*angles, angles[0] + 360])
        values = [*probabilities[i].tolist(), probabilities[i, 0].item()]
        axis.plot(turned, values, color="#0072B2", linewidth=2)
        axis.fill(turned, values, color="#0072B2", alpha=0.25)
        axis.set(rlim=(0, 1), rticks=[0.5], xticks=np.deg2rad(angles[::every]), xticklabels=[])
        axis.set_rlabel_position(200)
        axis.tick_params(labelsize=8, colors="0.35")
        axis.set_title(titles[i], fontsize=11, pad=6)
        for angle, picture in zip(angles[::every], insets[i], strict=True):
            turn, reach, side = math.radians(angle), 0.66, 0.24
            x, y = 0.5 - reach * math.sin(turn), 0.5 + reach * math.cos(turn)
            inset = axis.inset_axes((x - side / 2, y - side / 2, side, side), **BARE)
            inset.imshow(as_image(picture))
    return figure


def transformation(
    original: Tensor,
    view: Tensor,
    kind: str,
    amounts: Sequence[float],
    measured: Mapping[str, Tensor],
    step: int,
) -> Figure:
    """One transformed picture beside the original, and where it stands on its curves.

    Args:
        original: uint8, shape (3, S, S).
        view: the transformed picture, same shape.
        kind: the transformation.
        amounts: A of them.
        measured: of this picture by name, shape (A,).
        step: which amount ``view`` shows, 0 to A − 1.
    """
    ratios = (1, 1, 1.4, 1.4)
    figure, (left, right, distance, share) = plt.subplots(1, 4, figsize=(10.5, 2.7), width_ratios=ratios)
    for axis, image, title in ((left, original, "untransformed"), (right, view, f"{kind} {amounts[step]:g}")):
        axis.imshow(as_image(image))
        axis.set_title(title)
        axis.axis("off")
    for name, values in measured.items():
        axis = share if name == ANSWER else distance
        (line,) = axis.plot(amounts, values.numpy(), color="black" if name == ANSWER else None, label=name)
        axis.plot(amounts[step], values[step].item(), "o", color=line.get_color())
    distance.set(title="distance of features", ylabel="1: another picture")
    distance.set_ylim(bottom=0)
    distance.legend(fontsize=8)
    share.set(title="right answer", ylabel="probability", ylim=(0, 1.02))
    _name_amounts(kind, distance, share)
    return figure


def training_curves(
    amounts: Mapping[str, Sequence[float]], accuracy: Mapping[str, Mapping[str, Tensor]]
) -> Figure:
    """Accuracy by how much the pictures were transformed, a panel a transformation, a line a way of training.

    Args:
        amounts: by transformation.
        accuracy: by transformation, then way of training, shape (seeds, A): a thin line each, their mean thick.
    """
    figure, axes = plots.panels(len(amounts), cell=(4.4, 3.1), sharey=True)
    for axis, (kind, steps) in zip(axes, amounts.items(), strict=True):
        for name, table, marker in plots.marked(accuracy[kind]):
            (line,) = axis.plot(steps, table.mean(0).numpy(), marker=marker, markersize=5, label=name)
            axis.plot(steps, table.T.numpy(), color=line.get_color(), linewidth=0.6, alpha=0.7)
        axis.set(title=f"tested on {kind}", xlabel=_LABELS[kind], xticks=steps, ylim=(0, 1.02))
    axes[0].set_ylabel("accuracy")
    axes[0].legend(fontsize=8, title="trained on", title_fontsize=8)
    return figure
