"""Figures of class visualization: the way up, galleries, spectra, and how little was changed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.class_visualization import Ascent, power_spectrum
from lessons_lib.plots import as_image

_STYLES = ("o-", "s--", "D-.", "^:", "v-", "P--", "X-.", "*:")


def climb(pictures: Tensor, ascent: Ascent, row: int, name: str, *, columns: int = 7) -> Figure:
    """One picture at evenly spaced steps, above the curves of its logit and its rank.

    Args:
        pictures: all frames as uint8, shape (F, N, 3, H, W).
        ascent: their numbers.
        row: which of the N pictures.
        name: of its class.
        columns: how many frames to show, the first and the last among them.

    Raises:
        ValueError: if pictures and ascent do not fit, or there is no such row.
    """
    _check(pictures, ascent, row)
    shown = torch.linspace(0, len(pictures) - 1, min(columns, len(pictures))).round().long().tolist()
    figure = plt.figure(figsize=(10, 10 / len(shown) + 3.3))
    grid = figure.add_gridspec(2, 1, height_ratios=(10 / len(shown) + 0.3, 2.8))
    above, below = grid[0].subgridspec(1, len(shown)), grid[1].subgridspec(1, 2)
    for column, i in enumerate(shown):
        axis = figure.add_subplot(above[column])
        axis.imshow(as_image(pictures[i, row]))
        axis.set_title(f"step {ascent.steps[i]}\nlogit {ascent.logits[i, row]:.0f}", fontsize=9)
        axis.axis("off")
    left, right = figure.add_subplot(below[0]), figure.add_subplot(below[1])
    _curves(left, right, ascent, row)
    figure.suptitle(name, fontsize=11)
    return figure


def frame(pictures: Tensor, ascent: Ascent, row: int, index: int, name: str) -> Figure:
    """One frame large, and where it stands on the curves of logit and rank.

    Args:
        pictures: all frames as uint8, shape (F, N, 3, H, W).
        ascent: their numbers.
        row: which of the N pictures.
        index: which of the F frames.
        name: of its class.

    Raises:
        ValueError: if pictures and ascent do not fit, or there is no such row or frame.
    """
    _check(pictures, ascent, row)
    if not 0 <= index < len(pictures):
        raise ValueError(f"frame must be in 0–{len(pictures) - 1}, not {index}")
    figure, (picture, left, right) = plt.subplots(1, 3, figsize=(10, 3.3), width_ratios=(1, 1.2, 1.2))
    picture.imshow(as_image(pictures[index, row]))
    picture.set_title(f"{name}, step {ascent.steps[index]}")
    picture.axis("off")
    _curves(left, right, ascent, row)
    step = ascent.steps[index]
    left.plot(step, ascent.logits[index, row].item(), "o", color="#D55E00", markersize=8)
    right.plot(step, ascent.ranks[index, row].item(), "o", color="#D55E00", markersize=8)
    return figure


def _curves(left: Axes, right: Axes, ascent: Ascent, row: int) -> None:
    left.plot(ascent.steps, ascent.logits[:, row].numpy(), color="#0072B2")
    left.set(title="Score of the class", xlabel="step", ylabel="logit")
    right.plot(ascent.steps, ascent.ranks[:, row].numpy(), color="black")
    right.set(
        title="Its place among all classes", xlabel="step", ylabel="rank (1 is the answer)", yscale="log"
    )
    right.set_ylim(bottom=0.8)


def _check(pictures: Tensor, ascent: Ascent, row: int) -> None:
    if pictures.ndim != 5 or pictures.shape[:2] != ascent.logits.shape:
        raise ValueError(
            f"an ascent of {ascent.logits.shape[0]} frames and {ascent.logits.shape[1]} pictures needs as many "
            f"uint8 pictures (F, N, 3, H, W), not {tuple(pictures.shape)}"
        )
    if not 0 <= row < pictures.shape[1]:
        raise ValueError(f"row must be in 0–{pictures.shape[1] - 1}, not {row}")


def gallery(
    pictures: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    captions: Sequence[Sequence[str]] = (),
    *,
    size: float = 1.5,
) -> Figure:
    """A table of pictures with named rows and columns, and a caption under each if there are captions.

    Args:
        pictures: uint8, shape (R, C, 3, H, W).
        rows: R names.
        columns: C names.
        captions: R lists of C, or none.
        size: side of a picture in inches.

    Raises:
        ValueError: if the names or captions are not as many as the pictures.
    """
    counts = {len(line) for line in captions} or {len(columns)}
    if (
        pictures.ndim != 5
        or pictures.shape[:2] != (len(rows), len(columns))
        or counts != {len(columns)}
        or len(captions) not in {0, len(rows)}
    ):
        raise ValueError(
            f"{len(rows)} rows and {len(columns)} columns need pictures and captions as many, "
            f"not {tuple(pictures.shape)} and {len(captions)} lines of {sorted(counts)}"
        )
    lines = max((caption.count("\n") + 1 for line in captions for caption in line), default=0)
    named = any(rows)
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(
            size * len(columns) + (0.3 if named else 0),
            (size + 0.16 * lines) * len(rows) + (0.25 if any(columns) else 0),
        ),
        squeeze=False,
    )
    for i, line in enumerate(axes):
        for j, axis in enumerate(line):
            axis.imshow(as_image(pictures[i, j]))
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if captions:
                axis.set_xlabel(captions[i][j], fontsize=8, labelpad=2)
            if i == 0:
                axis.set_title(columns[j], fontsize=9)
        line[0].set_ylabel(rows[i], fontsize=9)
    return figure


def spectra(conditions: Mapping[str, Tensor], reference: Tensor, *, name: str = "photographs") -> Figure:
    """Power of pictures by frequency, a line for each condition, against the range of a reference.

    Args:
        conditions: pictures (N, 3, H, W) of one size by condition; a line is their geometric mean.
        reference: pictures of the same size; the band holds all of them.
        name: of the reference.
    """
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    frequency, power = power_spectrum(reference)
    axis.fill_between(
        frequency.numpy(), power.amin(0).numpy(), power.amax(0).numpy(), color="0.85", label=name
    )
    for (condition, pictures), style in zip(conditions.items(), itertools.cycle(_STYLES), strict=False):
        mean = power_spectrum(pictures)[1].log().mean(0).exp()
        axis.plot(frequency.numpy(), mean.numpy(), style, markersize=4, label=condition)
    axis.set(
        title="Power of the pictures' waves",
        xlabel="frequency (cycles per pixel)",
        ylabel="power (mean = 1)",
        xscale="log",
        yscale="log",
    )
    axis.set_xticks(ticks := [0.02, 0.05, 0.1, 0.2, 0.5], [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def change(before: Tensor, after: Tensor, titles: tuple[str, str], *, gain: int = 10) -> Figure:
    """A picture before and after, and between them what was added, enlarged and laid on grey.

    Args:
        before: uint8, shape (3, H, W).
        after: the same shape.
        titles: of the two.
        gain: how many times to enlarge the difference.

    Raises:
        ValueError: if the shapes differ.
    """
    if before.shape != after.shape or before.ndim != 3:
        raise ValueError(
            f"need two pictures of one shape (3, H, W), not {tuple(before.shape)}, {tuple(after.shape)}"
        )
    difference = (128 + gain * (after.int() - before.int())).clamp(0, 255).byte()
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.1))
    for axis, image, title in zip(
        axes, (before, difference, after), (titles[0], f"what was added, × {gain}", titles[1]), strict=True
    ):
        axis.imshow(as_image(image))
        axis.set_title(title)
        axis.axis("off")
    return figure
