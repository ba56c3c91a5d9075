"""The small CNN has the architecture the lesson describes."""

import pytest
import torch
from torch import nn

from lessons_lib.models.small_cnn import BLOCKS, CHANNELS, SmallCNN
from lessons_lib.networks import capture


def test_every_block_has_its_size():
    sizes = {
        name: tuple(maps.shape[1:])
        for name, maps in capture(SmallCNN(), torch.randn(2, 3, 32, 32), BLOCKS).items()
    }
    sides = (32, 16, 8, 4, 2)
    assert sizes == {name: (c, s, s) for name, c, s in zip(BLOCKS, CHANNELS, sides, strict=True)}


def test_parameters_by_hand():
    convolutions = sum(9 * a * b for a, b in zip((3, *CHANNELS), CHANNELS, strict=False))
    norms = 2 * sum(CHANNELS)
    heads = (1024 * 64 + 64) + (64 * 10 + 10)
    assert sum(p.numel() for p in SmallCNN().parameters()) == convolutions + norms + heads


def test_equals_the_same_network_written_as_a_list():
    model = SmallCNN(classes=7).eval()
    layers, width = [], 3
    for i, (name, channels) in enumerate(zip(BLOCKS, CHANNELS, strict=True)):
        conv = nn.Conv2d(width, channels, 3, padding=1, bias=False)
        conv.load_state_dict(getattr(model, name).conv.state_dict())
        layers += [nn.MaxPool2d(2)] * (i > 0) + [conv, nn.BatchNorm2d(channels), nn.ReLU()]
        width = channels
    plain = nn.Sequential(*layers, nn.Flatten(), model.embedding, model.classifier).eval()
    inputs = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(model(inputs), plain(inputs))
    assert model(inputs).shape == (3, 7)


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (1, 3, 28, 32), (3, 32, 32)])
def test_other_pictures_are_refused(shape):
    with pytest.raises(ValueError, match="pictures of 32×32"):
        SmallCNN()(torch.zeros(shape))
