"""The panel of lesson 01: all channels by picture, layer and epoch, and one of them large."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from lessons_lib.plots import epoch_name
from lessons_lib.widgets.face import Face, pixels


def channel_panel(images: Mapping[str, Tensor], maps: Mapping[int, Mapping[str, Tensor]]) -> Face:
    """Browse the channels of every layer after every epoch, picture by picture.

    Args:
        images: pictures by name, uint8, shape (3, H, W).
        maps: by epoch and layer, the feature maps after a ReLU of those pictures in that order, shape (N, C, h, w).
    """
    names = list(images)

    def of_layer(name: str, epoch: int, layer: str) -> dict[str, Any]:
        found = maps[epoch][layer][names.index(name)].float().cpu()
        return {"maps": found, "shape": list(found.shape)}

    about = {
        "pictures": names,
        "layers": list(next(iter(maps.values()))),
        "epochs": list(maps),
        "ages": [epoch_name(epoch) for epoch in maps],
    }
    answers: dict[str, Callable[..., Any]] = {
        "picture": lambda name: {"title": name} | pixels(images[name]),
        "maps": of_layer,
    }
    return Face("activations", about, answers)
