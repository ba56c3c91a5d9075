"""The panel of lesson 11 draws what its controls say, and asks each network once."""

import pytest
import torch

from lessons_lib.data import critters
from lessons_lib.methods.evaluation import centre_gaussian, gradient_map
from lessons_lib.models.chain_cnn import ChainCNN
from lessons_lib.widgets.evaluation import STEPS, removal_panel, removal_view
from tests.figures import file_of, panel_png

FACES = critters.generate(3, 32, seed=0, species=("cat", "frog"))


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return {"A": ChainCNN(2).eval(), "B": ChainCNN(2).eval()}


def test_the_panel_draws_what_its_controls_say(networks):
    explainers = {"gradient": gradient_map, "centre": centre_gaussian}
    box = removal_panel(networks, FACES, explainers)
    picture, network, method, taken = box.children[0].children
    assert file_of(box) == panel_png(removal_view(networks["A"], FACES, 0, gradient_map, 4))
    picture.value, network.value, method.value, taken.value = 2, "B", "centre", 13
    assert file_of(box) == panel_png(removal_view(networks["B"], FACES, 2, centre_gaussian, 13))
    assert box.children[1].value == ""
    species = FACES.classes[int(FACES.labels[2])]
    assert f"A {species}, the map of centre for network B" in box.children[-1].value
    assert "top 65%" in box.children[-1].value
    taken.value = STEPS
    assert box.children[1].value == "", "all of the picture may go"


def test_what_is_known_is_not_asked_again(networks):
    asked = []

    def watch(model, picture, target):
        asked.append(target)
        return picture[0]

    box = removal_panel(networks, FACES, {"watch": watch})
    picture, network, _, taken = box.children[0].children
    for taken.value in (1, 2, 3):
        pass
    assert len(asked) == 1
    network.value, picture.value = "B", 1
    assert len(asked) == 3
    network.value, picture.value = "A", 0
    assert len(asked) == 4, "A had not been asked about the second picture"


def test_there_must_be_something_to_choose_from(networks):
    for models, faces, explainers in (
        ({}, FACES, {"gradient": gradient_map}),
        (networks, FACES, {}),
        (networks, FACES.subset([]), {"gradient": gradient_map}),
    ):
        with pytest.raises(ValueError, match="at least one"):
            removal_panel(models, faces, explainers)
    with pytest.raises(ValueError, match="0–20"):
        removal_view(networks["A"], FACES, 0, gradient_map, 21)
