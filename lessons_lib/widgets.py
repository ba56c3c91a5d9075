"""Interactive panels: each redraws a function of :mod:`lessons_lib.plots` when a control moves."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib import plots


def panel(
    draw: Callable[..., Figure], alt: Callable[..., str], **controls: ipywidgets.Widget
) -> ipywidgets.VBox:
    """Controls above a picture of the figure that ``draw`` makes from their values.

    The figure is an image that is replaced in place, so it neither flickers nor piles up. If ``draw`` fails,
    the message stands under the controls and the last good figure stays.

    Args:
        draw: called with each control's value by name; returns the figure.
        alt: called likewise; returns the sentence for those who cannot see it.
        controls: widgets with a ``value``.
    """
    picture = ipywidgets.HTML()  # not ipywidgets.Image, which has no alt text
    message = ipywidgets.HTML()

    def redraw(_: Any = None) -> None:
        values = {name: control.value for name, control in controls.items()}
        try:
            picture.value = _as_html(draw(**values), alt(**values))
            message.value = ""
        except Exception as error:
            message.value = f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox(
        [ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"}), message, picture]
    )


def _as_html(figure: Figure, alt: str) -> str:
    width = round(figure.get_figwidth() * plt.rcParams["figure.dpi"])
    png = base64.b64encode(plots.to_png(figure)).decode()
    return f'<img alt="{html.escape(alt)}" style="width: {width}px; max-width: 100%" src="data:image/png;base64,{png}">'


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

    def fit_channel(_: Any = None) -> None:
        channel.max = next(iter(maps.values()))[layer.value].shape[1] - 1

    # before the panel observes it, so that a new layer never meets a channel it does not have
    layer.observe(fit_channel, names="value")
    fit_channel()

    def draw(picture: str, layer: str, epoch: int, channel: int) -> Figure:
        stack = maps[epoch][layer][names.index(picture)]
        return plots.channel_browser(
            images[picture], stack, channel, title=f"{layer}, {plots.epoch_name(epoch)}"
        )

    def alt(picture: str, layer: str, epoch: int, channel: int) -> str:
        return (
            f"{picture}, all channels of {layer} {plots.epoch_name(epoch)}, and channel {channel} enlarged."
        )

    return panel(draw, alt, picture=picture, layer=layer, epoch=epoch, channel=channel)
