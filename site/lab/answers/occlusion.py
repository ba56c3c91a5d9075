"""What the page needs to answer for the panel of lesson 04: EfficientNet-Lite0, with its last feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from lessons_lib.data import photos
from lessons_lib.methods import cam
from lessons_lib.models import imagenet

NETWORK = "efficientnet_lite0"
AGREES = 1e-4  # of the largest number; another order of sums costs a tenth of that, a wrong layer far more


def write(folder: Path, networks: dict[str, Any]) -> dict[str, Any]:
    """Write the network, unless it is there; what the panel has to know."""
    if NETWORK not in networks:
        networks[NETWORK] = _export(folder)
    size = networks[NETWORK]["size"]
    sides = [size // 14, size // 7, 2 * size // 7]
    return {"network": NETWORK, "of_picture": True, "sides": sides, "side": size // 7,
            "kinds": ["black", "grey", "blur"], "kind": "black"}  # fmt: skip


class WithMaps(nn.Module):
    """The same network, which tells its last feature maps, too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and maps."""
        maps = self.network.forward_features(pictures)
        return self.network.forward_head(maps), maps


def _export(folder: Path) -> dict[str, Any]:
    """Write the network and its last weights once ONNX Runtime's numbers are PyTorch's."""
    network = imagenet.load()
    shown = [photos.photo(name) for name in photos.LABELLED[:3]]
    inputs = network.normalise(torch.stack([photos.resized(photo, network.size) for photo in shown]))
    with torch.no_grad():
        torch.onnx.export(
            WithMaps(network.model).eval(), (inputs,), folder / "network.onnx", dynamo=True, external_data=False,
            verbose=False, input_names=["pictures"], output_names=["logits", "maps"], dynamic_shapes=({0: "batch"},),
        )  # fmt: skip
    weight, bias = (parameter.detach().numpy() for parameter in network.model.classifier.parameters())
    np.concatenate([weight.ravel(), bias]).astype("<f4").tofile(folder / "weights.bin")

    session = onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])
    logits, maps = session.run(None, {"pictures": inputs.numpy()})
    expected = cam.class_activation_maps(network.model, inputs)
    evidence = np.einsum("kc,nchw->nkhw", weight, maps) + bias[:, None, None]
    for what, ours, theirs in (("logits", logits, expected.logits), ("maps", evidence, expected.maps)):
        off = np.abs(ours - theirs.numpy()).max() / theirs.abs().max().item()
        if not off <= AGREES:
            raise RuntimeError(f"as ONNX the network gives other {what}, by {off:.1g} of the largest")
    return {"file": "network.onnx", "beside": {"weights": "weights.bin"}, "size": network.size,
            "mean": network.mean, "std": network.std, "classes": network.categories}  # fmt: skip
