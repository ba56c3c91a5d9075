"""The panel of lesson 03: walk over maps of other spaces, perplexities and seeds, from picture to picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from lessons_lib import plots
from lessons_lib.checks import check_range, check_tensor
from lessons_lib.data.pictures import Pictures
from lessons_lib.plots.embeddings import MOST_CLASSES, class_colour, class_mark
from lessons_lib.widgets.face import Face

Maps = Mapping[tuple[float, int], Tensor]

COLUMNS = 20  # of the one picture that holds all
QUALITY = 80  # of its JPEG: 300 pictures of 96×96 take 0.8 MB


def map_panel(maps: Mapping[str, Maps], pictures: Pictures) -> Face:
    """Choose a space, a perplexity and a seed; point at pictures, or walk from one to the next.

    Args:
        maps: by space, then perplexity and seed: maps of the same pictures, shape (N, 2), computed beforehand so
            that the panel answers at once. Every space has the same perplexities and seeds.
        pictures: the N pictures, of at most ten classes.

    Raises:
        ValueError: for more classes, or a map that does not fit the pictures.
    """
    check_range("the number of classes", len(pictures.classes), 1, MOST_CLASSES)
    for some in maps.values():
        for placed in some.values():
            check_tensor("a map of these pictures", placed, f"{len(pictures)} 2", float, finite=True)
    perplexities, seeds = (sorted(set(kind)) for kind in zip(*next(iter(maps.values())), strict=True))
    height, width = pictures.images.shape[2:]
    about: dict[str, Any] = {
        "spaces": list(maps),
        "perplexities": perplexities,
        "perplexity": perplexities[len(perplexities) // 2],
        "seeds": seeds,
        "classes": [
            {"name": name, "colour": class_colour(label), "mark": class_mark(label)}
            for label, name in enumerate(pictures.classes)
        ],
        "labels": pictures.labels.tolist(),
    }
    about |= {"columns": COLUMNS, "height": height, "width": width}
    answers: dict[str, Callable[..., Any]] = {
        "map": lambda space, perplexity, seed: {"places": maps[space][perplexity, seed].float()},
        "pictures": lambda: {"file": np.frombuffer(sheet(pictures.images), np.uint8)},
    }
    return Face("embeddings", about, answers)


def sheet(images: Tensor) -> bytes:
    """Pictures (uint8, shape (N, 3, H, W)) as tiles of one JPEG, ``COLUMNS`` in a row."""
    buffer = io.BytesIO()
    tiles = plots.as_image(plots.tiled(images, COLUMNS, gap=0, fill=0))
    Image.fromarray(tiles).save(buffer, "jpeg", quality=QUALITY, optimize=True)
    return buffer.getvalue()
