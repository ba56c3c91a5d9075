"""The projection panel draws what its controls say, and never a channel that is not there."""

import pytest
import torch
from torch import nn

from lessons_lib.data.pictures import to_input
from lessons_lib.methods.deconvnet import keep, project, trace
from lessons_lib.methods.receptive_field import receptive_fields
from lessons_lib.plots.deconvnet import inspected
from lessons_lib.widgets.deconvnet import projection_panel
from tests.figures import file_of, panel_png

LAYERS = ("relu1", "relu2")


@pytest.fixture
def setting():
    torch.manual_seed(0)
    net = nn.Sequential()
    for name, layer in {
        "conv1": nn.Conv2d(3, 6, 3), "relu1": nn.ReLU(), "pool1": nn.MaxPool2d(3, 2),
        "conv2": nn.Conv2d(6, 4, 3), "relu2": nn.ReLU(),
    }.items():  # fmt: skip
        net.add_module(name, layer)
    images = {name: torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8) for name in ("cat", "dog")}
    return net, images, projection_panel(net, images, LAYERS)


def static(net, image, layer, channel):
    way_up = trace(net, to_input(image[None]), layer)
    down = project(way_up, keep(way_up.activations, channel))
    return panel_png(inspected(image, way_up, down, receptive_fields(net, 16, [layer])[layer], channel))


def test_projection_panel_draws_what_its_controls_say(setting):
    net, images, box = setting
    picture, layer, channel = box.children[0].children
    strongest = int(trace(net, to_input(images["cat"][None]), "relu2").activations[0].amax((1, 2)).argmax())
    assert (layer.value, channel.value, channel.max) == ("relu2", strongest, 3)
    assert file_of(box) == static(net, images["cat"], "relu2", strongest)
    picture.value, layer.value = "dog", "relu1"
    assert channel.max == 5
    channel.value = 5
    assert file_of(box) == static(net, images["dog"], "relu1", 5)
    layer.value = "relu2"
    assert (channel.max, channel.value) == (3, 3)
    assert box.children[1].value == "", "no error on the way"
    assert file_of(box) == static(net, images["dog"], "relu2", 3)
    assert "dog: where channel 3 of relu2" in box.children[-1].value


def test_projection_panel_refuses_an_unknown_layer(setting):
    net, images, _ = setting
    with pytest.raises(ValueError, match="no layer 'relu9'"):
        projection_panel(net, images, ["relu9"])
