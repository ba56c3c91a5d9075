"""``python -m tests.records.finetune_strategies``: strategies of transfer on real data sets, for lesson 07.

Probes, fine-tuning and training from scratch on CIFAR-10 (which must be installed), digits, and ants and bees (the
same). A row for each training and for each probe in the record, which resumes: three seeds of everything come first.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path

import sklearn
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib import records
from lessons_lib.data import cifar10, digits, hymenoptera, photos
from lessons_lib.data.pictures import Pictures
from lessons_lib.finetune import script
from lessons_lib.methods.transfer import Probe, head_from_probe, mapped, transfer, with_old_head
from lessons_lib.models import imagenet
from lessons_lib.networks import features, predict, seeded
from lessons_lib.records import Row
from lessons_lib.training import Settings, fit

NAME = "07_finetune_strategies"
SIZES = {"cifar10": 96, "digits": 64}  # side of the network's input, pixels
LAYERS = (*(f"blocks.{stage}" for stage in range(7)), "global_pool")
PILOT, PILOT_COUNT = 9, 30  # the seed whose pictures only choose rates, and how many of a class it takes
RATES = {"fine-tuned": (1e-4, 3e-4, 1e-3), "from scratch": (1e-3, 3e-3)}
EPOCHS = {10: 20, PILOT_COUNT: 10, 100: 8}  # by pictures of a class
PROBED = (5, 10, 20, 50, 100)
OLD_SIZE = 160  # of the photographs that the old head is asked to name
UNTRAINED = "no training, first answer of 1,000"
CHOICES = {"no training, ant or bee": ("bee",), "no training, ant or bee or apiary": ("bee", "apiary")}
COMMANDS = {
    "fine-tuned": {},
    "fine-tuned from ImageNet's own head": {
        "known": ("ants=ant", "bees=bee"), "learning_rate": 1e-4, "epochs": 4,
    },
    "from scratch": {"from_scratch": True, "size": 128, "epochs": 20},
}  # fmt: skip


def keys() -> Iterator[Row]:
    """What tells each run of the record from the others, in the order in which they are made."""
    for strategy in (UNTRAINED, *CHOICES, "linear probe"):
        yield _key("hymenoptera", strategy, 0)
    for data, (strategy, rates) in itertools.product(SIZES, RATES.items()):
        yield from (_key(data, strategy, PILOT, PILOT_COUNT, pilot=rate) for rate in rates)
    for seeds in (range(3), range(3, 5)):
        for data, seed, count, layer in itertools.product(SIZES, seeds, PROBED, LAYERS):
            yield _key(data, "linear probe", seed, count, layer)
        for count, seed, data, strategy in itertools.product((10, 100), seeds, reversed(SIZES), RATES):
            yield _key(data, strategy, seed, count)
        if 0 in seeds:
            yield from (_key("hymenoptera", strategy, seed) for strategy in COMMANDS for seed in seeds)


def _key(
    data: str,
    strategy: str,
    seed: int,
    per_class: int | None = None,
    layer: str | None = None,
    pilot: float | None = None,
) -> Row:
    return {
        "data": data, "strategy": strategy, "seed": seed, "per_class": per_class, "layer": layer, "pilot": pilot,
    }  # fmt: skip


def run(key: Row) -> Row:
    """The results of one run, with what made them."""
    began = time.process_time()
    kind = insects if key["data"] == "hymenoptera" else probe if key["layer"] else training
    return kind(key) | {
        "network": source().name,
        "timm": timm.__version__,
        "scikit-learn": sklearn.__version__,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


@cache
def source() -> imagenet.ImageNetClassifier:
    """EfficientNet-Lite0, trained on ImageNet."""
    return imagenet.load()


@cache
def pictures(data: str) -> tuple[Pictures, Pictures]:
    """Where training pictures and test pictures are drawn from."""
    if data == "cifar10":
        return cifar10.load("train"), cifar10.load("test")
    return (every := digits.load()), every


def drawn(data: str, count: int, seed: int) -> tuple[Pictures, Pictures]:
    """``count`` training pictures of each class, fewer among more, and test pictures that no count takes.

    Of CIFAR-10 each seed has 1,000 test pictures that no other seed has. The digits are few: 500 are kept for the
    pilot, and of the others the test pictures are all but the first 100 of each class in the seed's order, so that
    those of two seeds overlap.
    """
    pool, tests = pictures(data)
    if data == "digits":
        pool = pool.subset(slice(500) if seed == PILOT else slice(500, None))
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    by_class = [order[pool.labels[order] == k] for k in range(len(pool.classes))]
    train = pool.subset(torch.cat([places[:count] for places in by_class]))
    if data == "cifar10":
        return train, tests.subset(slice(1000 * seed, 1000 * (seed + 1)))
    kept = PILOT_COUNT if seed == PILOT else 100
    return train, pool.subset(torch.cat([places[kept:] for places in by_class]))


def enlarged(data: str) -> Callable[[Tensor], Tensor]:
    """Small pictures as the network's input."""
    size = (SIZES[data], SIZES[data])
    return lambda images: source().normalise(F.interpolate(images.float(), size, mode="bilinear"))


@lru_cache(maxsize=1)
def points(data: str, count: int, seed: int) -> list[dict[str, Tensor]]:
    """The features of all layers, of training pictures and test pictures."""
    parts = drawn(data, count, seed)
    return [features(source().model, x.images, LAYERS, pool=2, transform=enlarged(data)) for x in parts]


def probe(key: Row) -> Row:
    """A softmax probe of one layer."""
    case = key["data"], key["per_class"], key["seed"]
    train, test = drawn(*case)
    learned, asked = (found[key["layer"]] for found in points(*case))
    right = int((Probe("softmax").fit(learned, train.labels).predict(asked) == test.labels).sum())
    settings = {"size": SIZES[key["data"]], "pool": 2, "classifier": "softmax"}
    return {"right": right, "of": len(test), "settings": settings}


def best_rate(key: Row) -> float:
    """The learning rate of a training: that of the pilot, or the one with which the pilot got most right."""
    same = [r for r in records.read(NAME) if (r["data"], r["strategy"]) == (key["data"], key["strategy"])]
    return key["pilot"] or max((r for r in same if r["pilot"]), key=lambda r: r["right"])["pilot"]


def training(key: Row) -> Row:
    """A network that learns in all its layers, from ImageNet's weights and a probe, or from random ones."""
    data, count, seed = key["data"], key["per_class"], key["seed"]
    train, test = drawn(data, count, seed)
    transform, scratch = enlarged(data), key["strategy"] == "from scratch"
    network: nn.Module
    if scratch:
        with seeded(seed):
            network = imagenet.untrained(source().name, len(train.classes))
    else:
        network = transfer(source().model, len(train.classes), seed=seed)
        batches = zip(train.images.split(64), train.labels.split(64), strict=True)
        head_from_probe(network, ((transform(images), labels) for images, labels in batches))
    batch, flip = 16 if count < 50 else 32, data == "cifar10"
    settings = Settings(EPOCHS[count], batch, best_rate(key), flip=flip, seed=seed)
    fit(network, train, None, settings, transform=transform, progress=False)
    right = int((predict(network, test.images, transform=transform).argmax(1) == test.labels).sum())
    norms = "learn" if scratch else "frozen"
    row = {
        "right": right, "of": len(test), "settings": asdict(settings) | {"size": SIZES[data], "norms": norms},
    }  # fmt: skip
    if scratch:
        return row
    asked, labels = old_photographs()
    with torch.no_grad():
        named = source().model(asked).argmax(1) == labels
        kept = with_old_head(network, source().model)(asked).argmax(1) == labels  # type: ignore[arg-type]
    return row | {"old_right": int((named & kept).sum()), "old_of": int(named.sum())}


@cache
def old_photographs() -> tuple[Tensor, Tensor]:
    """Labelled photographs as input, and their ImageNet classes."""
    found = [photos.photo(name) for name in photos.LABELLED]
    images = torch.stack([photos.resized(photo, OLD_SIZE) for photo in found])
    return source().normalise(images), torch.tensor([photo.label for photo in found])


def insects(key: Row) -> Row:
    """Ants and bees: without training, by a probe, or by ``python -m lessons_lib.finetune``."""
    if key["strategy"] not in COMMANDS:
        return without_training(key["strategy"]) | {"settings": {"size": 224}}
    options = script.Options(**COMMANDS[key["strategy"]], seed=key["seed"])  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as out:
        history = script.train(hymenoptera.folder(), Path(out), options, progress=False)
    of = len(hymenoptera.load("val"))
    rights = [round(epoch.accuracy * of) for epoch in history]
    return {"right": rights[-1], "of": of, "by_epoch": rights, "settings": asdict(options)}


def without_training(strategy: str) -> Row:
    """What the network says of ants and bees before any of its layers has seen these photographs."""
    model, transform, test = source().model, source().normalise, hymenoptera.load("val")
    if strategy == "linear probe":
        train, layer = hymenoptera.load("train"), LAYERS[-1]
        learned, asked = (
            features(model, part.images, [layer], transform=transform)[layer] for part in (train, test)
        )
        right = int((Probe("softmax").fit(learned, train.labels).predict(asked) == test.labels).sum())
        return {"right": right, "of": len(test)}
    logits = predict(model, test.images, transform=transform)
    ant, bee, apiary = (source().categories.index(name) for name in ("ant", "bee", "apiary"))
    if strategy in CHOICES:
        groups = [[ant], [source().categories.index(name) for name in CHOICES[strategy]]]
        return {"right": int((mapped(logits, groups).argmax(1) == test.labels).sum()), "of": len(test)}
    first = logits.argmax(1)
    answers = torch.where(first == ant, 0, torch.where((first == bee) | (first == apiary), 1, -1))
    wrong = [source().categories[k] for k in first[answers != test.labels].tolist()]
    right = int((answers == test.labels).sum())
    return {"right": right, "of": len(test), "wrong_answers": dict(Counter(wrong).most_common())}


def main() -> None:
    """Make what the record lacks."""
    for key in keys():
        row = records.once(NAME, key, lambda key=key: run(key))  # type: ignore[misc]
        print(
            *(value for value in key.values() if value is not None),
            f"{row['right']} of {row['of']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
