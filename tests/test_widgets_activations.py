"""The channel panel draws what its controls say, and never a channel that is not there."""

import pytest
import torch

from lessons_lib.plots.activations import channel_browser
from lessons_lib.widgets.activations import channel_panel
from tests.figures import file_of, panel_png


@pytest.fixture
def browser():
    images = {name: torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for name in ("cat", "dog")}
    maps = {epoch: {"block1": torch.rand(2, 8, 4, 4), "block2": torch.rand(2, 4, 2, 2)} for epoch in (0, 3)}
    return images, maps, channel_panel(images, maps)


def test_channel_panel_draws_what_its_controls_say(browser):
    images, maps, box = browser
    picture, layer, epoch, channel = box.children[0].children
    assert epoch.value == 3, "the trained network first"
    picture.value, epoch.value, channel.value = "dog", 0, 6
    static = channel_browser(images["dog"], maps[0]["block1"][1], 6, title="block1, before training")
    assert file_of(box) == panel_png(static)
    channel.value = 7
    layer.value = "block2"
    assert (channel.max, channel.value) == (3, 3)
    assert box.children[1].value == ""
    static = channel_browser(images["dog"], maps[0]["block2"][1], 3, title="block2, before training")
    assert file_of(box) == panel_png(static)
