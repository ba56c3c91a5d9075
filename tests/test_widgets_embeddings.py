"""The map panel's answers: the places of each map, and all pictures in one."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lessons_lib.data.pictures import Pictures
from lessons_lib.plots.embeddings import class_colour, class_mark
from lessons_lib.widgets.embeddings import COLUMNS, map_panel
from lessons_lib.widgets.face import packed


@pytest.fixture
def pictures():
    """Pictures of one colour each, so that they can be recognised in a JPEG."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 1, 1), dtype=torch.uint8).expand(-1, -1, 16, 32).contiguous()
    return Pictures(images, torch.arange(30) % 2, ("cat", "dog"), "noise")


@pytest.fixture
def maps():
    torch.manual_seed(1)
    return {
        space: {(perplexity, seed): torch.randn(30, 2) for perplexity in (30, 2.5, 5) for seed in (1, 0)}
        for space in ("pixels", "features")
    }


def test_the_panel_offers_what_there_is_and_begins_in_the_middle(maps, pictures):
    about = map_panel(maps, pictures).about
    assert about["spaces"] == ["pixels", "features"]
    assert (about["perplexities"], about["perplexity"], about["seeds"]) == ([2.5, 5, 30], 5, [0, 1])
    assert about["labels"] == pictures.labels.tolist()
    assert about["classes"][1] == {"name": "dog", "colour": class_colour(1), "mark": class_mark(1)}


def test_its_maps_are_those_it_was_given(maps, pictures):
    answers = map_panel(maps, pictures)._answers
    for space, some in maps.items():
        for (perplexity, seed), placed in some.items():
            sent, (places,) = packed(answers["map"](space=space, perplexity=perplexity, seed=seed))
            assert sent["arrays"]["places"]["type"] == "Float32Array"
            assert np.array_equal(np.frombuffer(places, np.float32).reshape(30, 2), placed.numpy())


def test_a_picture_lies_where_the_panel_looks_for_it(maps, pictures):
    panel = map_panel(maps, pictures)
    sent, (file,) = packed(panel._answers["pictures"]())
    assert sent["arrays"]["file"]["type"] == "Uint8Array"
    sheet = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), int)
    width, height = panel.about["width"], panel.about["height"]
    assert (width, height, panel.about["columns"]) == (32, 16, COLUMNS)
    for i in (0, COLUMNS - 1, COLUMNS, 29):
        top, left = i // COLUMNS * height, i % COLUMNS * width
        tile = sheet[top : top + height, left : left + width]
        assert np.abs(tile - pictures.images[i].permute(1, 2, 0).numpy()).mean() < 3


def test_a_map_of_other_pictures_and_too_many_classes_are_refused(maps, pictures):
    with pytest.raises(ValueError, match="a map of these pictures"):
        map_panel({"features": {(5, 0): torch.randn(29, 2)}}, pictures)
    many = Pictures(pictures.images, pictures.labels, tuple("abcdefghijk"), "noise")
    with pytest.raises(ValueError, match="number of classes"):
        map_panel(maps, many)
