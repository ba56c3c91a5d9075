"""What the page needs to answer for the panel of lesson 03: maps, computed as the lesson does, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lessons_lib import networks
from lessons_lib.data import critters
from lessons_lib.methods import embeddings
from lessons_lib.models import imagenet
from lessons_lib.widgets.embeddings import map_panel, sheet

# the lesson's, in its profile quick
PICTURES, SIZE, SEED, SOME = 1000, 96, 2, 300
LAYER, ITERATIONS = "blocks.5", 150
PERPLEXITIES, SEEDS = (2, 10, 40), (0, 1, 2)


def write(folder: Path, _: dict[str, Any]) -> dict[str, Any]:
    """Write the places of the maps, one map after the other, and all pictures; what the panel has to know."""
    network = imagenet.load(imagenet.OFFLINE)
    pictures = critters.generate(PICTURES, SIZE, seed=SEED).subset(slice(0, SOME))
    points = networks.features(
        network.model, pictures.images, [LAYER], pool=1, transform=network.normalise
    )[LAYER]  # fmt: skip
    maps = {
        (n, seed): embeddings.tsne(points, perplexity=n, start="random", seed=seed, iterations=ITERATIONS)
        for n in PERPLEXITIES
        for seed in SEEDS
    }
    torch.stack(list(maps.values())).numpy().astype("<f4").tofile(folder / "embeddings.bin")
    (folder / "embeddings.jpg").write_bytes(sheet(pictures.images))
    about: dict[str, Any] = map_panel({"features": maps}, pictures).about
    return about | {"files": ["embeddings.bin", "embeddings.jpg"]}
