"""The panel of lesson 01: browse channels by picture, layer and epoch."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.plots import epoch_name
from lessons_lib.plots.activations import channel_browser
from lessons_lib.widgets import keep_fitted, panel


def channel_panel(images: Mapping[str, Tensor], maps: Mapping[int, Mapping[str, Tensor]]) -> ipywidgets.VBox:
    """Browse the channels of every layer after every epoch, picture by picture.

    Args:
        images: pictures by name, uint8, shape (3, H, W).
        maps: by epoch and layer, the feature maps of those pictures in that order, shape (N, C, h, w).
    """
    names = list(images)
    layers = list(next(iter(maps.values())))
    picture = ipywidgets.Dropdown(options=names, description="picture")
    layer = ipywidgets.Dropdown(options=layers, description="layer")
    epoch = ipywidgets.SelectionSlider(options=list(maps), value=list(maps)[-1], description="epoch")
    channel = ipywidgets.IntSlider(min=0, max=0, description="channel")

    def fit_channel() -> None:
        channel.max = next(iter(maps.values()))[layer.value].shape[1] - 1

    keep_fitted(layer, fit_channel)

    def draw(picture: str, layer: str, epoch: int, channel: int) -> Figure:
        stack = maps[epoch][layer][names.index(picture)]
        return channel_browser(images[picture], stack, channel, title=f"{layer}, {epoch_name(epoch)}")

    def alt(picture: str, layer: str, epoch: int, channel: int) -> str:
        return f"{picture}, all channels of {layer} {epoch_name(epoch)}, and channel {channel} enlarged."

    return panel(draw, alt, picture=picture, layer=layer, epoch=epoch, channel=channel)
