"""The panel of lesson 08: a channel's patches, and the pixels it marks at a chosen quantile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lessons_lib.methods.patches import TopActivations, crops, levels
from lessons_lib.methods.receptive_field import ReceptiveField
from lessons_lib.widgets.face import Face, pixels

Patches = tuple[Tensor, TopActivations, ReceptiveField]
Scenes = tuple[Tensor, Tensor, ReceptiveField]

QUANTILES = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2)
MOST_SCENES = 8


def unit_panel(
    patches: Mapping[str, Patches], scenes: Mapping[str, Scenes], *, channels: Mapping[str, int]
) -> Face:
    """Browse the channels of every layer: what excites them, and where they answer.

    Args:
        patches: by layer, pictures, its top activations in them and its field: see
            ``lessons_lib.plots.patches.unit_page``.
        scenes: by layer, other pictures, its feature maps of them and its field.
        channels: the channel to show first, by layer; 0 where there is none.
    """
    images = next(iter(scenes.values()))[0]
    layers = {
        name: {
            "channels": scenes[name][1].shape[1],
            "channel": channels.get(name, 0),
            "patch": [min(both) for both in zip(field.size, field.picture, strict=True)],
        }
        | _places(scenes[name][2])
        for name, (_, _, field) in patches.items()
    }
    about = {
        "layers": layers,
        "quantiles": QUANTILES,
        "quantile": 0.02,
        "pictures": len(images),
        "scenes": min(MOST_SCENES, len(images)),
        "size": list(images.shape[2:]),
    }

    def answer(layer: str, channel: int) -> dict[str, Any]:
        return unit(patches[layer], scenes[layer], channel)

    return Face("patches", about, {"unit": answer})


def unit(patches: Patches, scenes: Scenes, channel: int) -> dict[str, Any]:
    """What the panel shows of a channel.

    Args:
        patches: of its layer, as in ``unit_panel``.
        scenes: of its layer, as in ``unit_panel``.
        channel: which.

    Returns:
        By name: ``patches``, uint8 (k, h, w, 4) as a canvas has them, and their ``activations`` (k,); ``numbers``,
        the scenes of its highest activations, the highest first, ``scenes``, these as a canvas has them, and its
        ``maps`` of them, (scenes, h, w); ``levels``, one for each of ``QUANTILES``.

    Raises:
        ValueError: if there is no such channel.
    """
    images, top, field = patches
    pictures, maps, _ = scenes
    cut = crops(images, top, channel, field)
    strongest = maps[:, channel].amax((1, 2)).argsort(descending=True, stable=True)[:MOST_SCENES]
    reached = [levels(maps[:, channel : channel + 1], quantile)[0] for quantile in QUANTILES]
    return {
        "patches": _stacked(cut),
        "activations": top.values[channel].float(),
        "numbers": strongest.tolist(),
        "scenes": _stacked(pictures[strongest]),
        "maps": maps[strongest, channel].float(),
        "levels": torch.stack(reached).float(),
    }


def _places(field: ReceptiveField) -> dict[str, Any]:
    """How many positions a map has, where in the picture the first unit's field has its centre, and how far apart."""
    first = [offset + size / 2 for offset, size in zip(field.offset, field.size, strict=True)]
    return {
        "map": [len(field.rows), len(field.columns)],
        "centre": first,
        "stride": list(field.stride),
    }


def _stacked(images: Tensor) -> np.ndarray:
    return np.stack([pixels(image)["pixels"] for image in images])
