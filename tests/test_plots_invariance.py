"""Figures of invariance hold the right pictures and numbers."""

import numpy as np
import pytest
import torch

from lessons_lib.methods.invariance import Invariance
from lessons_lib.plots.invariance import clocks, invariance_curves, strip, training_curves, transformation
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

NAMES = ("cat", "cup")
LAYERS = {"conv": "first layer", "pool": "last layer"}
VIEWS = torch.randint(0, 256, (2, 5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def result(seed=0):
    generator = torch.Generator().manual_seed(seed)
    distances = {layer: torch.rand(2, 5, generator=generator) for layer in LAYERS}
    return Invariance((-2.0, -1.0, 0.0, 1.0, 2.0), distances, dict.fromkeys(LAYERS, 2.0), torch.rand(2, 5))


def test_strip_shows_every_picture():
    figure = strip(VIEWS, range(5), NAMES, "shift")
    (axis,) = figure.axes
    canvas = axis.images[0].get_array()
    assert canvas.shape == (2 * 67 - 3, 5 * 67 - 3, 3)
    for i in range(2):
        for a in range(5):
            tile = canvas[67 * i : 67 * i + 64 : 8, 67 * a : 67 * a + 64 : 8]
            assert np.array_equal(tile, VIEWS[i, a].permute(1, 2, 0)), "8 pixels enlarged eight times"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "1", "2", "3", "4"]
    assert [label.get_text() for label in axis.get_yticklabels()] == list(NAMES)
    drawn(figure)
    with pytest.raises(ValueError, match="4 amounts"):
        strip(VIEWS, range(4), NAMES, "shift")


def test_curves_draw_each_picture_and_their_mean():
    measured = {"shift": result(1), "rotation": result(2)}
    figure = invariance_curves(measured, NAMES, LAYERS)
    axes = np.array(figure.axes).reshape(2, 3)
    for line, values in zip(axes, measured.values(), strict=True):
        for axis, layer in zip(line[: len(LAYERS)], LAYERS, strict=True):
            for i in range(2):
                assert np.allclose(axis.lines[i].get_ydata(), values.distances[layer][i] / 2)
            assert np.allclose(axis.lines[2].get_ydata(), values.distances[layer].mean(0) / 2)
            assert axis.lines[2].get_linewidth() > axis.lines[0].get_linewidth()
        assert np.allclose(line[2].lines[0].get_ydata(), values.probabilities[0])
    assert axes[0, 0].get_ylim() == axes[1, 1].get_ylim(), "one scale for all distances"
    drawn(figure)


def test_many_pictures_are_drawn_without_names():
    many = Invariance((0.0, 1.0, 2.0), {"conv": torch.rand(30, 3)}, {"conv": 1.0}, torch.rand(30, 3))
    figure = invariance_curves({"shift": many}, [""] * 30, {"conv": "first layer"})
    assert len(figure.axes[0].lines) == 32, "thirty pictures, their mean and the line of no change"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["mean"]
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
    values = result(3)
    figure = transformation(VIEWS[1, 2], VIEWS[1, 4], values, 1, 4, "shift", LAYERS)
    left, right, distance, share = figure.axes
    assert np.array_equal(left.images[0].get_array(), VIEWS[1, 2].permute(1, 2, 0))
    assert np.array_equal(right.images[0].get_array(), VIEWS[1, 4].permute(1, 2, 0))
    assert right.get_title() == "shift 2"
    for layer, line, dot in zip(LAYERS, distance.lines[::2], distance.lines[1::2], strict=True):
        assert np.allclose(line.get_ydata(), values.distances[layer][1] / 2)
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (
            2,
            pytest.approx(values.distances[layer][1, 4].item() / 2),
        )
    assert share.lines[1].get_ydata()[0] == pytest.approx(values.probabilities[1, 4].item())
    drawn(figure)
    for picture, step in ((2, 0), (0, 5), (-1, 0)):
        with pytest.raises(ValueError, match="0–1 and step in 0–4"):
            transformation(VIEWS[0, 0], VIEWS[0, 0], values, picture, step, "shift", LAYERS)


def test_training_curves_draw_the_mean_probability():
    values = {"shift": {"plain": result(4), "shifted": result(5)}}
    figure = training_curves(values)
    (axis,) = figure.axes
    assert len(axis.lines) == 3, "two of training and one where nothing is changed"
    for line, (name, measured) in zip(axis.lines[:2], values["shift"].items(), strict=True):
        assert line.get_label() == name
        assert np.allclose(line.get_ydata(), measured.probabilities.mean(0))
    drawn(figure)
