"""The channel panel offers what it is given, and answers with the maps of the chosen picture, layer and epoch."""

import numpy as np
import pytest
import torch

from lessons_lib.widgets.activations import channel_panel
from lessons_lib.widgets.face import packed

NAMES = ("cat", "dog")


@pytest.fixture
def images():
    return {name: torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for name in NAMES}


@pytest.fixture
def maps():
    return {epoch: {"block1": torch.rand(2, 8, 4, 6), "block2": torch.rand(2, 4, 2, 2)} for epoch in (0, 3)}


def test_it_offers_pictures_layers_and_ages(images, maps):
    about = channel_panel(images, maps).about
    assert (about["pictures"], about["layers"]) == (["cat", "dog"], ["block1", "block2"])
    assert (about["epochs"], about["ages"]) == ([0, 3], ["before training", "after epoch 3"])


def test_it_answers_with_the_maps_of_one_picture_and_with_its_pixels(images, maps):
    panel = channel_panel(images, maps)
    for i, name in enumerate(NAMES):
        for epoch, by_layer in maps.items():
            for layer, expected in by_layer.items():
                answer, (buffer,) = packed(panel._answers["maps"](name, epoch, layer))
                assert answer["values"]["shape"] == list(expected.shape[1:])
                assert answer["arrays"]["maps"]["type"] == "Float32Array"
                found = np.frombuffer(buffer, np.float32).reshape(expected.shape[1:])
                assert np.array_equal(found, expected[i].numpy())
        seen = panel._answers["picture"](name)
        assert (seen["title"], seen["width"], seen["height"]) == (name, 32, 32)
        assert np.array_equal(seen["pixels"][..., :3], images[name].permute(1, 2, 0).numpy())


def test_maps_of_half_precision_reach_the_browser(images, maps):
    half = {
        epoch: {layer: stack.half() for layer, stack in by_layer.items()} for epoch, by_layer in maps.items()
    }
    _, (buffer,) = packed(channel_panel(images, half)._answers["maps"]("dog", 3, "block2"))
    assert np.frombuffer(buffer, np.float32).size == 16
