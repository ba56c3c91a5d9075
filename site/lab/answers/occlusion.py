"""What the page needs to answer for the panel of lesson 04: EfficientNet-Lite0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lessons_lib.data import photos
from lessons_lib.export import to_onnx
from lessons_lib.models import imagenet

NETWORK = "classifier"  # until the reader opens one of their own
FILE = "efficientnet_lite0.onnx"


def write(folder: Path, networks: dict[str, Any]) -> dict[str, Any]:
    """Write the network, unless it is there; what the panel has to know."""
    if NETWORK not in networks:
        networks[NETWORK] = _export(folder)
    return {"network": NETWORK, "of_picture": True, "kinds": ["black", "grey", "blur"], "kind": "black"}


def _export(folder: Path) -> dict[str, Any]:
    network = imagenet.load()
    shown = [photos.resized(photos.photo(name), network.size) for name in photos.LABELLED[:3]]
    told = {"classes": network.categories, "mean": network.mean, "std": network.std}
    to_onnx(network.model, network.normalise(torch.stack(shown)), folder / FILE, **told)
    return told | {"file": FILE, "size": network.size}
