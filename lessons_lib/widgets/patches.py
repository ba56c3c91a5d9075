"""The panel of lesson 08: a channel's patches, and the pixels it marks at a chosen quantile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.patches import TopActivations
from lessons_lib.methods.receptive_field import ReceptiveField
from lessons_lib.plots.patches import unit_page
from lessons_lib.widgets import panel

QUANTILES = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2)


def unit_panel(
    patches: Mapping[str, tuple[Tensor, TopActivations, ReceptiveField]],
    scenes: Mapping[str, tuple[Tensor, Tensor, ReceptiveField]],
    *,
    channels: Mapping[str, int] | None = None,
) -> ipywidgets.VBox:
    """Browse the channels of every layer: what excites them, and where they answer.

    Args:
        patches: by layer, pictures, its top activations in them and its field: see
            ``lessons_lib.plots.patches.unit_page``.
        scenes: by layer, other pictures, its feature maps of them and its field.
        channels: the channel to show first, by layer; default: 0.

    Raises:
        ValueError: if ``patches`` and ``scenes`` do not have the same layers.
    """
    if list(patches) != list(scenes):
        raise ValueError(f"patches and scenes need the same layers, not {list(patches)} and {list(scenes)}")
    first = channels or {}
    layer = ipywidgets.Dropdown(options=list(patches), description="layer")
    channel = ipywidgets.IntSlider(min=0, max=0, description="channel")
    quantile = ipywidgets.SelectionSlider(
        options=[(f"{q:.1%}", q) for q in QUANTILES], value=0.02, description="quantile"
    )

    def fit_channel(_: Any = None) -> None:
        channel.max = scenes[layer.value][1].shape[1] - 1
        channel.value = first.get(layer.value, 0)

    # before the panel observes it, so that a new layer never meets a channel it does not have
    layer.observe(fit_channel, names="value")
    fit_channel()

    def draw(layer: str, channel: int, quantile: float) -> Figure:
        title = f"{layer}, channel {channel}: strongest {quantile:.1%} of positions"
        return unit_page(patches[layer], scenes[layer], channel, quantile, title=title)

    def alt(layer: str, channel: int, quantile: float) -> str:
        return (
            f"The strongest patches of channel {channel} of {layer}, and eight pictures that are dark except at its "
            f"strongest {quantile:.1%} of positions."
        )

    return panel(draw, alt, layer=layer, channel=channel, quantile=quantile)
