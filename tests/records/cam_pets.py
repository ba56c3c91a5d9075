"""``python -m tests.records.cam_pets``: the CAM network of lesson 05 on photographs, a row a training, which resumes.

The sample of 370 photographs of Oxford-IIIT Pets at 224 pixels (``python -m lessons_lib.data install pets``, or its
archive in the folder ``LESSONS_ARCHIVES``), EfficientNet-Lite0, divided anew for each seed. One epoch of the head
alone, then five more with the rates of fastai's ``fine_tune``: of everything (*all*) or of the head alone (*head*).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from lessons_lib import course, networks, records
from lessons_lib.data import pets, photos
from lessons_lib.data.pictures import Pictures
from lessons_lib.methods import cam
from lessons_lib.models.fastai import Backbone, FrozenBatchNorm, backbone, dataloaders
from lessons_lib.records import Row

from fastai.vision.all import (  # isort: skip  (the bridge first, which keeps its import silent)
    CrossEntropyLossFlat,
    DataLoader,
    DataLoaders,
    Learner,
    Normalize,
    accuracy,
    default_split,
)

SIZE, BATCH, SEEDS = 224, 16, range(3)


def photographs() -> tuple[list[str], Pictures]:
    """The sample as cats and dogs, with the names of its files."""
    paths = pets.files()
    images = torch.stack([photos.resized(photos.open_picture(path), SIZE) for path in paths])
    labels = torch.tensor([int(not pets.is_cat(path)) for path in paths])
    return [path.name for path in paths], Pictures(images, labels, ("cat", "dog"), "Oxford-IIIT Pets")


def near_zero(maps: Tensor) -> float:
    """Share of a map's positions with less than a tenth of its largest evidence for or against; a mean of all maps."""
    size = maps.flatten(2).abs()
    return round((size < size.amax(2, keepdim=True) / 10).double().mean().item(), 4)


def in_batches(maps: Tensor, labels: Tensor, learn: list[int], hold: list[int]) -> DataLoaders:
    """Feature maps computed before, as the loaders of pictures are: shuffled, without the last, smaller batch."""
    sets = [[(maps[i], labels[i]) for i in which] for which in (learn, hold)]
    return DataLoaders(
        DataLoader(sets[0], bs=BATCH, shuffle=True, drop_last=True, num_workers=0),
        DataLoader(sets[1], bs=BATCH, num_workers=0),
    )


def fit(network: nn.Module, loaders: DataLoaders, epochs: int, rate: slice, **options: float) -> list[float]:
    """Train with one cycle; the accuracy after each epoch."""
    learner = Learner(
        loaders,
        network,
        loss_func=CrossEntropyLossFlat(),
        metrics=accuracy,
        splitter=default_split,
        train_bn=False,
        cbs=FrozenBatchNorm,
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, rate, **options)
    return [row[-1] for row in learner.recorder.values]


def trained(
    arch: Backbone, names: list[str], pictures: Pictures, maps: Tensor, everything: bool, seed: int
) -> Row:
    """Right answers on the validation photographs after each of six epochs, and positions that say nothing."""
    learn, hold = ([names.index(path.name) for path in part] for part in pets.split(names, seed=seed))
    course.seed_everything(seed)  # fastai shuffles by Python's generator
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps.shape[1], 2, bias=False))
    before = near_zero(cam.evidence(maps[hold], head[2].weight.detach()))
    features = in_batches(maps, pictures.labels, learn, hold)
    right = fit(head, features, 1, slice(2e-3), pct_start=0.99)
    first = near_zero(cam.evidence(maps[hold], head[2].weight.detach()))
    if everything:
        network = nn.Sequential(body_of(arch), head)
        loaders = dataloaders(pictures.subset(learn), pictures.subset(hold), batch_size=BATCH)
        loaders.add_tfms([Normalize.from_stats(arch.classifier.mean, arch.classifier.std)], "after_batch")
        right += fit(network, loaders, 5, slice(1e-5, 1e-3), div=5.0)
        after = networks.capture(network, arch.classifier.normalise(pictures.images[hold]), ["0"])["0"]
    else:
        right += fit(head, features, 5, slice(1e-3), div=5.0)
        after = maps[hold]
    return {
        "pictures": len(learn),
        "validated": len(hold),
        "right": [round(share * len(hold)) for share in right],
        "near_zero": [before, first, near_zero(cam.evidence(after, head[2].weight.detach()))],
    }


def body_of(arch: Backbone) -> nn.Module:
    """A fresh copy of the pretrained network up to its last feature maps."""
    return nn.Sequential(*list(arch().children())[:-2])


def main() -> None:
    """Run what the record lacks."""
    arch = backbone()
    names, pictures = photographs()
    maps = networks.capture(nn.Sequential(body_of(arch)), arch.classifier.normalise(pictures.images), ["0"])[
        "0"
    ]
    for seed in SEEDS:
        for what in ("all", "head"):
            run = partial(trained, arch, names, pictures, maps, what == "all", seed)
            row = records.once("05_fastai_cam_pets", {"study": what, "seed": seed}, run)
            print(what, seed, row["right"], "of", row["validated"], flush=True)


if __name__ == "__main__":
    main()
