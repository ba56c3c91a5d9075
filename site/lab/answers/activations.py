"""What the page needs to answer for the panel of lesson 01: SmallCNN at every age, with the maps of its blocks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from lessons_lib import data, models, networks
from lessons_lib.data import photos
from lessons_lib.plots import epoch_name

CHECKPOINT = "small_cnn_cifar10"
SIZE = data.cifar10.SIZE
AGREES = 1e-4  # of the largest number; another order of sums costs a tenth of that, a wrong layer far more


def write(folder: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Write a network for each age; what the panel has to know."""
    epochs = models.checkpoints.epochs(CHECKPOINT)
    ages = {epoch: models.checkpoints.restore(models.SmallCNN(), CHECKPOINT, epoch) for epoch in epochs}
    graph = _graph(ages[epochs[-1]])
    shown = torch.stack([photos.resized(photos.photo(name), SIZE) for name in photos.LABELLED[:3]])
    for epoch, network in ages.items():
        name = _name(epoch)
        onnx.save(_with_weights(graph, network), folder / f"{name}.onnx")
        _check(folder / f"{name}.onnx", network, shown)
        known[name] = {"file": f"{name}.onnx", "size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3,
                       "classes": data.cifar10.CLASSES}  # fmt: skip
    # the last age comes with the button, the first right after it, others when they are chosen
    return {"network": _name(epochs[-1]), "of_picture": True, "files": [known[_name(epochs[0])]["file"]],
            "layers": models.BLOCKS, "epochs": epochs, "ages": [epoch_name(epoch) for epoch in epochs]}  # fmt: skip


def _name(epoch: int) -> str:
    return f"{CHECKPOINT}_{epoch}"


class WithMaps(nn.Module):
    """The same network, which tells the feature maps of its blocks, too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Logits and maps, block after block."""
        network, maps = self.network, [pictures]
        for name in models.BLOCKS:
            maps.append(network.get_submodule(name)(maps[-1]))
        return network.classifier(network.embedding(network.flatten(maps[-1]))), *maps[1:]


def _graph(network: nn.Module) -> onnx.ModelProto:
    """The network as ONNX, not optimised, so that its weights have their names and values."""
    exported = torch.onnx.export(
        WithMaps(network).eval(), (torch.zeros(1, 3, SIZE, SIZE),), dynamo=True, optimize=False, verbose=False,
        input_names=["pictures"], output_names=["logits", *models.BLOCKS],
    )  # fmt: skip
    return exported.model_proto


def _with_weights(graph: onnx.ModelProto, network: nn.Module) -> onnx.ModelProto:
    """The graph with a network's weights as they are shipped, in float16, and casts to float32 before all else."""
    changed, weights = copy.deepcopy(graph), network.state_dict()
    casts = []
    for constant in changed.graph.initializer:
        name = constant.name
        kept = weights[name.removeprefix("network.")].numpy().astype(np.float16)
        constant.CopyFrom(numpy_helper.from_array(kept, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *changed.graph.node]
    del changed.graph.node[:], changed.graph.value_info[:]
    changed.graph.node.extend(nodes)
    for node in changed.graph.node:
        del node.metadata_props[:]  # where in which file of this machine it comes from
    return changed


def _check(path: Path, network: nn.Module, images: Tensor) -> None:
    """Raise RuntimeError unless ONNX Runtime's numbers are PyTorch's."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = networks.capture(network, data.to_input(images), models.BLOCKS)
    expected["logits"] = networks.predict(network, images)
    for i, picture in enumerate(data.to_input(images)[:, None]):
        ours = session.run(list(expected), {"pictures": picture.numpy()})
        for (name, theirs), found in zip(expected.items(), ours, strict=True):
            off = np.abs(found[0] - theirs[i].numpy()).max() / theirs[i].abs().max().item()
            if not off <= AGREES:
                raise RuntimeError(f"{path.name} gives other {name}, by {off:.1g} of the largest")
