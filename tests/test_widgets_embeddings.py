"""The map panel draws what its controls say."""

import pytest
import torch

from lessons_lib.data.pictures import Pictures
from lessons_lib.plots.embeddings import picked
from lessons_lib.widgets.embeddings import map_panel
from tests.figures import file_of, panel_png

pytestmark = pytest.mark.usefixtures("no_open_figures")


@pytest.fixture
def pictures():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8)
    return Pictures(images, torch.arange(30) % 2, ("cat", "dog"), "noise")


@pytest.fixture
def maps():
    torch.manual_seed(1)
    return {
        space: {(perplexity, seed): torch.randn(30, 2) for perplexity in (2, 5, 30) for seed in (0, 1)}
        for space in ("pixels", "features")
    }


def test_map_panel_draws_what_its_controls_say(maps, pictures):
    box = map_panel(maps, pictures)
    space, perplexity, seed, picture = box.children[0].children
    static = picked(maps["features"][5, 0], pictures, 0, title="features: perplexity 5, seed 0")
    assert file_of(box) == panel_png(static), "what the page shows above the panel"
    space.value, perplexity.value, seed.value, picture.value = "pixels", 30, 1, 29
    static = picked(maps["pixels"][30, 1], pictures, 29, title="pixels: perplexity 30, seed 1")
    assert file_of(box) == panel_png(static)
    assert "picture 29, dog" in box.children[-1].value
    assert picture.max == 29
    assert box.children[1].value == ""
