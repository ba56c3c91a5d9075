"""The panel of lesson 11 draws what its controls say."""

import pytest
import torch

from lessons_lib import networks
from lessons_lib.data import critters
from lessons_lib.methods.evaluation import centre_gaussian, gradient_map
from lessons_lib.models.chain_cnn import ChainCNN
from lessons_lib.widgets.evaluation import twin_panel, twin_view
from tests.figures import file_of, panel_png

TWINS = critters.twins(3, 32, seed=0, species=("cat", "frog"))
EXPLAINERS = {"gradient": gradient_map, "centre": centre_gaussian}


@pytest.fixture
def models():
    torch.manual_seed(0)
    return {"A": ChainCNN(2).eval(), "B": ChainCNN(2).eval()}


def test_the_panel_draws_what_its_controls_say(models):
    box = twin_panel(models, TWINS, EXPLAINERS)
    scene, part, network, method = box.children[0].children
    assert file_of(box) == panel_png(twin_view(models["A"], TWINS, 0, "left_eye", gradient_map))
    scene.value, part.value, network.value, method.value = 2, "ears", "B", "centre"
    assert file_of(box) == panel_png(twin_view(models["B"], TWINS, 2, "ears", centre_gaussian))
    assert box.children[1].value == ""
    species = TWINS.scenes.classes[int(TWINS.scenes.labels[2])]
    assert f"A {species}, whole and without its ears, each with the map of centre" in box.children[-1].value


def test_a_row_has_the_picture_its_map_and_its_logit(models):
    figure = twin_view(models["A"], TWINS, 1, "background", gradient_map)
    for row, critter in enumerate((TWINS.scenes, TWINS.without["background"])):
        picture, drawn = figure.axes[2 * row : 2 * row + 2]
        assert (picture.images[0].get_array() == critter.images[1].permute(1, 2, 0).numpy()).all()
        logit = networks.predict(models["A"], critter.images[1:2])[0, critter.labels[1]]
        assert picture.get_ylabel().endswith(f"logit {logit:.1f}")
        assert drawn.images[0].get_array().shape == (32, 32)
