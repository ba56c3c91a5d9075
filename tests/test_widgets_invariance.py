"""The transformation panel draws what its controls say, and begins at the untransformed picture."""

import torch

from lessons_lib.methods.invariance import Invariance
from lessons_lib.plots.invariance import transformation
from lessons_lib.widgets.invariance import transformation_panel
from tests.figures import file_of, panel_png

LAYERS = {"conv": "first layer"}


def measured(*amounts):
    count = len(amounts)
    return Invariance(tuple(amounts), {"conv": torch.rand(2, count)}, {"conv": 1.0}, torch.rand(2, count))


def test_panel_draws_what_its_controls_say():
    originals = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    results = {"shift": measured(-1.0, 0.0, 1.0, 2.0), "scale": measured(1.0, 2.0)}
    views = {
        kind: torch.randint(0, 256, (2, len(r.amounts), 3, 8, 8), dtype=torch.uint8)
        for kind, r in results.items()
    }
    box = transformation_panel(("cat", "cup"), originals, views, results, LAYERS)
    kind, picture, step = box.children[0].children
    assert (step.value, step.max) == (1, 3), "begins at the untransformed picture"
    picture.value, step.value = "cup", 3
    static = transformation(originals[1], views["shift"][1, 3], results["shift"], 1, 3, "shift", LAYERS)
    assert file_of(box) == panel_png(static)
    assert "cup before and after a shift of 2" in box.children[-1].value
    kind.value = "scale"
    assert (step.value, step.max) == (0, 1)
    assert box.children[1].value == ""
    static = transformation(originals[1], views["scale"][1, 0], results["scale"], 1, 0, "scale", LAYERS)
    assert file_of(box) == panel_png(static)
