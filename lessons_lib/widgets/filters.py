"""The panel of lesson 02: the filters of any layer, network and age, and one of them with its weights as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lessons_lib.methods.filters import autocorrelation, noise_deviation
from lessons_lib.plots import size_name
from lessons_lib.widgets.face import Face

COLOURS = 3  # as many input channels may be red, green and blue: they keep their order


def filter_panel(networks: Mapping[str, Mapping[str, Mapping[str, Tensor]]]) -> Face:
    """Browse the filters of several networks by layer and age.

    Args:
        networks: filters (O, I, H, W), at least 2×2, by network, age ("after epoch 5", …) and layer; a network has
            the same layers at every age, but each network its own ages.
    """
    layers = described(networks)

    def of_layer(layer: int, age: int) -> dict[str, Any]:
        told = layers[layer]
        return strongest(networks[told["network"]][told["ages"][age]][told["layer"]])

    return Face("filters", {"layers": layers}, {"filters": of_layer})


def described(networks: Mapping[str, Mapping[str, Mapping[str, Tensor]]]) -> list[dict[str, Any]]:
    """What can be chosen: of each layer its network, its name, the network's ages and what white noise would have."""
    return [
        {
            "network": network,
            "layer": layer,
            "name": f"{network}: {layer}, {size_name(filters)}",
            "ages": list(ages),
            "inputs": filters.shape[1],
            "noise": noise_deviation(filters),
        }
        for network, ages in networks.items()
        for layer, filters in next(iter(ages.values())).items()
    ]


def strongest(filters: Tensor, most: int | None = None) -> dict[str, Any]:
    """Filters of one layer as the panel shows them.

    Args:
        filters: shape (O, I, H, W), at least 2×2.
        most: how many input channels of each filter are told; all by default.

    Returns:
        ``weights``, float32, shape (O, K, H, W), and ``channels``, int32, shape (O, K), which input channels these are:
        those of the largest norm, the largest first; of up to three all, in their order. ``autocorrelation``, float32,
        shape (O,), over all input channels. ``shape``, that of the weights.
    """
    filters = filters.detach().float().cpu()
    inputs = filters.shape[1]
    order = filters.flatten(2).norm(dim=2).argsort(dim=1, descending=True, stable=True)
    if inputs <= COLOURS:
        order = torch.arange(inputs).expand(len(filters), -1)
    order = order[:, :most]
    weights = filters[torch.arange(len(filters))[:, None], order]
    return {
        "weights": weights,
        "channels": order.int(),
        "autocorrelation": autocorrelation(filters).float(),
        "shape": list(weights.shape),
    }
