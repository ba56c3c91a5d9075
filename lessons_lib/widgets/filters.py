"""The panel of lesson 02: one filter of any layer, network and age, with its weights as numbers."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.filters import autocorrelation
from lessons_lib.plots import size_name
from lessons_lib.plots.filters import filter_browser
from lessons_lib.widgets import keep_fitted, panel


def filter_panel(networks: Mapping[str, Mapping[str, Mapping[str, Tensor]]]) -> ipywidgets.VBox:
    """Browse the filters of several networks by layer and age.

    Args:
        networks: filters (O, I, H, W), at least 2×2, by network, age ("after epoch 5", …) and layer; a network has
            the same layers at every age, but each network its own ages.
    """
    layers = [
        (f"{network}: {layer}, {size_name(filters)}", (network, layer))
        for network, ages in networks.items()
        for layer, filters in next(iter(ages.values())).items()
    ]
    layer = ipywidgets.Dropdown(options=layers, description="layer", layout={"width": "26em"})
    age = ipywidgets.SelectionSlider(options=[""], description="age", layout={"width": "26em"})
    number = ipywidgets.IntSlider(min=0, max=0, description="filter")

    def fit() -> None:
        network, name = layer.value
        ages = list(networks[network])
        number.max = len(networks[network][ages[-1]][name]) - 1
        if list(age.options) != ages:
            age.options = ages
            age.value = ages[-1]

    keep_fitted(layer, fit)

    def draw(layer: tuple[str, str], age: str, number: int) -> Figure:
        network, name = layer
        ages = networks[network]
        # while `fit` is at work the slider may still stand on another network's age
        known = age if age in ages else list(ages)[-1]
        filters = ages[known][name]
        smooth = autocorrelation(filters[number : number + 1]).item()
        title = f"{network}: {name}, {known}; autocorrelation {smooth:.2f}"
        return filter_browser(filters, number, title)

    alt = "Filter {number} of {layer[1]} of {layer[0]}, {age}, as a picture and its weights as numbers."
    return panel(draw, alt.format, layer=layer, age=age, number=number)
