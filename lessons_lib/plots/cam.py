"""Figures of class activation maps: the maps themselves, laid over their pictures, and scored against masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.cam import upsample
from lessons_lib.plots import SIGNED, as_image, size_name

STRENGTH = 0.75
LOGITS = "evidence (logits)"
_WRITTEN = 8  # maps of at most so many positions a side have their numbers written into them


def blend(
    image: Tensor, evidence: Tensor, *, strength: float = STRENGTH, limit: float | None = None
) -> np.ndarray:
    """A picture in grey with a map over it: red where it is positive, blue where it is negative.

    The colour covers the picture in proportion to the size of the value, so that 0 leaves the picture as it is.

    Args:
        image: uint8, shape (3, H, W).
        evidence: signed, shape (h, w); it is enlarged to the picture.
        strength: how much of the picture the strongest colour covers, 0–1.
        limit: the value of the strongest colour; by default the map's greatest absolute value.

    Returns:
        Floats in 0–1, shape (H, W, 3).

    Raises:
        ValueError: for other shapes, a map that is not finite, or a strength outside 0–1.
    """
    if image.ndim != 3 or evidence.ndim != 2:
        raise ValueError(
            f"need a picture (3, H, W) and its map (h, w), not {tuple(image.shape)} and {tuple(evidence.shape)}"
        )
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie in 0–1, not {strength}")
    if not torch.isfinite(evidence).all():
        raise ValueError("the map holds NaN or infinite values")
    limit = limit or _limit(evidence)
    values = (upsample(evidence.float(), (image.shape[1], image.shape[2])) / limit).clamp(-1, 1).numpy()
    grey = (as_image(image) @ np.array([0.299, 0.587, 0.114]) / 255)[..., None]
    colours = plt.get_cmap(SIGNED)((values + 1) / 2)[..., :3]
    cover = strength * np.abs(values)[..., None]
    # white comes out a rounding error above 1, of which matplotlib would warn
    return np.clip(grey * (1 - cover) + colours * cover, 0, 1)


def evidence_maps(image: Tensor, maps: Tensor, titles: Sequence[str]) -> Figure:
    """A picture and its map for each class, all on one colour scale; small maps with their numbers.

    Args:
        image: uint8, shape (3, H, W).
        maps: signed, shape (K, h, w).
        titles: one for each map.
    """
    _check_titles(maps, titles)
    columns = 1 + len(maps)
    figure, axes = plt.subplots(1, columns, figsize=(2.9 * columns + 0.6, 3.1))
    axes[0].imshow(as_image(image))
    axes[0].set_title(f"picture, {size_name(image)}")
    limit = _limit(maps)
    for axis, values, title in zip(axes[1:], maps, titles, strict=True):
        axis.imshow(values.numpy(), cmap=SIGNED, vmin=-limit, vmax=limit)
        axis.set_title(title)
        if max(values.shape) <= _WRITTEN:
            _write(axis, values, limit)
    for axis in axes:
        axis.axis("off")
    _colorbar(figure, axes, limit)
    return figure


def _write(axis: Axes, values: Tensor, limit: float) -> None:
    """Write each value of a map into its cell."""
    for y, row in enumerate(values.tolist()):
        for x, value in enumerate(row):
            colour = "white" if abs(value) > 0.6 * limit else "black"
            axis.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)


def of_classes(image: Tensor, maps: Tensor, titles: Sequence[str], *, first: str = "picture") -> Figure:
    """A picture, and the evidence for each of some classes laid over it, all on one colour scale.

    Args:
        image: uint8, shape (3, H, W).
        maps: signed, shape (K, h, w).
        titles: one for each map.
        first: the title of the picture itself.
    """
    _check_titles(maps, titles)
    columns, ratio = 1 + len(maps), image.shape[1] / image.shape[2]
    width = min(2.4 / min(ratio, 1), 11 / columns)
    figure, axes = plt.subplots(1, columns, figsize=(width * columns + 0.7, width * ratio + 0.6))
    axes[0].imshow(as_image(image))
    axes[0].set_title(first)
    for axis, values, title in zip(axes[1:], maps, titles, strict=True):
        axis.imshow(blend(image, values, limit=_limit(maps)))
        axis.set_title(title)
    for axis in axes:
        axis.axis("off")
    _colorbar(figure, axes, _limit(maps))
    return figure


def gallery(
    images: Tensor,
    maps: Tensor,
    titles: Sequence[str],
    *,
    columns: int = 5,
    size: float = 1.75,
    label: str = LOGITS,
) -> Figure:
    """Pictures with their maps over them, all on one colour scale, which begins at 0 if nothing is negative.

    Args:
        images: uint8, shape (N, 3, H, W).
        maps: signed, one for each picture, shape (N, h, w).
        titles: one for each picture.
        columns: pictures in a row.
        size: side of a picture in inches.
        label: of the colour bar.

    Raises:
        ValueError: if there are no pictures, or not as many maps or titles.
    """
    if images.ndim != 4 or not len(images) or len(images) != len(maps):
        raise ValueError(
            f"need pictures (N, 3, H, W) and as many maps, not {tuple(images.shape)} and {tuple(maps.shape)}"
        )
    _check_titles(maps, titles)
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    lines = 1 + max(title.count("\n") for title in titles)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * size + 0.7, rows * (size + 0.18 * lines + 0.05)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, values, title in zip(axes.flat, images, maps, titles, strict=False):
        axis.imshow(blend(image, values, limit=_limit(maps)))
        axis.set_title(title, fontsize=8)
    _colorbar(figure, axes, _limit(maps), label, -1 if (maps < 0).any() else 0)
    return figure


def explain(
    image: Tensor, evidence: Tensor, *, strength: float = STRENGTH, threshold: float = 0.5, title: str = ""
) -> Figure:
    """One picture, its map over it, and what is left of the picture where the map is above a threshold.

    Args:
        image: uint8, shape (3, H, W).
        evidence: signed, shape (h, w).
        strength: of the overlay, 0–1; see ``blend``.
        threshold: share of the map's maximum, 0–1.
        title: over the figure.

    Raises:
        ValueError: for a strength or threshold outside 0–1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in 0–1, not {threshold}")
    large = upsample(evidence.float(), (image.shape[1], image.shape[2]))
    top = evidence.max().item()
    kept = (large >= threshold * large.max()) & (large > 0)
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.3 * image.shape[1] / image.shape[2] + 0.6))
    axes[0].imshow(as_image(image))
    axes[0].set_title("picture")
    axes[1].imshow(blend(image, evidence, strength=strength))
    axes[1].set_title(f"evidence {size_name(evidence)}, scale ±{evidence.abs().max():.1f} logits")
    axes[2].imshow(np.where(kept.numpy()[..., None], as_image(image), as_image(image) // 4 + 20))
    share = f"at least {threshold:.0%} of the maximum:\n{kept.float().mean():.0%} of the picture"
    axes[2].set_title(share if top > 0 else "no evidence for this class")
    for axis in axes:
        axis.axis("off")
    if title:
        figure.suptitle(title)
    return figure


def _limit(values: Tensor) -> float:
    """The end of a colour scale that is even about 0."""
    return max(values.abs().max().item(), 1e-12)


def _colorbar(figure: Figure, axes: np.ndarray, limit: float, label: str = LOGITS, low: int = -1) -> None:
    scale = ScalarMappable(Normalize(-limit, limit), SIGNED)
    figure.colorbar(scale, ax=axes, shrink=0.8, label=label).ax.set_ylim(low * limit, limit)


def _check_titles(maps: Tensor, titles: Sequence[str]) -> None:
    if maps.ndim != 3 or not len(maps) or len(maps) != len(titles):
        raise ValueError(
            f"maps of shape {tuple(maps.shape)} need (K, h, w) and a title each, not {len(titles)} titles"
        )
