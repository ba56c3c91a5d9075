"""The transformation panel shows what it was given: the pictures that `look` makes and what was measured of them."""

import torch

from lessons_lib.plots.invariance import ANSWER
from lessons_lib.widgets.face import packed
from lessons_lib.widgets.invariance import transformation_panel

NAMES = ("cat", "cup")
AMOUNTS = {"shift": (-1, 0, 1, 2), "scale": (1, 2)}


def look(name, kind, amount):
    generator = torch.Generator().manual_seed(100 * NAMES.index(name) + 10 * len(kind) + int(amount) + 1)
    return torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=generator)


def test_the_panel_answers_with_what_it_was_given():
    measured = {
        kind: {
            "first layer": torch.rand(2, len(steps)),
            ANSWER: torch.rand(2, len(steps)),
            "last layer": torch.rand(2, len(steps), dtype=torch.float64),
        }
        for kind, steps in AMOUNTS.items()
    }
    panel = transformation_panel(NAMES, look, AMOUNTS, measured)
    assert panel.about["pictures"] == ["cat", "cup"]
    assert panel.about["amounts"] == {"shift": [-1, 0, 1, 2], "scale": [1, 2]}
    assert panel.about["curves"] == ["first layer", "last layer"]

    def rgb(answer):
        return torch.as_tensor(answer["pixels"])[..., :3].permute(2, 0, 1)

    ask = panel._answers
    assert rgb(ask["picture"]("cup")).equal(look("cup", "shift", 0)), "untouched"
    assert rgb(ask["view"]("cup", "scale", 1)).equal(look("cup", "scale", 2))
    found = ask["measure"]("cup", "shift", [3, 0])
    expected = [measured["shift"][name][1, [3, 0]].float() for name in ("first layer", "last layer")]
    assert found["distances"].equal(torch.stack(expected, 1)), "a row for each amount"
    assert found["probabilities"].equal(measured["shift"][ANSWER][1, [3, 0]])
    sent, buffers = packed(found)
    assert sent["arrays"]["distances"]["type"] == "Float32Array"
    assert len(buffers[0]) == 4 * found["distances"].numel()
