"""A recipe trains, can be interrupted and run again, and writes snapshots and a model card that are true."""

import re

import pytest
import torch
from torch import nn

from lessons_lib import course, recipes
from lessons_lib.data.pictures import Pictures
from lessons_lib.models import checkpoints
from lessons_lib.networks import accuracy
from lessons_lib.recipes import Recipe
from lessons_lib.training import Epoch, Run, Settings


def pictures(split):
    generator = torch.Generator().manual_seed(len(split))
    labels = torch.arange(64) % 2
    images = torch.randint(0, 100, (64, 3, 8, 8), generator=generator, dtype=torch.uint8)
    images[:, 0] += (labels * 140).view(-1, 1, 1).byte()
    return Pictures(images, labels, ("dark", "red"), f"made in the test, {split}")


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


@pytest.fixture
def kitchen(tmp_path, monkeypatch):
    settings = Settings(epochs=2, batch_size=16, learning_rate=0.02, snapshots=(0, 2), seed=4)
    recipe = Recipe(
        build=network, load=pictures, phases=(recipes.Phase(settings, size=8),), about="A tiny network."
    )
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": recipe})
    monkeypatch.setattr(course, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path / "data"))
    return recipe


def test_the_command_makes_a_checkpoint_that_is_as_good_as_its_card_says(kitchen, capsys):
    assert recipes.main(["tiny"]) == 0
    assert checkpoints.names() == ("tiny",)
    assert checkpoints.epochs("tiny") == (0, 2)
    card = (course.CHECKPOINTS / "tiny" / "README.md").read_text(encoding="utf-8")
    for epoch in (0, 2):
        measured = accuracy(checkpoints.restore(network(), "tiny", epoch), pictures("test"))
        assert checkpoints.test_accuracy("tiny", epoch) == pytest.approx(measured, abs=1e-4)
        assert f"| `epoch_{epoch:02d}.safetensors` | {epoch} | {measured:.4f} |" in card
    assert measured > 0.9
    assert "made in the test, test" in card
    assert "python -m lessons_lib.recipes tiny" in card
    assert "| learning_rate | 0.02 |" in card
    assert f"{measured:.4f}" in capsys.readouterr().out


def test_the_initialisation_repeats_and_leaves_the_callers_generator_alone(kitchen):
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    a, b = kitchen.initialise(), kitchen.initialise()
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_an_interrupted_run_goes_on(kitchen, monkeypatch, capsys):
    calls = []
    real = recipes.fit

    def interrupted(*args, transform, **kwargs):
        def counted(images):
            calls.append(1)
            if len(calls) == 8:  # a first look; then four training batches and the test make an epoch
                raise KeyboardInterrupt
            return transform(images)

        return real(*args, transform=counted, **kwargs)

    monkeypatch.setattr(recipes, "fit", interrupted)
    assert recipes.main(["tiny"]) == 130
    assert "Run the same command again" in capsys.readouterr().out
    assert not course.CHECKPOINTS.exists()
    assert recipes.main(["tiny"]) == 0
    assert len(calls) == 8 + 1 + 5, "only the second epoch is trained again"


def test_phases_follow_each_other_at_their_picture_sizes(kitchen, monkeypatch):
    sizes = []

    def network_of_any_size():
        pool = nn.AdaptiveAvgPool2d(2)
        pool.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), pool, nn.Flatten(), nn.Linear(16, 2)
        )

    phases = (
        recipes.Phase(Settings(epochs=2, batch_size=16, snapshots=(0, 2)), size=8),
        recipes.Phase(Settings(epochs=1, batch_size=16, learning_rate=1e-3, snapshots=(1,)), size=12),
    )
    recipe = Recipe(build=network_of_any_size, load=pictures, phases=phases, about="Two phases.")
    monkeypatch.setitem(recipes.RECIPES, "two", recipe)
    run = recipes.make("two")
    assert [epoch.epoch for epoch in run.history] == [1, 2, 3]
    assert checkpoints.epochs("two") == (0, 2, 3)
    # after a first look an epoch is four batches and a test; at the end each snapshot is tested at the last size
    assert sizes == [6] * (1 + 2 * 5) + [10] * (1 + 5) + [10] * 3
    card = (course.CHECKPOINTS / "two" / "README.md").read_text(encoding="utf-8")
    assert "| picture size | 8 | 12 |" in card
    assert "(N, 3, 12, 12)" in card


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_shipped_card_says_what_the_recipe_and_the_files_say(name):
    card = (course.CHECKPOINTS / name / "README.md").read_text(encoding="utf-8")
    # the two things that are only in the card
    source = re.search(r"accuracies are of (.+)\.\n", card)[1]
    learned = float(re.search(r"dropout on, (\d\.\d{4})\.\n", card)[1])
    rows = [(epoch, checkpoints.test_accuracy(name, epoch)) for epoch in checkpoints.epochs(name)]
    run = Run([Epoch(epoch=1, seconds=0.0, train_loss=0.0, train_accuracy=learned, test_accuracy=0.0)])
    assert card == recipes.model_card(name, recipes.RECIPES[name], run, source, rows)


def test_errors_are_sentences(kitchen, monkeypatch, capsys):
    def fails(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(recipes, "fit", fails)
    assert recipes.main(["tiny"]) == 1
    assert capsys.readouterr().err == "error: No space left on device\n"
    with pytest.raises(ValueError, match="there are: tiny"):
        recipes.make("huge")
