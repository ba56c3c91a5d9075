"""Figures of hidden parts and sign patterns hold the right pictures and numbers."""

import numpy as np
import pytest
import torch

from lessons_lib.methods.correspondence import Delta
from lessons_lib.plots.correspondence import deltas, hidden_parts, marked, sign_patterns, spoken
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


def test_sign_patterns_show_the_features_that_change_most_often_in_order():
    changes = torch.tensor([[0, -2.0, 1, 3, 0], [0, -0.5, 1, 0, 0], [0, -1, -4, 2, 0.1]])
    figure = sign_patterns(PICTURES, changes, "nose hidden", features=3)
    bars = next(axis for axis in figure.axes if "features" in axis.get_xlabel())
    expected = changes.sign()[:, [3, 2, 1]]  # sums of signs: 2, 1, −3
    assert np.array_equal(bars.images[0].get_array(), expected)
    assert "3 of 5 features" in bars.get_xlabel()
    assert np.array_equal(figure.axes[1].images[0].get_array(), PICTURES[1].permute(1, 2, 0))
    drawn(figure)
    with pytest.raises(ValueError, match="as many pictures"):
        sign_patterns(PICTURES, changes[:2], "")


def test_deltas_draw_means_and_intervals():
    values = {
        "middle": {"nose": Delta(0.3, 0.01, 0.25, 0.36), "random": Delta(0.4, 0.01, 0.38, 0.42)},
        "late": {"nose": Delta(0.2, 0.01, 0.1, 0.3), "random": Delta(0.3, 0.01, 0.2, 0.4)},
    }
    figure = deltas(values, chance=0.5)
    middle, late = figure.axes
    assert [label.get_text() for label in middle.get_yticklabels()] == ["random", "nose"]
    points, _, (bars,) = middle.containers[0]
    assert points.get_xdata().tolist() == pytest.approx([0.4, 0.3])
    assert np.allclose(bars.get_segments()[1][:, 0], [0.25, 0.36])
    assert {line.get_linestyle() for line in late.lines} >= {":"}
    drawn(figure)
    drawn(deltas({"middle": {"nose": Delta(0.3, 0.01, 0.25, 0.36)}}))
    assert spoken(values) == (
        "Δ in middle: nose 0.30 [0.25, 0.36], random 0.40 [0.38, 0.42]; "
        "in late: nose 0.20 [0.10, 0.30], random 0.30 [0.20, 0.40]."
    )
    turned = {"late": {"left_eye": Interval(0.2, 0.1, 0.3)}}
    assert spoken(turned) == "Δ in late: left eye 0.20 [0.10, 0.30]."
    for bad in ({}, {"middle": values["middle"], "late": {"nose": values["late"]["nose"]}}):
        with pytest.raises(ValueError, match="same conditions"):
            deltas(bad)


def test_marked_shows_marks_and_crosshair():
    figure = marked(PICTURES[0], {"nose": (0.5, 0.25)}, 0.75, 0.5, "left_eye")
    (axis,) = figure.axes
    dot = axis.lines[0]
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (1.5, 3.5)
    assert axis.texts[0].get_text() == "nose"
    assert axis.lines[1].get_ydata()[0] == 5.5
    assert axis.get_title() == "crosshair: left eye"
    drawn(figure)
