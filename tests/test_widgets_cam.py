"""The panel of class activation maps draws what its controls say."""

import pytest
import torch

from lessons_lib.methods.cam import Evidence
from lessons_lib.plots.cam import explain
from lessons_lib.widgets.cam import cam_panel
from tests.figures import file_of, panel_png


@pytest.fixture
def browser():
    torch.manual_seed(0)
    images = {name: torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for name in ("Tom", "Spike")}
    maps = torch.randn(2, 3, 4, 4)
    found = Evidence(maps, maps.mean(dim=(2, 3)))
    return images, found, cam_panel(images, found, ("cat", "dog", "mouse"), [0, 1, 2])


def test_the_panel_draws_what_its_controls_say(browser):
    images, found, box = browser
    picture, named, overlay, threshold = box.children[0].children
    assert named.value == int(found.logits[0].argmax()), "what the network says of the first picture"
    picture.value, named.value, overlay.value, threshold.value = "Spike", 2, 0.4, 0.8
    title = f"Spike: evidence for mouse, probability {found.probabilities[1, 2]:.2f}"
    static = explain(images["Spike"], found.maps[1, 2], strength=0.4, threshold=0.8, title=title)
    assert file_of(box) == panel_png(static)
    assert box.children[1].value == ""
    assert title in box.children[-1].value
    assert "80%" in box.children[-1].value
    threshold.value = 0.2
    assert file_of(box) != panel_png(static)


def test_the_panel_offers_some_classes_and_begins_with_the_most_probable_of_them(browser):
    images, found, _ = browser
    offered = [k for k in range(3) if k != int(found.logits[0].argmax())]
    named = cam_panel(images, found, ("cat", "dog", "mouse"), offered).children[0].children[1]
    assert [k for _, k in named.options] == offered
    assert named.value == max(offered, key=lambda k: found.logits[0, k])
