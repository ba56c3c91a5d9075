"""Figures of invariance hold the right pictures and numbers."""

import numpy as np
import pytest
import torch

from lessons_lib.plots.invariance import ANSWER, clocks, curves, training_curves, transformation
from lessons_lib.statistics import bootstrap_interval
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

VIEWS = torch.randint(0, 256, (2, 5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
STEPS = (-2, -1, 0, 1, 2)


def tables(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(count, 5, generator=generator) for name in ("first layer", "last layer", ANSWER)}


def test_curves_draw_means_with_their_intervals_and_every_picture_s_probability():
    measured = {"shift": tables(4, 1), "rotation": tables(4, 2)}
    figure = curves(dict.fromkeys(measured, STEPS), measured)
    axes = np.array(figure.axes).reshape(2, 2)
    for (above, below), found in zip(axes.T, measured.values(), strict=True):
        for line, name in zip(above.lines, ("first layer", "last layer"), strict=True):
            assert line.get_label() == name
            assert np.allclose(line.get_ydata(), found[name].mean(0))
        band = above.collections[0].get_paths()[0].vertices[:, 1]
        ends = [bootstrap_interval(column) for column in found["first layer"].T]
        assert band.min() == pytest.approx(min(end.low for end in ends), abs=1e-6)
        assert band.max() == pytest.approx(max(end.high for end in ends), abs=1e-6)
        thin, mean = below.lines[:4], below.lines[4]
        assert np.allclose([line.get_ydata() for line in thin], found[ANSWER])
        assert np.allclose(mean.get_ydata(), found[ANSWER].mean(0))
    assert axes[0, 0].get_ylim() == axes[0, 1].get_ylim(), "one scale for all distances"
    assert [[axis.get_xlabel() for axis in row] for row in axes] == [
        ["", ""],
        ["shift (pixels down)", "rotation (degrees)"],
    ]
    assert set(axes[1, 1].get_xticks() % 90) == {0}, "quarter turns"
    drawn(figure)


def test_clocks_close_the_curve_and_place_the_pictures():
    angles = list(range(0, 360, 72))
    probabilities = torch.tensor([[1.0, 0.5, 0.2, 0.1, 0.7], [0.9] * 5])
    figure = clocks(VIEWS, angles, probabilities, ("a cat", "a cup"))
    dials = [axis for axis in figure.axes if axis.name == "polar"]
    assert [dial.get_title() for dial in dials] == ["a cat", "a cup"]
    assert np.allclose(dials[0].lines[0].get_ydata(), [1, 0.5, 0.2, 0.1, 0.7, 1])
    insets = dials[1].child_axes
    assert len(insets) == 5
    assert np.array_equal(insets[3].images[0].get_array(), VIEWS[1, 3].permute(1, 2, 0))
    drawn(figure)
    large = VIEWS.repeat_interleave(20, dim=3).repeat_interleave(20, dim=4)
    shrunk = (
        clocks(large, angles, probabilities, ("a cat", "a cup")).axes[1].child_axes[3].images[0].get_array()
    )
    assert np.array_equal(shrunk[::10, ::10], VIEWS[1, 3].permute(1, 2, 0)), "80 pixels are enough"
    assert shrunk.shape == (80, 80, 3)


def test_transformation_marks_its_step_on_every_curve():
    rows = {name: table[0] for name, table in tables(1, 3).items()}
    figure = transformation(VIEWS[1, 2], VIEWS[1, 4], "shift", STEPS, rows, 4)
    left, right, distance, share = figure.axes
    assert np.array_equal(left.images[0].get_array(), VIEWS[1, 2].permute(1, 2, 0))
    assert np.array_equal(right.images[0].get_array(), VIEWS[1, 4].permute(1, 2, 0))
    assert right.get_title() == "shift 2"
    for name, line, dot in zip(
        ("first layer", "last layer"), distance.lines[::2], distance.lines[1::2], strict=True
    ):
        assert np.allclose(line.get_ydata(), rows[name])
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (2, pytest.approx(rows[name][4].item()))
    assert share.lines[1].get_ydata()[0] == pytest.approx(rows[ANSWER][4].item())
    drawn(figure)


def test_training_curves_draw_each_seed_and_the_mean():
    accuracy = {"shift": {"plain": torch.rand(3, 5), "shifted": torch.rand(3, 5)}}
    figure = training_curves({"shift": STEPS}, accuracy)
    (axis,) = figure.axes
    for mean, first, (name, table) in zip(
        axis.lines[::4], axis.lines[1::4], accuracy["shift"].items(), strict=True
    ):
        assert mean.get_label() == name
        assert np.allclose(mean.get_ydata(), table.mean(0))
        assert np.allclose(first.get_ydata(), table[0])
    assert tuple(axis.get_xticks()) == STEPS, "a tick for each test"
    drawn(figure)
