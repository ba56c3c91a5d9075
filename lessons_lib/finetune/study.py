"""``python -m lessons_lib.finetune.study``: strategies of transfer on real data sets, for lesson 07.

The rows are kept in ``data/records/07_finetune_strategies.json``. The command does what is missing there, three seeds
of everything first, and can be stopped and called again at any time.
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import sklearn
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib import course
from lessons_lib.data import cifar10, digits, hymenoptera, photos
from lessons_lib.data.pictures import Pictures
from lessons_lib.finetune import script
from lessons_lib.methods.transfer import Probe, head_from_probe, mapped, transfer, with_old_head
from lessons_lib.models import imagenet
from lessons_lib.networks import features, predict, seeded
from lessons_lib.training import Settings, fit

RECORD = course.REPOSITORY / "data" / "records" / "07_finetune_strategies.json"
LAYERS = (*(f"blocks.{stage}" for stage in range(7)), "global_pool")
SEEDS = 5
PILOT, PILOT_COUNT = (
    9,
    30,
)  # the seed whose pictures only choose learning rates, and how many of a class it takes
RATES = {"fine-tuned": (1e-4, 3e-4, 1e-3), "from scratch": (1e-3, 3e-3)}
EPOCHS = {10: 20, PILOT_COUNT: 10, 100: 8, 1000: 3}  # by pictures of a class
PROBED = (5, 10, 20, 50, 100)
OLD_SIZE = 160  # of the photographs that the old head is asked to name

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One training: what it is called, and whether it belongs to the choice of a learning rate."""

    data: str
    strategy: str
    seed: int
    per_class: int | None = None
    rate: float | None = None  # only in the pilot


class Target:
    """A data set to learn, from which each seed draws training pictures and test pictures of its own.

    Args:
        name: "cifar10" or "digits".
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = {"cifar10": 96, "digits": 64}[name]

    @cached_property
    def pictures(self) -> tuple[Pictures, Pictures]:
        """Where training pictures and test pictures are drawn from."""
        if self.name == "cifar10":
            return cifar10.load("train"), cifar10.load("test")
        every = digits.load()
        return every, every

    def drawn(self, count: int, seed: int) -> tuple[Pictures, Pictures]:
        """``count`` training pictures of each class, fewer among more, and test pictures that no count takes.

        Of CIFAR-10 each seed has 1,000 test pictures that no other seed has. The digits are few: 500 are kept for the
        pilot, and of the others the test pictures are all but the first 100 of each class in the seed's order, so that
        those of two seeds overlap.
        """
        pool, tests = self.pictures
        if self.name == "digits":
            pool = tests = pool.subset(slice(500) if seed == PILOT else slice(500, None))
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
        by_class = [order[pool.labels[order] == k] for k in range(len(pool.classes))]
        train = torch.cat([places[:count] for places in by_class])
        if self.name == "cifar10":
            return pool.subset(train), tests.subset(slice(1000 * seed, 1000 * (seed + 1)))
        kept = PILOT_COUNT if seed == PILOT else 100
        return pool.subset(train), tests.subset(torch.cat([places[kept:] for places in by_class]))


class Study:
    """The grid, the rows that are there, and the command that adds one.

    Args:
        path: the file with the rows.
    """

    def __init__(self, path: Path = RECORD) -> None:
        self.path = path
        self.rows: list[Row] = json.loads(path.read_text()) if path.exists() else []
        self.targets = {name: Target(name) for name in ("cifar10", "digits")}

    @cached_property
    def source(self) -> imagenet.ImageNetClassifier:
        """EfficientNet-Lite0, trained on ImageNet."""
        return imagenet.load()

    def missing(self) -> Iterator[Task]:
        """What is still to be done, the pilot first, then seed by seed."""
        done = {
            tuple(row[key] for key in ("data", "strategy", "seed", "per_class", "pilot")) for row in self.rows
        }
        for task in tasks():
            if (task.data, task.strategy, task.seed, task.per_class, task.rate) not in done:
                yield task

    def run(self) -> None:
        """Do what is missing; after each task the file holds its rows."""
        for task in self.missing():
            began = time.process_time()
            for found in self.do(task):
                row = asdict(task) | {"layer": None} | found
                row["pilot"] = row.pop("rate")
                self.rows.append(row | self.made(time.process_time() - began))
            part = self.path.with_suffix(".part")
            part.write_text("[\n" + ",\n".join(json.dumps(row) for row in self.rows) + "\n]\n")
            part.replace(self.path)
            print(task, [row["right"] for row in self.rows[-8:]], flush=True)

    def made(self, seconds: float) -> Row:
        """By what, on what and when a row was made."""
        return {
            "network": self.source.name,
            "torch": torch.__version__.partition("+")[0],
            "timm": timm.__version__,
            "scikit-learn": sklearn.__version__,
            "processor": torch.backends.cpu.get_cpu_capability(),
            "cpu_seconds": round(seconds, 1),
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        }

    def do(self, task: Task) -> list[Row]:
        """The rows of one task."""
        if task.data == "hymenoptera":
            return self.insects(task)
        if task.strategy == "linear probe":
            return self.probes(task)
        return [self.training(task)]

    def enlarged(self, size: int) -> Callable[[Tensor], Tensor]:
        """Small pictures as the network's input."""

        def transform(images: Tensor) -> Tensor:
            return self.source.normalise(F.interpolate(images.float(), (size, size), mode="bilinear"))

        return transform

    def probes(self, task: Task) -> list[Row]:
        """Softmax probes of every layer with these pictures."""
        target = self.targets[task.data]
        train, test = target.drawn(task.per_class or 0, task.seed)
        points = [
            features(self.source.model, part.images, LAYERS, pool=2, transform=self.enlarged(target.size))
            for part in (train, test)
        ]
        rows = []
        for layer in LAYERS:
            probe = Probe("softmax").fit(points[0][layer], train.labels)
            right = int((probe.predict(points[1][layer]) == test.labels).sum())
            settings = {"size": target.size, "pool": 2, "classifier": "softmax"}
            rows.append({"layer": layer, "right": right, "of": len(test), "settings": settings})
        return rows

    def rate(self, task: Task) -> float:
        """The learning rate of a training: that of the pilot, or the one with which the pilot got most right."""
        if task.rate is not None:
            return task.rate
        pilot = [
            row
            for row in self.rows
            if row["pilot"] and (row["data"], row["strategy"]) == (task.data, task.strategy)
        ]
        return max(pilot, key=lambda row: row["right"])["pilot"]

    def training(self, task: Task) -> Row:
        """A network that learns in all its layers, from ImageNet's weights and a probe, or from random ones."""
        target, count = self.targets[task.data], task.per_class or 0
        train, test = target.drawn(count, task.seed)
        transform = self.enlarged(target.size)
        scratch = task.strategy == "from scratch"
        network: nn.Module
        if scratch:
            with seeded(task.seed):
                network = imagenet.untrained(self.source.name, len(train.classes))
        else:
            network = transfer(self.source.model, len(train.classes), seed=task.seed)
            head_from_probe(
                network,
                (
                    (transform(train.images[i : i + 64]), train.labels[i : i + 64])
                    for i in range(0, len(train), 64)
                ),
            )
        settings = Settings(
            EPOCHS[count],
            16 if count < 50 else 32,
            self.rate(task),
            flip=task.data == "cifar10",
            seed=task.seed,
        )
        fit(network, train, None, settings, transform=transform, progress=False)
        right = int((predict(network, test.images, transform=transform).argmax(1) == test.labels).sum())
        row = {
            "right": right,
            "of": len(test),
            "settings": asdict(settings) | {"size": target.size, "norms": "learn" if scratch else "frozen"},
        }
        if scratch:
            return row
        asked, labels = self.old_photographs
        with torch.no_grad():
            named = self.source.model(asked).argmax(1) == labels
            kept = with_old_head(network, self.source.model)(asked).argmax(1) == labels  # type: ignore[arg-type]
        return row | {"old_right": int((named & kept).sum()), "old_of": int(named.sum())}

    @cached_property
    def old_photographs(self) -> tuple[Tensor, Tensor]:
        """Labelled photographs as input, and their ImageNet classes."""
        found = [photos.photo(name) for name in photos.LABELLED]
        images = torch.stack([photos.resized(photo, OLD_SIZE) for photo in found])
        return self.source.normalise(images), torch.tensor([photo.label for photo in found])

    @cached_property
    def insect_logits(self) -> tuple[Tensor, Tensor]:
        """ImageNet's 1,000 logits of the validation photographs, and their labels."""
        test = hymenoptera.load("val")
        return predict(self.source.model, test.images, transform=self.source.normalise), test.labels

    def insects(self, task: Task) -> list[Row]:
        """Ants and bees: without training, by a probe, or by the command of the lesson."""
        if task.strategy.startswith("no training") or task.strategy == "linear probe":
            return [self.without_training(task.strategy) | {"settings": {"size": 224}}]
        options = {
            "fine-tuned": script.Options(seed=task.seed),
            "fine-tuned from ImageNet's own head": script.Options(
                known=("ants=ant", "bees=bee"), learning_rate=1e-4, epochs=4, seed=task.seed
            ),
            "from scratch": script.Options(from_scratch=True, size=128, epochs=20, seed=task.seed),
        }[task.strategy]
        with tempfile.TemporaryDirectory() as out:
            history = script.train(hymenoptera.folder(), Path(out), options, progress=False)
        of = len(self.insect_logits[1])
        rights = [round(epoch.accuracy * of) for epoch in history]
        return [{"right": rights[-1], "of": of, "by_epoch": rights, "settings": asdict(options)}]

    def without_training(self, strategy: str) -> Row:
        """What the network says of ants and bees before any of its layers has seen these photographs."""
        logits, labels = self.insect_logits
        ant, bee, apiary = (self.source.categories.index(name) for name in ("ant", "bee", "apiary"))
        if strategy == "linear probe":
            train = hymenoptera.load("train")
            test = hymenoptera.load("val")
            points = [
                features(self.source.model, part.images, LAYERS[-1:], transform=self.source.normalise)[
                    LAYERS[-1]
                ]
                for part in (train, test)
            ]
            answers = Probe("softmax").fit(points[0], train.labels).predict(points[1])
        elif strategy == "no training, first answer of 1,000":
            first = logits.argmax(1)
            answers = torch.where(first == ant, 0, torch.where((first == bee) | (first == apiary), 1, -1))
        else:
            groups = [[ant], [bee]] if strategy.endswith("ant or bee") else [[ant], [bee, apiary]]
            answers = mapped(logits, groups).argmax(1)
        row: Row = {"right": int((answers == labels).sum()), "of": len(labels)}
        if strategy.startswith("no training, first"):
            wrong = [self.source.categories[k] for k in logits.argmax(1)[answers != labels].tolist()]
            row["wrong_answers"] = dict(Counter(wrong).most_common())
        return row


def tasks() -> Iterator[Task]:
    """All that the record is to hold, in the order in which it is done."""
    for strategy in (
        "no training, first answer of 1,000",
        "no training, ant or bee",
        "no training, ant or bee or apiary",
        "linear probe",
    ):
        yield Task("hymenoptera", strategy, 0)
    for data in ("cifar10", "digits"):
        for strategy, rates in RATES.items():
            yield from (Task(data, strategy, PILOT, PILOT_COUNT, rate) for rate in rates)
    for seeds in (range(3), range(3, SEEDS)):
        for data in ("cifar10", "digits"):
            yield from (Task(data, "linear probe", seed, count) for seed in seeds for count in PROBED)
        for count in (10, 100):
            for seed in seeds:
                yield from (Task(data, kind, seed, count) for data in ("digits", "cifar10") for kind in RATES)
        if 0 in seeds:
            for strategy in ("fine-tuned", "fine-tuned from ImageNet's own head", "from scratch"):
                yield from (Task("hymenoptera", strategy, seed) for seed in seeds)
    for seed in range(3):
        yield Task("cifar10", "linear probe", seed, 1000)
        yield from (Task("cifar10", strategy, seed, 1000) for strategy in RATES)


def main() -> int:
    """The command: do what is missing. Returns the exit code."""
    study = Study()
    try:
        study.run()
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
