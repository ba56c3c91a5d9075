"""Maximally activating patches."""

from __future__ import annotations

import torch
from torch import nn

from lessons_lib.data import cifar10
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.patches import top_activations
from lessons_lib.models import checkpoints
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.networks import evaluating
from tests.bench import Timing, benchmark, seconds
from tests.bench.data import installed_cifar10

BATCH = 100
ROUNDS = 3


@torch.no_grad()
def _forward(model: nn.Module, images: torch.Tensor) -> None:
    with evaluating(model):
        for batch in images.split(BATCH):
            model(to_input(batch).contiguous(memory_format=torch.channels_last))


@benchmark("topk-patches")
def topk_patches() -> Timing:
    """The nine strongest positions of all 256 channels of block 5, against the forward pass that it needs anyway."""
    installed_cifar10()
    model, images = checkpoints.restore(SmallCNN(), "small_cnn_cifar10"), cifar10.load("test").images

    def best(layer: str) -> float:
        return min(
            seconds(lambda: top_activations(model, images, layer, batch_size=BATCH)) for _ in range(ROUNDS)
        )

    _forward(model, images[:1000])  # warm up
    ours, plain = best("block5"), min(seconds(lambda: _forward(model, images)) for _ in range(ROUNDS))
    others = {layer: best(layer) / plain for layer in ("block1", "block3")}
    return Timing(
        ours,
        "a plain forward pass",
        plain,
        f"costs {ours / plain:.2f} × the forward pass over {len(images):,} pictures; "
        + ", ".join(f"{layer} {ratio:.2f} ×" for layer, ratio in others.items())
        + f" (the least of {ROUNDS} rounds)",
    )
