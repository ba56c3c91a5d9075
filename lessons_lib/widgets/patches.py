"""The panel of lesson 08: a channel's patches, and the pixels it marks at a chosen quantile."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.patches import TopActivations
from lessons_lib.methods.receptive_field import ReceptiveField
from lessons_lib.plots.patches import unit_page
from lessons_lib.widgets import keep_fitted, panel

QUANTILES = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2)


def unit_panel(
    patches: Mapping[str, tuple[Tensor, TopActivations, ReceptiveField]],
    scenes: Mapping[str, tuple[Tensor, Tensor, ReceptiveField]],
    *,
    channels: Mapping[str, int],
) -> ipywidgets.VBox:
    """Browse the channels of every layer: what excites them, and where they answer.

    Args:
        patches: by layer, pictures, its top activations in them and its field: see
            ``lessons_lib.plots.patches.unit_page``.
        scenes: by layer, other pictures, its feature maps of them and its field.
        channels: the channel to show first, by layer; 0 where there is none.
    """
    layer = ipywidgets.Dropdown(options=list(patches), description="layer")
    channel = ipywidgets.IntSlider(min=0, max=0, description="channel")
    shares = [(f"{q:.1%}", q) for q in QUANTILES]
    quantile = ipywidgets.SelectionSlider(options=shares, value=0.02, description="quantile")

    def fit_channel() -> None:
        channel.max = scenes[layer.value][1].shape[1] - 1
        channel.value = channels.get(layer.value, 0)

    keep_fitted(layer, fit_channel)

    def draw(layer: str, channel: int, quantile: float) -> Figure:
        title = f"{layer}, channel {channel}: strongest {quantile:.1%} of positions"
        return unit_page(patches[layer], scenes[layer], channel, quantile, title=title)

    alt = (
        "The strongest patches of channel {channel} of {layer}, and eight pictures that are dark except at its "
        "strongest {quantile:.1%} of positions."
    )
    return panel(draw, alt.format, layer=layer, channel=channel, quantile=quantile)
