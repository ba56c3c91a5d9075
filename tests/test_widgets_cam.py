"""The panel of class activation maps answers with the maps it was given."""

import numpy as np
import pytest
import torch

from lessons_lib.methods.cam import Evidence
from lessons_lib.widgets.cam import cam_panel
from tests.test_widgets_face import asked


@pytest.fixture
def browser():
    torch.manual_seed(0)
    images = {name: torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for name in ("Tom", "Spike")}
    maps = torch.randn(2, 3, 4, 5)
    found = Evidence(maps, maps.mean(dim=(2, 3)))
    return images, found, cam_panel(images, found, ("cat", "dog", "mouse"), [0, 2])


def test_the_panel_answers_for_every_picture_and_class(browser):
    images, found, panel = browser
    for i, name in enumerate(("Tom", "Spike")):
        seen = asked(panel, "picture", name=name)
        shown = seen["pixels"].reshape(seen["height"], seen["width"], 4)
        assert np.array_equal(shown[..., :3], images[name].permute(1, 2, 0))
        assert np.allclose(asked(panel, "clean", name=name)["probabilities"], found.probabilities[i])
        for k in range(3):
            evidence = asked(panel, "evidence", name=name, k=k)
            assert np.array_equal(evidence["evidence"].reshape(evidence["shape"]), found.maps[i, k])
            assert evidence["logit"] == found.logits[i, k].item()


def test_the_panel_offers_some_classes(browser):
    *_, panel = browser
    assert panel.about["offered"] == [0, 2]
    assert panel.about["classes"] == ["cat", "dog", "mouse"]
