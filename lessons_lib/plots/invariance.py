"""Figures of transformed pictures and of how far their features move."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import cast

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from torch import Tensor

from lessons_lib.methods.invariance import NEUTRAL, UNITS, Invariance, Kind
from lessons_lib.plots import as_image

_LABELS: dict[Kind, str] = {kind: f"{kind} ({unit})" for kind, unit in UNITS.items()}
_WIDEST = 940  # pixels of a strip
_INSET = 80  # pixels of a picture on a dial
_NAMED = 7  # more pictures than there are colours become grey lines without names
_STYLES = ("-", "--", "-.", ":", "-", "--", "-.")


def strip(views: Tensor, amounts: Sequence[float], names: Sequence[str], kind: Kind) -> Figure:
    """Every transformed picture: a row for each picture, a column for each amount.

    Args:
        views: uint8, shape (N, A, 3, S, S).
        amounts: A numbers, the titles of the columns.
        names: N names, left of the rows.
        kind: the transformation.

    Raises:
        ValueError: if names or amounts are not as many as the rows and columns.
    """
    if views.ndim != 5 or views.shape[:2] != (len(names), len(amounts)):
        raise ValueError(
            f"{len(names)} names and {len(amounts)} amounts need views ({len(names)}, {len(amounts)}, 3, S, S), "
            f"not {tuple(views.shape)}"
        )
    count, steps = views.shape[:2]
    pitch = max(8, min(67, _WIDEST // steps))
    side = pitch - 3  # the rest is a white line between two pictures
    small = F.interpolate(views.flatten(0, 1).float(), (side, side), mode="area").round().byte()
    canvas = torch.full((3, count * pitch - 3, steps * pitch - 3), 255, dtype=torch.uint8)
    for i, picture in enumerate(small):
        top, left = i // steps * pitch, i % steps * pitch
        canvas[:, top : top + side, left : left + side] = picture
    figure, axis = plt.subplots(figsize=(pitch * steps / 96 + 1.1, pitch * count / 96 + 0.6))
    axis.imshow(as_image(canvas))
    axis.spines[:].set_visible(False)
    axis.xaxis.tick_top()
    axis.set_xticks([j * pitch + side / 2 for j in range(steps)], [f"{amount:.3g}" for amount in amounts])
    axis.set_yticks([i * pitch + side / 2 for i in range(count)], list(names))
    axis.tick_params(length=0, labelsize=9)
    axis.set_title(_LABELS[kind])
    return figure


def invariance_curves(
    measured: Mapping[Kind, Invariance], names: Sequence[str], layers: Mapping[str, str]
) -> Figure:
    """Figure 5 of the paper: distances at some layers and the true class's probability, a row a transformation.

    A thin line is one picture, the thick black one their mean; more than seven pictures are drawn grey. Distances
    are in units of that between different pictures, on one scale, so that panels can be compared.

    Args:
        measured: by transformation.
        names: of the pictures.
        layers: the layers to show and what to call them.
    """
    figure, axes = plt.subplots(
        len(measured), len(layers) + 1, figsize=(10, 2.1 * len(measured) + 0.5), squeeze=False
    )
    top = max(result.relative(layer).max().item() for result in measured.values() for layer in layers)
    for line, (kind, result) in zip(axes, measured.items(), strict=True):
        for axis, (layer, title) in zip(line, layers.items(), strict=False):
            _lines(axis, result.amounts, result.relative(layer), names)
            axis.set(title=f"{kind}: {title}", ylim=(0, 1.05 * top), ylabel="relative distance")
        _lines(line[-1], result.amounts, result.probabilities, names)
        line[-1].set(
            title=f"{kind}: the true class", ylim=(0, 1.02), yticks=(0, 0.5, 1), ylabel="probability"
        )
        for axis in line[1:-1]:
            axis.set_ylabel("")
        for axis in line:
            axis.set_xlabel(_LABELS[kind])
            axis.axvline(NEUTRAL[kind], color="0.8", linewidth=1, zorder=0)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    return figure


def _lines(axis: Axes, amounts: Sequence[float], values: Tensor, names: Sequence[str]) -> None:
    if len(values) > _NAMED:
        axis.plot(amounts, values.T.numpy(), linewidth=0.5, color="0.6")
    else:
        styles = itertools.islice(itertools.cycle(_STYLES), len(values))
        for name, line, style in zip(names, values, styles, strict=True):
            axis.plot(amounts, line.numpy(), linewidth=1, linestyle=style, label=name)
    axis.plot(amounts, values.mean(0).numpy(), color="black", linewidth=2.5, label="mean")


def clocks(views: Tensor, angles: Sequence[float], probabilities: Tensor, titles: Sequence[str]) -> Figure:
    """Turned pictures around a circle; the curve inside is the true class's probability at each angle.

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
        place = (
            (i + (1 - dial / wide) / 2) / count,
            0.7 / high,
            dial / wide / count,
            dial / high,
        )
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
            turn, reach = math.radians(angle), 0.66
            x, y = 0.5 - reach * math.sin(turn), 0.5 + reach * math.cos(turn)
            side = 0.24
            inset = axis.inset_axes((x - side / 2, y - side / 2, side, side))
            inset.imshow(as_image(picture))
            inset.axis("off")
    return figure


def transformation(
    original: Tensor,
    view: Tensor,
    result: Invariance,
    picture: int,
    step: int,
    kind: Kind,
    layers: Mapping[str, str],
) -> Figure:
    """One transformed picture beside the original, and where it stands on the curves.

    Args:
        original: uint8, shape (3, S, S).
        view: the transformed picture, same shape.
        result: measured on this transformation.
        picture: its row in ``result``.
        step: its column in ``result``.
        kind: the transformation.
        layers: the layers to show and what to call them.

    Raises:
        ValueError: if ``result`` has no such picture or step.
    """
    pictures, steps = result.probabilities.shape
    if not (0 <= picture < pictures and 0 <= step < steps):
        raise ValueError(
            f"picture must be in 0–{pictures - 1} and step in 0–{steps - 1}, not {picture} and {step}"
        )
    amount = result.amounts[step]
    figure, (left, right, distance, share) = plt.subplots(
        1, 4, figsize=(11.5, 2.9), width_ratios=(1, 1, 1.4, 1.4)
    )
    for axis, image, title in ((left, original, "untransformed"), (right, view, f"{kind} {amount:.3g}")):
        axis.imshow(as_image(image))
        axis.set_title(title)
        axis.axis("off")
    for layer, name in layers.items():
        values = result.relative(layer)[picture]
        (line,) = distance.plot(result.amounts, values.numpy(), label=name)
        distance.plot(amount, values[step].item(), "o", color=line.get_color())
    distance.set(title="Distance of features", xlabel=_LABELS[kind], ylabel="relative distance")
    distance.set_ylim(bottom=0)
    distance.legend(fontsize=8)
    values = result.probabilities[picture]
    share.plot(result.amounts, values.numpy(), color="black")
    share.plot(amount, values[step].item(), "o", color="black")
    share.set(title="Probability of the true class", xlabel=_LABELS[kind], ylim=(0, 1.02))
    return figure


def training_curves(values: Mapping[Kind, Mapping[str, Invariance]]) -> Figure:
    """Mean probability of the true class, a panel for each transformation, a line for each way of training.

    Args:
        values: by transformation, then way of training.
    """
    figure, axes = plt.subplots(1, len(values), figsize=(4.6 * len(values), 3.2), squeeze=False)
    for axis, (kind, by_training) in zip(axes[0], values.items(), strict=True):
        for (name, result), style in zip(
            by_training.items(), itertools.cycle(("o-", "s--", "D-.", "^:")), strict=False
        ):
            axis.plot(result.amounts, result.probabilities.mean(0).numpy(), style, markersize=4, label=name)
        axis.axvline(NEUTRAL[kind], color="0.8", linewidth=1, zorder=0)
        axis.set(
            title=f"{kind}", xlabel=_LABELS[kind], ylabel="probability of the true class", ylim=(0, 1.02)
        )
    axes[0, 0].legend(fontsize=8, title="trained on", title_fontsize=8)
    return figure
