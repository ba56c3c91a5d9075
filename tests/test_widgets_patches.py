"""The unit panel's answers: a channel's patches, and where it answers in other pictures."""

import numpy as np
import pytest
import torch
from torch import nn

from lessons_lib.methods.patches import TopActivations, crops, levels
from lessons_lib.methods.receptive_field import receptive_fields
from lessons_lib.widgets.face import packed
from lessons_lib.widgets.patches import QUANTILES, unit_panel


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


def test_the_panel_offers_the_channels_that_there_are(browser):
    patches, _, panel = browser
    layers = panel.about["layers"]
    assert {name: (one["channels"], one["channel"]) for name, one in layers.items()} == {
        "0": (6, 0),
        "1": (4, 2),
    }
    assert (panel.about["quantile"], panel.about["pictures"], panel.about["scenes"]) == (0.02, 9, 8)
    assert panel.about["quantile"] in QUANTILES
    for name, layer in layers.items():
        images, top, field = patches[name]
        assert tuple(layer["patch"]) == crops(images, top, 0, field).shape[2:]
    # the first unit of the second layer sees rows −3 to 3, the next one begins 4 further down
    assert (layers["1"]["map"], layers["1"]["centre"], layers["1"]["stride"]) == ([4, 4], [0.5, 0.5], [4, 4])


@pytest.mark.parametrize(("layer", "channel"), [("0", 5), ("1", 0)])
def test_its_answers_are_those_of_the_library(browser, layer, channel):
    patches, scenes, panel = browser
    answer = panel._answers["unit"](layer=layer, channel=channel)
    images, top, field = patches[layer]
    expected = crops(images, top, channel, field).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(answer["patches"][..., :3], expected)
    assert torch.equal(answer["activations"], top.values[channel])

    pictures, maps, _ = scenes[layer]
    peaks = maps[:, channel].amax((1, 2))
    numbers = answer["numbers"]
    assert numbers == sorted(range(9), key=lambda n: -peaks[n])[:8]
    assert np.array_equal(answer["scenes"][..., :3], pictures[numbers].permute(0, 2, 3, 1).numpy())
    assert torch.equal(answer["maps"], maps[numbers, channel])
    assert answer["levels"].tolist() == [levels(maps, quantile)[channel] for quantile in QUANTILES]

    sent, buffers = packed(answer)
    assert sent["values"] == {"numbers": numbers}
    bytes_of = {name: len(buffers[array["buffer"]]) for name, array in sent["arrays"].items()}
    assert bytes_of == {
        "patches": 4 * expected.size // 3,
        "activations": 4 * 4,
        "scenes": 8 * 4 * 16 * 16,
        "maps": 4 * answer["maps"].numel(),
        "levels": 4 * len(QUANTILES),
    }


def test_a_channel_that_is_not_there_is_refused(browser):
    with pytest.raises(ValueError, match="channel"):
        browser[2]._answers["unit"](layer="1", channel=4)
