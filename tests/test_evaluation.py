"""Energy inside a mask equals its closed forms."""

import pytest
import torch

from lessons_lib.methods.evaluation import energy_inside

LEFT = torch.zeros(1, 8, 8, dtype=torch.bool)
LEFT[:, :, :4] = True


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (torch.ones(8, 8), 0.5),
        (LEFT[0].float(), 1.0),
        ((~LEFT[0]).float(), 0.0),
        (torch.where(LEFT[0], 3.0, 1.0), 0.75),
        (torch.where(LEFT[0], 3.0, -9.0), 1.0),
    ],
)
def test_closed_forms(values, expected):
    assert energy_inside(values[None], LEFT).item() == pytest.approx(expected)


def test_a_small_map_is_enlarged_and_one_row_does_not_touch_another():
    maps = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)])
    values = energy_inside(maps, LEFT.expand(2, 8, 8))
    assert values[0].item() == pytest.approx(0.5)
    assert values[1].isnan()


def test_bad_input():
    with pytest.raises(TypeError, match="bool"):
        energy_inside(torch.ones(1, 8, 8), LEFT.float())
    with pytest.raises(ValueError, match="as many masks"):
        energy_inside(torch.ones(2, 8, 8), LEFT)
    with pytest.raises(ValueError, match="as many masks"):
        energy_inside(torch.ones(8, 8), LEFT)
