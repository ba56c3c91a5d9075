"""Figures of class activation maps: the maps themselves, laid over their pictures, and scored against masks."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib import plots
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
        ValueError: for a map that is not finite.
    """
    if not torch.isfinite(evidence).all():
        raise ValueError("the map holds NaN or infinite values")
    limit = limit or plots.limit(evidence)
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
    limit = plots.limit(maps)
    shown, titles = [as_image(image), *maps.numpy()], [f"picture, {size_name(image)}", *titles]
    look = {"cmap": SIGNED, "vmin": -limit, "vmax": limit}
    figure, axes = plots.picture_grid(shown, titles, fontsize=10, look=look, cell=(2.9, 3.1), margin=(0.6, 0))
    if max(maps.shape[1:]) <= _WRITTEN:
        for axis, values in zip(axes[1:], maps, strict=True):
            plots.write_numbers(axis, values, "{:.1f}".format, limit=limit, fontsize=7)
    _colorbar(figure, limit)
    return figure


def of_classes(image: Tensor, maps: Tensor, titles: Sequence[str], *, first: str = "picture") -> Figure:
    """A picture, and the evidence for each of some classes laid over it, all on one colour scale.

    Args:
        image: uint8, shape (3, H, W).
        maps: signed, shape (K, h, w).
        titles: one for each map.
        first: the title of the picture itself.
    """
    ratio, limit = image.shape[1] / image.shape[2], plots.limit(maps)
    shown = [as_image(image), *(blend(image, values, limit=limit) for values in maps)]
    width = min(2.4 / min(ratio, 1), 11 / len(shown))
    figure, _ = plots.picture_grid(
        shown, [first, *titles], fontsize=10, cell=(width, width * ratio), margin=(0.7, 0.6)
    )
    _colorbar(figure, limit)
    return figure


def gallery(
    images: Tensor, maps: Tensor, titles: Sequence[str], *, columns: int, size: float, label: str = LOGITS
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
        ValueError: if there are not as many maps or titles as pictures.
    """
    limit, lines = plots.limit(maps), 1 + max(title.count("\n") for title in titles)
    shown = [blend(image, values, limit=limit) for image, values in zip(images, maps, strict=True)]
    cell = size, size + 0.18 * lines + 0.05
    figure, _ = plots.picture_grid(shown, titles, fontsize=8, columns=columns, cell=cell, margin=(0.7, 0))
    _colorbar(figure, limit, label, -1 if (maps < 0).any() else 0)
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
    """
    large = upsample(evidence.float(), (image.shape[1], image.shape[2]))
    kept = (large >= threshold * large.max()) & (large > 0)
    share = f"at least {threshold:.0%} of the maximum:\n{kept.float().mean():.0%} of the picture"
    cut = np.where(kept.numpy()[..., None], as_image(image), as_image(image) // 4 + 20)
    scale = f"evidence {size_name(evidence)}, scale ±{evidence.abs().max():.1f} logits"
    titles = "picture", scale, share if evidence.max() > 0 else "no evidence for this class"
    shown = [as_image(image), blend(image, evidence, strength=strength), cut]
    cell = 3.2, 3.3 * image.shape[1] / image.shape[2]
    figure, _ = plots.picture_grid(shown, titles, fontsize=10, cell=cell, margin=(0, 0.6))
    if title:
        figure.suptitle(title)
    return figure


def _colorbar(figure: Figure, limit: float, label: str = LOGITS, low: int = -1) -> None:
    scale = ScalarMappable(Normalize(-limit, limit), SIGNED)
    figure.colorbar(scale, ax=figure.axes, shrink=0.8, label=label).ax.set_ylim(low * limit, limit)
