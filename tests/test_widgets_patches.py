"""The unit panel draws what its controls say, and never a channel that is not there."""

import pytest
import torch
from torch import nn

from lessons_lib.methods.patches import TopActivations
from lessons_lib.methods.receptive_field import receptive_fields
from lessons_lib.plots.patches import unit_page
from lessons_lib.widgets.patches import QUANTILES, unit_panel
from tests.figures import file_of, panel_png


@pytest.fixture
def browser():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (9, 3, 16, 16), dtype=torch.uint8, generator=generator)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Conv2d(6, 4, 3, stride=2, padding=1))
    found = receptive_fields(model, 16, ["0", "1"])
    index = torch.arange(4)
    patches = {
        name: (images, TopActivations(torch.rand(n, 4), *[index.expand(n, 4)] * 3), found[name])
        for name, n in (("0", 6), ("1", 4))
    }
    scenes = {
        name: (images, torch.rand(9, n, side, side, generator=generator), found[name])
        for name, n, side in (("0", 6, 8), ("1", 4, 4))
    }
    return patches, scenes, unit_panel(patches, scenes, channels={"1": 2})


def test_unit_panel_draws_what_its_controls_say(browser):
    patches, scenes, box = browser
    layer, channel, quantile = box.children[0].children
    assert (layer.value, channel.value, channel.max, quantile.value) == ("0", 0, 5, 0.02)
    channel.value, quantile.value = 5, 0.1
    static = unit_page(patches["0"], scenes["0"], 5, 0.1, title="0, channel 5: strongest 10.0% of positions")
    assert file_of(box) == panel_png(static)
    layer.value = "1"
    assert (channel.max, channel.value) == (3, 2), "the channel asked for, which this layer has"
    assert box.children[1].value == ""
    static = unit_page(patches["1"], scenes["1"], 2, 0.1, title="1, channel 2: strongest 10.0% of positions")
    assert file_of(box) == panel_png(static)
    assert "channel 2 of 1" in box.children[-1].value


def test_the_least_and_the_greatest_quantile_can_be_drawn(browser):
    _, _, box = browser
    quantile = box.children[0].children[2]
    for value in (QUANTILES[0], QUANTILES[-1]):
        quantile.value = value
        assert box.children[1].value == ""
