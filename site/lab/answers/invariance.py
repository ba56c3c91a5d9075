"""What the page needs to answer for the panel of lesson 10: the network of lesson 04's panel, and its first layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from answers import occlusion
from torch import Tensor, nn

from lessons_lib import networks as on_layers
from lessons_lib.data import photos
from lessons_lib.models import imagenet
from lessons_lib.plots.invariance import NEUTRAL

FIRST = f"{occlusion.NETWORK}_first"
AGREES = 1e-4  # of the largest number; another order of sums costs a tenth of that, a wrong layer far more
LAYERS = {"bn1": "first layer", "bn2": "last layer", "global_pool": "last, pooled"}  # as lesson 10 has them
AMOUNTS = {
    "shift": [*range(-48, -2, 4), -2, 0, 2, *range(4, 50, 4)],
    "scale": [round(1 + 0.05 * step, 2) for step in range(17)],
    "rotation": list(range(0, 360, 10)),
}


def write(folder: Path, networks: dict[str, Any]) -> dict[str, Any]:
    """Write the first layer, and measure how far photographs are apart; what the panel has to know."""
    network, name = imagenet.load(), occlusion.write(folder, networks)["network"]
    size, photo = network.size, network.size * 10 // 7  # of the frame, and of what it is a part of
    start = (photo - size) // 2
    frame = slice(start, start + size)
    pictures = [photos.resized(photos.photo(shown), photo)[:, frame, frame] for shown in photos.LABELLED]
    inputs = network.normalise(torch.stack(pictures))
    found = on_layers.capture(network.model, inputs, [*LAYERS], batch_size=4)
    _export(network.model, inputs[:3], found["bn1"][:3], folder / "first.onnx")
    networks[FIRST] = {"file": "first.onnx", "size": size}
    points = {"pixels": inputs, **{title: found[layer] for layer, title in LAYERS.items()}}
    units = {title: torch.pdist(some.flatten(1)).mean().item() for title, some in points.items()}
    return {"network": name, "of_picture": True, "files": ["first.onnx"], "amounts": AMOUNTS, "neutral": NEUTRAL,
            "curves": [*units], "units": [*units.values()], "frame": size, "photo": photo,
            "photos": "of this page’s photographs"}  # fmt: skip


def _export(model: nn.Module, inputs: Tensor, expected: Tensor, path: Path) -> None:
    """Write the first layer once ONNX Runtime's numbers are PyTorch's."""
    first = nn.Sequential(model.get_submodule("conv_stem"), model.get_submodule("bn1")).eval()
    torch.onnx.export(
        first, (inputs,), path, dynamo=True, external_data=False, verbose=False, input_names=["pictures"],
        output_names=["first"], dynamic_shapes=({0: "batch"},),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {"pictures": inputs.numpy()})
    off = np.abs(ours - expected.numpy()).max() / expected.max().item()
    if not off <= AGREES:
        raise RuntimeError(f"as ONNX the first layer gives other numbers, by {off:.1g} of the largest")
