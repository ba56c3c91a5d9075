"""Checkpoints come back as they were saved, to float16, and a bad one is refused with a reason."""

import pytest
import torch
from torch import nn

from lessons_lib import course
from lessons_lib.data import critters
from lessons_lib.models import ChainCNN, checkpoints
from lessons_lib.networks import accuracy
from lessons_lib.recipes import RECIPES


def network(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty checkpoint folder with one network, saved after epochs 0 and 3."""
    monkeypatch.setattr(course, "CHECKPOINTS", tmp_path)
    for epoch in (0, 3):
        torch.manual_seed(epoch)
        checkpoints.save("tiny", epoch, network().state_dict(), test_accuracy=epoch / 10)
    (tmp_path / "tiny" / "README.md").write_text("card")
    return tmp_path


def test_round_trip(shelf):
    assert checkpoints.names() == ("tiny",)
    assert checkpoints.epochs("tiny") == (0, 3)
    torch.manual_seed(3)
    expected = network().state_dict()
    model = checkpoints.restore(network(), "tiny")
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        torch.testing.assert_close(tensor, expected[name], atol=1e-3, rtol=1e-3)
    assert checkpoints.test_accuracy("tiny") == 0.3
    assert checkpoints.test_accuracy("tiny", 0) == 0
    assert not list(shelf.rglob("*.part"))


def test_unknown_names_and_epochs(shelf):
    with pytest.raises(ValueError, match="choose from 'tiny'"):
        checkpoints.epochs("huge")
    with pytest.raises(ValueError, match="choose from 0, 3"):
        checkpoints.restore(network(), "tiny", 2)


def test_damaged_and_unfitting_files(shelf):
    file = checkpoints.file("tiny", 0)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match="git checkout"):
        checkpoints.restore(network(), "tiny", 0)
    with pytest.raises(ValueError, match="does not fit"):
        checkpoints.restore(network(5), "tiny", 3)


def test_weights_too_large_for_float16_are_not_saved(shelf):
    weights = network().state_dict()
    weights["0.weight"].fill_(1e6)
    with pytest.raises(ValueError, match=r"0\.weight.* not finite"):
        checkpoints.save("broken", 0, weights, 0.5)
    assert not (shelf / "broken").exists()


def test_a_full_disk_leaves_the_previous_file(shelf, monkeypatch):
    before = checkpoints.file("tiny", 3).read_bytes()

    def full(weights, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save("tiny", 3, network().state_dict(), 0.5)
    assert checkpoints.file("tiny", 3).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "epochs", "least"),
    [
        ("small_cnn_cifar10", (0, 1, 2, 5, 10, 20), 0.85),
        ("zfnet_cifar10", (0, 1, 2, 4, 8, 12, 16), 0.80),
        ("resnet18_cifar10", (55,), 0.90),
        ("chain_cnn_critters", (10,), 0.95),
        ("chain_cnn_critters_biased", (10,), 0.95),
    ],
)
def test_shipped_networks_fit_and_learned(name, epochs, least):
    assert checkpoints.epochs(name) == epochs
    accuracies = [checkpoints.test_accuracy(name, epoch) for epoch in epochs]
    assert accuracies == sorted(accuracies)
    assert (accuracies[0] < 0.2) == (epochs[0] == 0)
    assert accuracies[-1] >= least
    for epoch in epochs:
        checkpoints.restore(RECIPES[name].build(), name, epoch)


def test_one_of_the_chains_reads_the_animal_and_the_other_the_background():
    mixed = critters.generate(200, 64, seed=4)
    only_backgrounds = critters.generate(200, 64, seed=4, bias=1.0, changed={"head": None, "ears": None})
    names = "chain_cnn_critters", "chain_cnn_critters_biased"
    reads_animals, reads_backgrounds = (checkpoints.restore(ChainCNN(), name) for name in names)
    for pictures, high, low in (
        (mixed, reads_animals, reads_backgrounds),
        (only_backgrounds, reads_backgrounds, reads_animals),
    ):
        assert accuracy(high, pictures) > 0.9
        assert accuracy(low, pictures) < 0.3


def test_shipped_networks_stay_small():
    total = sum(file.stat().st_size for file in course.CHECKPOINTS.rglob("*.safetensors"))
    assert total < 60e6
