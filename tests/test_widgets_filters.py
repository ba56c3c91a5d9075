"""The filter panel offers each network's layers and ages, and answers with weights and their autocorrelation."""

import numpy as np
import pytest
import torch

from lessons_lib.methods.filters import autocorrelation, noise_deviation
from lessons_lib.widgets.face import packed
from lessons_lib.widgets.filters import filter_panel, strongest


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return {
        "small": {
            age: {"conv1": torch.randn(8, 3, 3, 3), "conv2": torch.randn(4, 8, 3, 3)}
            for age in ("new", "old")
        },
        "large": {"trained": {"stem": torch.randn(2, 3, 5, 5)}},
    }


def test_it_offers_layers_with_the_ages_of_their_network(networks):
    layers = filter_panel(networks).about["layers"]
    assert [told["name"] for told in layers] == ["small: conv1, 3×3", "small: conv2, 3×3", "large: stem, 5×5"]
    assert [told["ages"] for told in layers] == [["new", "old"], ["new", "old"], ["trained"]]
    assert [told["inputs"] for told in layers] == [3, 8, 3]
    assert layers[2]["noise"] == noise_deviation(networks["large"]["trained"]["stem"])


def test_it_answers_with_the_weights_of_a_layer_at_an_age(networks):
    panel = filter_panel(networks)
    answer, buffers = packed(panel._answers["filters"](layer=0, age=1))
    expected = networks["small"]["old"]["conv1"]
    weights, channels, smooth = (
        np.frombuffer(buffer, kind) for buffer, kind in zip(buffers, ("f4", "i4", "f4"), strict=True)
    )
    assert list(answer["arrays"]) == ["weights", "channels", "autocorrelation"]
    assert answer["values"]["shape"] == [8, 3, 3, 3]
    assert np.array_equal(weights.reshape(8, 3, 3, 3), expected.numpy())
    assert channels.tolist() == [0, 1, 2] * 8, "colours keep their order"
    assert np.allclose(smooth, autocorrelation(expected))


def test_of_many_input_channels_the_strongest_come_first(networks):
    filters = networks["small"]["new"]["conv2"]
    told, few = strongest(filters), strongest(filters, 3)
    assert (told["shape"], few["shape"]) == ([4, 8, 3, 3], [4, 3, 3, 3])
    for i, filter_ in enumerate(filters):
        norms = filter_.flatten(1).norm(dim=1)
        assert torch.equal(norms[told["channels"][i]], norms.sort(descending=True).values)
        assert torch.equal(told["weights"][i], filter_[told["channels"][i]])
        assert torch.equal(few["weights"][i], told["weights"][i, :3])
    assert torch.equal(few["autocorrelation"], autocorrelation(filters).float()), "of all input channels"


def test_filters_of_one_channel_and_silent_ones_are_told(networks):
    filters = torch.zeros(2, 1, 3, 3)
    filters[0] = 1
    told = strongest(filters)
    assert told["shape"] == [2, 1, 3, 3]
    assert told["autocorrelation"].isnan().tolist() == [False, True]
