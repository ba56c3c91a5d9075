"""The panel of lesson 11 shows scenes, their twins and maps as the library has them, and so does its static twin."""

import matplotlib.pyplot as plt
import pytest
import torch

from lessons_lib import networks
from lessons_lib.data import critters
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.evaluation import (
    agreement,
    centre_gaussian,
    explain,
    gradient_map,
    part_effects,
    part_masses,
)
from lessons_lib.models.chain_cnn import ChainCNN
from lessons_lib.widgets.evaluation import twin_panel, twin_view
from lessons_lib.widgets.face import packed

TWINS = critters.twins(3, 32, seed=0, species=("cat", "frog"))
EXPLAINERS = {"gradient": gradient_map, "centre": centre_gaussian}


@pytest.fixture
def models():
    torch.manual_seed(0)
    return {"A": ChainCNN(2).eval(), "B": ChainCNN(2).eval()}


def test_the_panel_answers_with_scenes_twins_and_maps(models):
    panel = twin_panel(models, TWINS, EXPLAINERS)
    ask, scene, part, target = panel._answers, 2, "ears", int(TWINS.scenes.labels[2])
    assert panel.about["names"] == list(TWINS.without)
    assert panel.about["scenes"][scene] == TWINS.scenes.classes[target]
    pair = torch.stack([TWINS.scenes.images[scene], TWINS.without[part].images[scene]])
    seen = ask["twins"](scene, part, "B")
    for name, picture in zip(("whole", "without"), pair, strict=True):
        assert torch.as_tensor(seen[name])[..., :3].permute(2, 0, 1).equal(picture)
    assert seen["label"] == target
    torch.testing.assert_close(seen["logits"], networks.predict(models["B"], pair))
    for name, method in EXPLAINERS.items():
        maps = ask["maps"](scene, part, "B", name)["maps"]
        torch.testing.assert_close(maps, explain(method, models["B"], to_input(pair), target))
    assert set(packed(seen)[0]["arrays"]) == {"whole", "without", "logits"}


def test_its_table_is_what_the_referee_compares(models):
    found = twin_panel(models, TWINS, EXPLAINERS)._answers["parts"](1, "A")
    effects = part_effects(models["A"], TWINS)
    maps = [
        explain(method, models["A"], to_input(TWINS.scenes.images), TWINS.scenes.labels)
        for method in EXPLAINERS.values()
    ]
    sums = [part_masses(stack, TWINS) for stack in maps]
    torch.testing.assert_close(found["effects"], effects[1].float(), equal_nan=True, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["sums"], torch.stack([one[1] for one in sums]).float())
    expected = [agreement(one, effects)[1] for one in sums]
    torch.testing.assert_close(found["agreement"], torch.stack(expected).float())


def test_a_row_has_the_picture_its_map_and_its_logit(models):
    figure = twin_view(models["A"], TWINS, 1, "background", gradient_map)
    for row, critter in enumerate((TWINS.scenes, TWINS.without["background"])):
        picture, drawn = figure.axes[2 * row : 2 * row + 2]
        assert (picture.images[0].get_array() == critter.images[1].permute(1, 2, 0).numpy()).all()
        logit = networks.predict(models["A"], critter.images[1:2])[0, critter.labels[1]]
        assert picture.get_ylabel().endswith(f"logit {logit:.1f}")
        assert drawn.images[0].get_array().shape == (32, 32)
    plt.close(figure)
