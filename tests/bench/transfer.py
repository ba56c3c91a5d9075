"""Transfer learning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.data import critters
from lessons_lib.data.pictures import Pictures
from lessons_lib.methods.transfer import sources
from lessons_lib.networks import features
from tests.bench import Timing, benchmark, seconds

EPOCHS = 30
BATCH = 64
PICTURES = 512


def _order(epoch: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(epoch)
    return torch.randperm(PICTURES, generator=generator).split(BATCH)


def _train(batches: Iterable[tuple[dict[str, Tensor], Tensor]], classes: int) -> dict[str, nn.Linear]:
    """One softmax probe a layer, trained by Adam on batches of features by layer, with their labels."""
    probes: dict[str, nn.Linear] = {}
    optimizers: dict[str, torch.optim.Adam] = {}
    for points, labels in batches:
        for name, rows in points.items():
            if name not in probes:
                torch.manual_seed(0)
                probes[name] = nn.Linear(rows.shape[1], classes)
                optimizers[name] = torch.optim.Adam(probes[name].parameters(), lr=1e-3)
            loss = F.cross_entropy(probes[name](rows), labels)
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()
    return probes


def _cached(source: sources.Source, pictures: Pictures) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """One forward pass over all pictures, then every epoch from memory."""
    points = features(
        source.model, pictures.images, source.layers, pool=2, transform=source.transform, batch_size=BATCH
    )
    for epoch in range(EPOCHS):
        for index in _order(epoch):
            yield {name: rows[index] for name, rows in points.items()}, pictures.labels[index]


def _repeated(source: sources.Source, pictures: Pictures) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """A forward pass for every batch of every epoch, which serves all layers at once."""
    for epoch in range(EPOCHS):
        for index in _order(epoch):
            images = pictures.images[index]
            yield (
                features(source.model, images, source.layers, pool=2, transform=source.transform),
                pictures.labels[index],
            )


@benchmark("frozen-feature-cache")
def frozen_feature_cache() -> Timing:
    """Softmax probes of all layers of EfficientNet-Lite0: features cached, against a forward pass an epoch."""
    source = sources.load("efficientnet_lite0", size=96)
    pictures = critters.generate(PICTURES, 96, seed=1)
    classes = len(pictures.classes)
    features(
        source.model, pictures.images[:BATCH], source.layers, pool=2, transform=source.transform
    )  # warm up
    trained: dict[str, dict[str, nn.Linear]] = {}
    ours = seconds(lambda: trained.update(ours=_train(_cached(source, pictures), classes)))
    peer = seconds(lambda: trained.update(peer=_train(_repeated(source, pictures), classes)))
    for name in source.layers:
        one, other = trained["ours"][name].weight, trained["peer"][name].weight
        if not torch.allclose(one, other, atol=1e-3):
            raise AssertionError(f"the probes of {name} differ, so the two did not do the same work")
    return Timing(
        ours,
        f"one forward pass an epoch for all {len(source.layers)} layers",
        peer,
        f"{PICTURES} Critters of 96×96, EfficientNet-Lite0, {EPOCHS} epochs; the probes end with the same weights",
    )
