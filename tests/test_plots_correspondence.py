"""Figures of hidden parts and of Δ hold the right pictures and numbers."""

import numpy as np
import pytest
import torch

from lessons_lib.plots.correspondence import deltas, hidden_parts
from lessons_lib.statistics import Interval
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

PICTURES = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_hidden_parts_has_a_column_for_each_condition():
    hidden = {"left_eye": PICTURES // 2, "nose": PICTURES // 3}
    figure = hidden_parts(PICTURES, hidden)
    axes = np.array(figure.axes).reshape(3, 3)
    assert [axis.get_title() for axis in axes[0]] == ["original", "left eye", "nose"]
    for i in range(3):
        for axis, stack in zip(axes[i], (PICTURES, *hidden.values()), strict=True):
            assert np.array_equal(axis.images[0].get_array(), stack[i].permute(1, 2, 0))
    drawn(figure)
    with pytest.raises(ValueError, match="at least one"):
        hidden_parts(PICTURES[:0], {})


def test_deltas_draw_means_and_intervals():
    values = {
        "middle": {"nose": Interval(0.3, 0.25, 0.36), "random": Interval(0.4, 0.38, 0.42)},
        "late": {"nose": Interval(0.2, 0.1, 0.3), "random": Interval(0.3, 0.2, 0.4)},
    }
    figure = deltas(values, chance=0.5)
    middle, late = figure.axes
    assert [label.get_text() for label in middle.get_yticklabels()] == ["random", "nose"]
    points, _, (bars,) = middle.containers[0]
    assert points.get_xdata().tolist() == pytest.approx([0.4, 0.3])
    assert np.allclose(bars.get_segments()[1][:, 0], [0.25, 0.36])
    assert {line.get_linestyle() for line in late.lines} >= {":"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["random", "chance"]
    drawn(figure)
    drawn(deltas({"middle": {"nose": Interval(0.3, 0.25, 0.36)}}))
    for bad in ({}, {"middle": values["middle"], "late": {"nose": values["late"]["nose"]}}):
        with pytest.raises(ValueError, match="same conditions"):
            deltas(bad)
