"""``python -m tests.records.cifar_activations``: trainings for lesson 01, a row each in its record, which resumes.

*dead*: learning rate × batch norm × bias, on Critters. *short*: the lesson's measures before and after training on
CIFAR-10, which must be installed; ``python -m tests.records.cifar_activations dead`` leaves it out.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib import networks, records, training
from lessons_lib.data import cifar10, critters, to_input
from lessons_lib.data.pictures import Pictures
from lessons_lib.methods import activations, evaluation
from lessons_lib.models import BLOCKS, SmallCNN
from lessons_lib.records import Row

RATES, SEEDS, EPOCHS = (1e-3, 3e-3, 1e-2), range(5), 4


def build(batch_norm: bool, bias: bool, seed: int) -> SmallCNN:
    """The small CNN from He's initial weights, its blocks with or without batch norm and with or without a bias."""
    torch.manual_seed(seed)
    model = SmallCNN(dropout=0.1)
    for name in BLOCKS:
        block = model.get_submodule(name)
        nn.init.kaiming_normal_(block.conv.weight, nonlinearity="relu")
        if batch_norm:
            block.norm.bias.requires_grad_(bias)  # stays 0 if it may not learn
        else:
            block.norm = nn.Identity()
            block.conv.bias = nn.Parameter(torch.zeros(block.conv.out_channels)) if bias else None
    return model


def dead_study() -> Iterator[Row]:
    """Which channels are 0 on every training picture, after each epoch."""
    study, held_out = critters.generate(1500, 32, seed=1), critters.generate(500, 32, seed=2)
    faces = held_out.subset(slice(0, 300))
    animal = ~faces.masks[:, critters.PARTS.index("background")]
    settings = {"epochs": EPOCHS, "batch_size": 64, "translate": 1, "snapshots": tuple(range(EPOCHS + 1))}

    def trained(rate: float, batch_norm: bool, bias: bool, seed: int) -> Row:
        model = build(batch_norm, bias, seed)
        chosen = training.Settings(learning_rate=rate, seed=seed, **settings)
        run = training.fit(model, study, held_out, chosen, progress=False)
        dead, on_animal = [], []
        for weights in run.snapshots.values():
            model.load_state_dict(weights)
            maps = networks.capture(model, to_input(study.images), BLOCKS)
            dead.append({name: activations.dead_channels(stack) for name, stack in maps.items()})
            maps = networks.capture(model, to_input(faces.images), BLOCKS)
            on_animal.append({name: _inside(stack, animal) for name, stack in maps.items()})
        return {
            "pictures": len(study),
            "epochs": EPOCHS,
            "accuracy": round(run.accuracy, 4),
            "dead": _by_block([{k: int(v.sum()) for k, v in d.items()} for d in dead]),
            "woken": _by_block(
                [{k: int((a[k] & ~b[k]).sum()) for k in a} for a, b in itertools.pairwise(dead)]
            ),
            "on_animal": _by_block([{k: on_animal[i][k][0] for k in BLOCKS} for i in (0, -1)]),
            "on_next_animal": _by_block([{k: on_animal[i][k][1] for k in BLOCKS} for i in (0, -1)]),
        }

    for seed, rate, batch_norm, bias in itertools.product(SEEDS, RATES, (True, False), (True, False)):
        yield once("dead", rate, batch_norm, bias, seed, partial(trained, rate, batch_norm, bias, seed))


def _inside(stack: Tensor, animal: Tensor) -> tuple[float, float]:
    """Share of the mean map that lies in each drawing's own mask, and in the next drawing's."""
    mean = stack.mean(1)
    masks = (animal, animal.roll(1, 0))
    own, other = (evaluation.relevance_mass_accuracy(mean, mask).nanmean().item() for mask in masks)
    return round(own, 4), round(other, 4)


def short_study() -> Iterator[Row]:
    """The measures of the lesson before and after short trainings: 5,000 pictures of CIFAR-10, 12 epochs."""
    count, chosen = 5000, training.Settings(12, learning_rate=4e-3, translate=4)

    def trained(seed: int) -> Row:
        learn, test = (cifar10.load(split) for split in ("train", "test"))
        probes = test.subset(slice(0, 250))
        torch.manual_seed(seed)
        model = SmallCNN(dropout=0.1)
        untrained = networks.capture(model, to_input(probes.images), BLOCKS)
        before = measures(untrained, probes)
        run = training.fit(
            model,
            learn.subset(slice(0, count)),
            test.subset(slice(0, 2000)),
            replace(chosen, seed=seed),
            progress=False,
        )
        after = measures(networks.capture(model, to_input(probes.images), BLOCKS), probes)
        cut = {name: as_sparse(untrained[name], share) for name, share in after["sparsity"].items()}
        return {
            "pictures": count,
            "epochs": chosen.epochs,
            "accuracy": round(run.accuracy, 4),
            **{name: _by_block([before[name], after[name]]) for name in before},
            "untrained_cut": measures(cut, probes),
        }

    for seed in SEEDS:
        yield once("short", chosen.learning_rate, True, True, seed, partial(trained, seed))


def as_sparse(stack: Tensor, share: float) -> Tensor:
    """Feature maps less a number for each channel that leaves this share of its activations at 0."""
    limits = stack.transpose(0, 1).flatten(1).quantile(share, dim=1)
    return (stack - limits.view(1, -1, 1, 1)).clamp(min=0)


def measures(maps: dict[str, Tensor], pictures: Pictures) -> dict[str, dict[str, float]]:
    """Each measure of the lesson by block, a mean over channels and pictures."""
    found: dict[str, dict[str, float]] = {}
    images, other = pictures.images, pictures.images.roll(1, 0)
    for name, stack in maps.items():
        moved = activations.shuffled(stack)
        for what, values in {
            "sparsity": (stack == 0).double(),
            "neighbours": activations.neighbour_correlation(stack),
            "spread": activations.spread(stack),
            "spread_shuffled": activations.spread(moved),
            "likeness": activations.likeness(stack, images),
            "likeness_to_another": activations.likeness(stack, other),
        }.items():
            found.setdefault(what, {})[name] = round(values.nanmean().item(), 4)
    return found


def _by_block(rows: list[Row]) -> dict[str, list[Any]]:
    """A list over the ages for each block."""
    return {name: [row[name] for row in rows] for name in BLOCKS}


STUDIES = {"dead": dead_study, "short": short_study}


def once(study: str, rate: float, batch_norm: bool, bias: bool, seed: int, run: Callable[[], Row]) -> Row:
    """The row of a training: from the record, or else made now."""
    key = {"study": study, "learning_rate": rate, "batch_norm": batch_norm, "bias": bias, "seed": seed}
    return records.once("01_cifar_activations", key, run)


def main(studies: Sequence[str]) -> None:
    """Run what the record lacks, a row a training."""
    for study in studies or STUDIES:
        for row in STUDIES[study]():
            print(study, row["learning_rate"], row["seed"], row["accuracy"], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
