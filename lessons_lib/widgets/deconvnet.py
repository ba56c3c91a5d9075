"""The panel of lesson 06: project a channel's strongest activation, picture by picture, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor, nn

from lessons_lib.data.pictures import to_input
from lessons_lib.methods.deconvnet import Trace, keep, project, trace
from lessons_lib.methods.receptive_field import receptive_fields
from lessons_lib.plots.deconvnet import inspected
from lessons_lib.widgets import keep_fitted, panel


def projection_panel(
    model: nn.Module, images: Mapping[str, Tensor], layers: Sequence[str]
) -> ipywidgets.VBox:
    """Choose a picture, a layer and a channel; look at its greatest activation, its projection and switches.

    Args:
        model: a network that ``lessons_lib.methods.deconvnet.trace`` can follow.
        images: pictures of the model's size by name, uint8, shape (3, H, W).
        layers: layers that give feature maps; the last is shown first, with the channel that answers most.

    Raises:
        ValueError: for an unknown layer, or one that has no receptive field.
    """
    names = list(images)
    height, width = images[names[0]].shape[1:]
    seen = receptive_fields(model, (height, width), layers)

    @cache
    def way_up(picture: str, layer: str) -> Trace:
        return trace(model, to_input(images[picture][None]), layer)

    picture = ipywidgets.Dropdown(options=names, description="picture")
    layer = ipywidgets.Dropdown(options=list(layers), value=layers[-1], description="layer")
    channel = ipywidgets.IntSlider(min=0, max=0, description="channel", continuous_update=False)

    def fit_channel() -> None:
        channel.max = way_up(names[0], layer.value).activations.shape[1] - 1

    keep_fitted(layer, fit_channel)
    channel.value = int(way_up(names[0], layers[-1]).activations[0].amax((1, 2)).argmax())

    def draw(picture: str, layer: str, channel: int) -> Figure:
        traced = way_up(picture, layer)
        projection = project(traced, keep(traced.activations, channel))
        return inspected(images[picture], traced, projection, seen[layer], channel)

    alt = (
        "{picture}: where channel {channel} of {layer} answers most, what that unit sees, "
        "the projection of its activation, and the switches of the pooling below."
    )
    return panel(draw, alt.format, picture=picture, layer=layer, channel=channel)
