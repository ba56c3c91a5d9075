"""What the page needs to answer for the panel of lesson 02: the filters of the lesson's panel, a file for each layer.

A file holds, age after age, what ``widgets.filters.strongest`` tells, one array after the other. Weights are float16 if
they are shipped so, else float32; so the numbers on the page are those of the lesson.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from lessons_lib import models
from lessons_lib.methods import filters
from lessons_lib.plots import epoch_name
from lessons_lib.widgets.filters import described, strongest

INPUTS = 16  # input channels of a filter: with all 64 of conv2 the file would have 2 MB


def write(folder: Path, _: dict[str, Any]) -> dict[str, Any]:
    """Write the files; what the panel has to know."""
    shipped = {
        "small ZFNet": _ages(models.SmallZFNet, "zfnet_cifar10", models.CONVOLUTIONS[:2]),
        "small CNN": _ages(models.SmallCNN, "small_cnn_cifar10", ("block1.conv", "block2.conv")),
    }
    by_network = shipped | {"EfficientNet-Lite0": {"trained": _efficientnet()}}
    layers = described(by_network)
    for number, told in enumerate(layers):
        told["file"], told["half"] = f"filters_{number}.bin", told["network"] in shipped
        arrays: list[np.ndarray] = []
        for age in told["ages"]:
            answer = strongest(by_network[told["network"]][age][told["layer"]], INPUTS)
            told["shape"] = answer["shape"]
            arrays += [answer["weights"].numpy().astype("<f2" if told["half"] else "<f4")]
            arrays += [
                answer["channels"].numpy().astype("<i4"),
                answer["autocorrelation"].numpy().astype("<f4"),
            ]
        (folder / told["file"]).write_bytes(b"".join(array.tobytes() for array in arrays))
    return {"layers": layers, "files": [told["file"] for told in layers]}


def _ages(build: type[nn.Module], name: str, layers: tuple[str, ...]) -> dict[str, dict[str, Tensor]]:
    return {
        epoch_name(epoch): {
            layer: filters.weights(models.checkpoints.restore(build(), name, epoch), layer)
            for layer in layers
        }
        for epoch in models.checkpoints.epochs(name)
    }


def _efficientnet() -> dict[str, Tensor]:
    """The first layer, and of the depthwise ones, without silent filters, those of the extreme means and the last."""
    network = models.imagenet.load(models.imagenet.OFFLINE).model
    depthwise = {}
    for name in filters.weight_layers(network):
        if name.endswith("conv_dw"):
            group = filters.weights(network, name)
            depthwise[name] = group[~filters.silent(group)]
    means = {name: filters.autocorrelation(group).mean() for name, group in depthwise.items()}
    some = min(means, key=means.__getitem__), max(means, key=means.__getitem__), list(depthwise)[-1]
    return {"conv_stem": filters.weights(network, "conv_stem")} | {name: depthwise[name] for name in some}
