"""The chain network has the sizes its lesson counts on, and no part that an explanation could not look into."""

import pytest
import torch
from torch import nn

from lessons_lib.methods.cam import find_head
from lessons_lib.models.chain_cnn import CHANNELS, CONVOLUTIONS, ChainCNN
from lessons_lib.networks import capture

CHAIN = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ChainCNN(classes=7).eval()


def test_sizes(network):
    maps = capture(network, torch.randn(2, 3, 64, 64), (*CONVOLUTIONS, "pool2", "flatten", "linear"))
    assert {name: tuple(value.shape[1:]) for name, value in maps.items()} == {
        "conv1": (16, 32, 32), "conv2": (32, 16, 16), "conv3": (64, 8, 8), "conv4": (96, 8, 8),
        "pool2": (32, 8, 8), "flatten": (96,), "linear": (7,),
    }  # fmt: skip


def test_it_is_a_chain_that_ends_in_averages_and_one_linear_layer(network):
    assert [layer for layer in network if not isinstance(layer, CHAIN)] == []
    head = find_head(network, torch.randn(1, 3, 64, 64))
    assert (head.features, head.linear) == ("relu4", "linear")


def test_any_size_will_do(network):
    for size in (16, 63, 128):
        assert network(torch.randn(1, 3, size, size)).shape == (1, 7)
    for bad in (torch.randn(3, 64, 64), torch.randn(1, 1, 64, 64), torch.randn(1, 3, 64, 15)):
        with pytest.raises(ValueError, match="pictures for ChainCNN"):
            network(bad)


def test_the_signal_neither_fades_nor_grows_before_training(network):
    """He et al. 2015, §2.2: with variance 2 / inputs the signal keeps its size through ReLUs; pooling adds some."""
    inputs = torch.randn(8, 3, 64, 64)
    maps = capture(network, inputs, CONVOLUTIONS)
    sizes = [maps[name].std().item() for name in CONVOLUTIONS]
    assert all(0.5 < size < 5 for size in sizes), sizes
    assert not any(network.get_submodule(name).bias.any() for name in CONVOLUTIONS)
    assert network.conv2.weight.std().item() == pytest.approx((2 / (9 * CHANNELS[0])) ** 0.5, rel=0.1)
