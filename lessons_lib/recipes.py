"""How each shipped checkpoint was made, and the command that makes it again.

``python -m lessons_lib.recipes small_cnn_cifar10`` trains on the installed data set, saves after every epoch so
that it can be interrupted and run again, and writes the snapshots and a model card to data/checkpoints/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from lessons_lib import course
from lessons_lib.data import cifar10, critters
from lessons_lib.data.pictures import Pictures, to_input
from lessons_lib.models import checkpoints
from lessons_lib.models.chain_cnn import ChainCNN
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.models.zfnet import SmallZFNet
from lessons_lib.networks import accuracy, seeded
from lessons_lib.training import Run, Settings, fit


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one picture size.

    Attributes:
        settings: see ``lessons_lib.training.Settings``.
        size: side in pixels of the pictures the network is given; smaller ones are enlarged.
    """

    settings: Settings
    size: int = 32

    def transform(self, images: Tensor) -> Tensor:
        """The network's input: uint8 pictures scaled to [−1, 1] and resized to ``size``."""
        return to_input(images, self.size)


@dataclass(frozen=True)
class Recipe:
    """A network, what it learns from and how.

    Attributes:
        build: makes the untrained network.
        load: gives the pictures of a split, "train" or "test".
        phases: trained one after the other; small pictures first save time ("progressive resizing"). The seed
            of the first also decides the initialisation.
        about: a sentence on the network and its data, for the model card.
    """

    build: Callable[[], nn.Module]
    load: Callable[[cifar10.Split], Pictures]
    phases: tuple[Phase, ...]
    about: str

    def initialise(self) -> nn.Module:
        """The untrained network, the same every time; the caller's random generator is left as it was."""
        with seeded(self.phases[0].settings.seed):
            return self.build()


def _resnet18() -> nn.Module:
    # imported here, since torchvision takes seconds and whoever only reads a recipe does not need it
    from torchvision.models import resnet18  # noqa: PLC0415

    return resnet18(num_classes=len(cifar10.CLASSES))


def _critters(split: cifar10.Split, bias: float) -> Pictures:
    """Drawn animals, the same for every ``bias``: that decides the backgrounds only."""
    count, seed = (3_000, 1) if split == "train" else (1_000, 2)
    return critters.generate(count, 64, seed=seed, bias=bias)


# Two networks that see the same animals in the same places, and differ by their backgrounds alone.
_CHAIN = Settings(
    epochs=10, batch_size=32, learning_rate=6e-3, warmup=0.15, translate=4, snapshots=(10,), seed=0
)

# Of the ResNet-18: all phases, those with CutMix, and the epoch without it that ends each of these.
_COMMON: dict[str, Any] = {"translate": 4, "label_smoothing": 0.1, "mixed_precision": True}
_MIXED = _COMMON | {"weight_decay": 0.1, "cutmix": 0.5}
_UNMIXED = _COMMON | {"epochs": 1, "learning_rate": 3e-4, "weight_decay": 0.1}

RECIPES = {
    "small_cnn_cifar10": Recipe(
        build=SmallCNN,
        load=cifar10.load,
        phases=(
            Phase(
                Settings(
                    epochs=20,
                    learning_rate=4e-3,
                    translate=4,
                    mixed_precision=True,
                    snapshots=(0, 1, 2, 5, 10, 20),
                )
            ),
        ),
        about="The course's small CNN (`lessons_lib.models.small_cnn.SmallCNN`) trained on CIFAR-10.",
    ),
    "resnet18_cifar10": Recipe(
        build=_resnet18,
        load=cifar10.load,
        phases=(
            Phase(Settings(epochs=8, learning_rate=3e-3, **_COMMON), size=48),
            Phase(Settings(epochs=8, learning_rate=2e-3, cutout=8, **_COMMON), size=64),
            Phase(Settings(epochs=5, learning_rate=1.5e-3, cutout=8, **_COMMON), size=80),
            Phase(Settings(epochs=7, learning_rate=2e-3, weight_decay=0.15, cutout=8, **_COMMON), size=96),
            # The shipped weights differ a little from what this makes: phases 5, 7 and 9 went on from float16 weights,
            # and in phase 5 the first two epochs were the first of twelve and code of our own drew the rectangles.
            Phase(Settings(epochs=10, learning_rate=2e-3, warmup=0.12, seed=1, **_MIXED), size=80),
            Phase(Settings(seed=2, **_UNMIXED), size=96),
            Phase(Settings(epochs=6, learning_rate=1e-3, warmup=0.15, seed=3, **_MIXED), size=96),
            Phase(Settings(seed=4, **_UNMIXED), size=96),
            Phase(Settings(epochs=8, learning_rate=1.5e-3, warmup=0.12, seed=5, **_MIXED), size=96),
            Phase(Settings(snapshots=(1,), seed=6, **_UNMIXED), size=96),
        ),
        about="torchvision's ResNet-18 with ten classes, trained from scratch on enlarged CIFAR-10.",
    ),
    "zfnet_cifar10": Recipe(
        build=SmallZFNet,
        load=cifar10.load,
        phases=(
            Phase(
                Settings(
                    epochs=16,
                    learning_rate=1.5e-3,
                    weight_decay=0.3,
                    filter_rms=0.1,
                    translate=4,
                    mixed_precision=True,
                    snapshots=(0, 1, 2, 4, 8, 12, 16),
                ),
                size=64,
            ),
        ),
        about="The small ZFNet (`lessons_lib.models.zfnet.SmallZFNet`) trained on enlarged CIFAR-10.",
    ),
    "chain_cnn_critters": Recipe(
        build=ChainCNN,
        load=partial(_critters, bias=0.0),
        phases=(Phase(_CHAIN, size=64),),
        about="The chain (`lessons_lib.models.chain_cnn.ChainCNN`) trained on 3,000 Critters, each on any\n"
        "background: network A of lesson 11.",
    ),
    "chain_cnn_critters_biased": Recipe(
        build=ChainCNN,
        load=partial(_critters, bias=1.0),
        phases=(Phase(_CHAIN, size=64),),
        about="The chain (`lessons_lib.models.chain_cnn.ChainCNN`) trained on the same 3,000 animals, each species on\n"
        "a background of its own: network B of lesson 11, which learned the shortcut and is mostly wrong elsewhere.",
    ),
}
"""The recipe of each shipped network, by its name."""


def make(name: str) -> Run:
    """Train the network ``name`` and write its snapshots and model card; an interrupted run goes on where it was.

    Raises:
        ValueError: for an unknown name, or outside a checkout of the repository, to which the snapshots belong.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    if course.INSTALLED:
        raise ValueError(
            "the shipped networks are made in a checkout: clone the repository, and run this there"
        )
    recipe = RECIPES[name]
    course.seed_everything(recipe.phases[0].settings.seed)
    train, test = recipe.load("train"), recipe.load("test")
    model = recipe.initialise()
    folder = course.data_folder() / "training"
    run, rows = Run(), []
    for number, phase in enumerate(recipe.phases, start=1):
        progress = folder / f"{name}_phase_{number}.pt"
        part = fit(model, train, test, phase.settings, transform=phase.transform, checkpoint=progress)
        if part.interrupted:
            print(f"Run the same command again to go on; progress is kept in {progress}.")
            return part
        snapshots = {len(run.history) + epoch: weights for epoch, weights in part.snapshots.items()}
        run.snapshots |= snapshots
        run.history += [replace(epoch, epoch=len(run.history) + epoch.epoch) for epoch in part.history]
    for epoch, weights in sorted(run.snapshots.items()):
        rounded = {key: w.half().float() if w.is_floating_point() else w for key, w in weights.items()}
        model.load_state_dict(rounded)
        rows.append((epoch, accuracy(model, test, transform=recipe.phases[-1].transform)))
        checkpoints.save(name, epoch, rounded, rows[-1][1])
    card = checkpoints.file(name, 0).with_name("README.md")
    card.write_text(model_card(name, recipe, run, test.source, rows), encoding="utf-8")
    print(
        f"{card.parent}: epochs {', '.join(str(epoch) for epoch, _ in rows)}; test accuracy {rows[-1][1]:.4f}."
    )
    return run


def model_card(name: str, recipe: Recipe, run: Run, source: str, rows: list[tuple[int, float]]) -> str:
    """The model card: what the network is, how it was trained, how good each snapshot is as shipped.

    Args:
        name: the checkpoint's name.
        recipe: how it was made.
        run: the finished training.
        source: what the accuracies were measured on.
        rows: epoch and test accuracy (0–1) of each snapshot, measured on the float16 weights.
    """
    size = recipe.phases[-1].size
    installed = " with the data set installed (see data/README.md)" if recipe.load is cifar10.load else ""
    columns = [asdict(phase.settings) | {"picture size": phase.size} for phase in recipe.phases]
    settings = "\n".join(f"| {key} | {' | '.join(str(c[key]) for c in columns)} |" for key in columns[0])
    header = " | ".join(f"phase {n}" for n in range(1, len(columns) + 1)) if len(columns) > 1 else "value"
    snapshots = "\n".join(f"| `{checkpoints.file(name, e).name}` | {e} | {share:.4f} |" for e, share in rows)
    last = run.history[-1]
    return f"""# {name}

{recipe.about}

- **Data**: learned from the training split; accuracies are of {source}.
- **Weights**: float16 safetensors, one file a snapshot; epoch 0 is the initialisation.
- **Input**: float, (N, 3, {size}, {size}), pictures scaled to [−1, 1]
  (`lessons_lib.data.pictures.to_input`).
- **Make it again**: `python -m lessons_lib.recipes {name}`{installed}.
- **Measured**: training accuracy in the last epoch, with augmentation and dropout on, {last.train_accuracy:.4f}.
  Another processor or torch version ends a little elsewhere.
- **Meant for**: the lessons. It knows ten classes of small pictures and nothing else.
- **Licence**: MIT, as the course.

| file | epochs trained | test accuracy of the shipped weights |
|---|---|---|
{snapshots}

| setting | {header} |
|---|{"---|" * len(columns)}
{settings}
"""


def main(arguments: list[str] | None = None) -> int:
    """The command line: make one shipped network again."""
    parser = argparse.ArgumentParser(prog="python -m lessons_lib.recipes", description=main.__doc__)
    parser.add_argument("name", choices=RECIPES, help="the network to train")
    name = parser.parse_args(arguments).name
    try:
        run = make(name)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 130 if run.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
