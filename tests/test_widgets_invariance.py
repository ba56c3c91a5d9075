"""The transformation panel draws what its controls say, and begins at the untransformed picture."""

import torch

from lessons_lib.plots.invariance import ANSWER, transformation
from lessons_lib.widgets.invariance import transformation_panel
from tests.figures import file_of, panel_png

NAMES = ("cat", "cup")
AMOUNTS = {"shift": (-1, 0, 1, 2), "scale": (1, 2)}


def look(name, kind, amount):
    generator = torch.Generator().manual_seed(100 * NAMES.index(name) + 10 * len(kind) + int(amount) + 1)
    return torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=generator)


def test_panel_draws_what_its_controls_say():
    measured = {
        kind: {"first layer": torch.rand(2, len(steps)), ANSWER: torch.rand(2, len(steps))}
        for kind, steps in AMOUNTS.items()
    }

    def expected(kind, step, neutral):
        pictures = look("cup", kind, neutral), look("cup", kind, AMOUNTS[kind][step])
        rows = {name: table[1] for name, table in measured[kind].items()}
        return panel_png(transformation(*pictures, kind, AMOUNTS[kind], rows, step))

    box = transformation_panel(NAMES, look, AMOUNTS, measured)
    kind, picture, step = box.children[0].children
    assert (step.value, step.max) == (1, 3), "begins at the untransformed picture"
    picture.value, step.value = "cup", 3
    assert file_of(box) == expected("shift", 3, 0)
    assert "cup before and after a shift of 2" in box.children[-1].value
    kind.value = "scale"
    assert (step.value, step.max) == (0, 1)
    assert box.children[1].value == ""
    assert file_of(box) == expected("scale", 0, 1)
