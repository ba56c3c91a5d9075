"""What the page needs to answer for the panel of lesson 11: what a kernel would answer to each question."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lessons_lib.data import critters
from lessons_lib.methods import evaluation
from lessons_lib.models import ChainCNN, checkpoints
from lessons_lib.widgets.evaluation import twin_panel
from lessons_lib.widgets.face import TYPES

FILE = "evaluation.bin"
NETWORKS = {"A": "chain_cnn_critters", "B": "chain_cnn_critters_biased"}


def write(folder: Path, networks: dict[str, Any]) -> dict[str, Any]:
    """Write pictures, numbers and maps, the maps in 8 bits a pixel; what the panel has to know."""
    models = {
        name: checkpoints.restore(ChainCNN(len(critters.SPECIES)), kept) for name, kept in NETWORKS.items()
    }
    methods = {
        "integrated gradients": integrated_gradients,
        "CAM": evaluation.cam_map,
        "edges": evaluation.edges,
    }
    panel = twin_panel(models, critters.twins(10, 64, seed=5, bias=1.0), methods)
    about, ask = dict(panel.about), panel._answers
    scenes, parts = range(len(about["scenes"])), about["names"]

    def both(question: str, answer: str, scene: int, **given: Any) -> np.ndarray:
        """Of the scene, then of its twins."""
        pairs = [np.asarray(ask[question](scene=scene, part=part, **given)[answer]) for part in parts]
        return np.stack([pairs[0][0], *(pair[1] for pair in pairs)])

    seen = [[ask["twins"](scene=scene, part=part, network="A") for part in parts] for scene in scenes]
    pictures = [np.stack([found[0]["whole"], *(one["without"] for one in found)]) for found in seen]
    numbers = [[ask["parts"](scene=scene, network=name) for scene in scenes] for name in models]
    maps = np.stack(
        [
            [[both("maps", "maps", scene, network=name, method=how) for scene in scenes] for how in methods]
            for name in models
        ]
    )
    limits = np.abs(maps).max((-2, -1))
    # steps as small as the root: a few pixels of a map are far greater than most
    steps = np.sign(maps) * np.sqrt(np.abs(maps) / np.maximum(limits, 1e-12)[..., None, None])
    arrays = {
        "logits": np.stack(
            [[both("twins", "logits", scene, network=name) for scene in scenes] for name in models]
        ),
        "limits": limits,
        **{
            name: np.stack([[np.asarray(one[name]) for one in row] for row in numbers])
            for name in ("effects", "sums", "agreement")
        },
        "pictures": np.stack(pictures),
        "maps": np.round(127 * steps).astype(np.int8),
    }
    (folder / FILE).write_bytes(gzip.compress(b"".join(array.tobytes() for array in arrays.values())))
    told = {name: {"type": _type(array), "shape": array.shape} for name, array in arrays.items()}
    size = {name: seen[0][0][name] for name in ("width", "height")}
    return about | size | {"labels": [found[0]["label"] for found in seen], "arrays": told, "files": [FILE]}


def integrated_gradients(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """As lesson 11 has them: from grey, in 16 steps."""
    total = torch.zeros_like(inputs)
    for step in range(16):
        leaf = ((step + 0.5) / 16 * inputs).requires_grad_()
        total += torch.autograd.grad(model(leaf)[range(len(leaf)), targets].sum(), leaf)[0]
    return inputs * total / 16


def _type(array: np.ndarray) -> str:
    return "Int8Array" if array.dtype == np.int8 else TYPES[array.dtype.name]
