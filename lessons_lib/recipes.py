"""How each shipped checkpoint was made, and the command that makes it again.

``python -m lessons_lib.recipes small_cnn_cifar10`` trains on the installed data set, saves after every epoch so
that it can be interrupted and run again, and writes the snapshots and a model card to data/checkpoints/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn

from lessons_lib import course
from lessons_lib.data import cifar10
from lessons_lib.data.pictures import Pictures
from lessons_lib.models import checkpoints
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.training import Run, Settings, accuracy, fit


@dataclass(frozen=True)
class Recipe:
    """A network, what it learns from and how.

    Attributes:
        build: makes the untrained network.
        load: gives the pictures of a split, "train" or "test".
        settings: see :class:`lessons_lib.training.Settings`; its seed also decides the initialisation.
        about: a sentence on the network and its data, for the model card.
    """

    build: Callable[[], nn.Module]
    load: Callable[[cifar10.Split], Pictures]
    settings: Settings
    about: str

    def initialise(self) -> nn.Module:
        """The untrained network, the same every time; the caller's random generator is left as it was."""
        with torch.random.fork_rng([]):
            torch.manual_seed(self.settings.seed)
            return self.build()


RECIPES = {
    "small_cnn_cifar10": Recipe(
        build=SmallCNN,
        load=cifar10.load,
        settings=Settings(epochs=20, learning_rate=4e-3, shift=4, snapshots=(0, 1, 2, 5, 10, 20)),
        about="The course's small CNN (`lessons_lib.models.small_cnn.SmallCNN`) trained on CIFAR-10.",
    ),
}


def make(name: str) -> Run:
    """Train the network ``name`` and write its snapshots and model card; an interrupted run goes on where it was.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    course.seed_everything(recipe.settings.seed)
    train, test = recipe.load("train"), recipe.load("test")
    model = recipe.initialise()
    progress = course.data_folder() / "training" / f"{name}.pt"
    run = fit(model, train, test, recipe.settings, checkpoint=progress)
    if run.interrupted:
        print(f"Run the same command again to go on; progress is kept in {progress}.")
        return run
    rows = []
    for epoch, weights in sorted(run.snapshots.items()):
        rounded = {key: w.half().float() if w.is_floating_point() else w for key, w in weights.items()}
        model.load_state_dict(rounded)
        rows.append((epoch, accuracy(model, test)))
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
        source: where the pictures came from.
        rows: epoch and test accuracy (0–1) of each snapshot, measured on the float16 weights.
    """
    settings = "\n".join(f"| {key} | {value} |" for key, value in asdict(recipe.settings).items())
    snapshots = "\n".join(f"| `{checkpoints.file(name, e).name}` | {e} | {share:.4f} |" for e, share in rows)
    last = run.history[-1]
    return f"""# {name}

{recipe.about}

- **Data**: {source}
- **Weights**: float16 safetensors, one file a snapshot; epoch 0 is the initialisation.
- **Input**: float, (N, 3, 32, 32), pictures scaled to [−1, 1] (`lessons_lib.data.pictures.to_input`).
- **Make it again**: `python -m lessons_lib.recipes {name}` with the data set installed (see data/README.md).
- **Measured**: training took {run.seconds:.0f} s; training accuracy in the last epoch, with augmentation and
  dropout on, {last.train_accuracy:.4f}. Another processor or torch version ends a little elsewhere.
- **Meant for**: the lessons. It knows ten classes of 32×32 pictures and nothing else.
- **Licence**: MIT, as the course.

| file | epochs trained | test accuracy of the shipped weights |
|---|---|---|
{snapshots}

| setting | value |
|---|---|
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
