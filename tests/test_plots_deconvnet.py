"""Figures of the deconvnet hold the right pictures, numbers and switches."""

import numpy as np
import pytest
import torch
from torch import nn

from lessons_lib.methods.deconvnet import keep, project, trace
from lessons_lib.methods.receptive_field import receptive_fields
from lessons_lib.plots import as_image
from lessons_lib.plots.deconvnet import (
    as_pictures,
    evolution,
    inspected,
    learning_curves,
    methods,
    numbers,
    settling,
    top_grid,
    way_down,
)
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")


def pictures(count, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.fixture
def way():
    """A network with two poolings, a picture, its way up and down, and the receptive field."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Dropout(),
        nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    )  # fmt: skip
    image = pictures(1, 16)[0]
    way_up = trace(net, image[None].float() / 255, "6")
    channel = int(way_up.activations[0].amax((1, 2)).argmax())
    return (
        image,
        way_up,
        project(way_up, keep(way_up.activations, channel)),
        receptive_fields(net, 16, ["6"])["6"],
        channel,
    )


def test_as_pictures_keeps_zero_grey_and_signs():
    pixels = torch.zeros(3, 3, 10, 10)
    pixels[0, 0, 0, :4] = torch.tensor([2.0, -2.0, 1.0, 0.5])
    pixels[1] = 1e-9 * pixels[0]
    result = as_pictures(pixels)
    assert result.dtype == torch.uint8
    assert result[0, 0, 0, :5].tolist() == [255, 1, pytest.approx(192, abs=1), pytest.approx(160, abs=1), 128]
    assert torch.equal(result[0], result[1]), "each picture has its own scale"
    assert (result[2] == 128).all()
    # one outlier among many must not turn the rest grey
    pixels = torch.ones(1, 3, 20, 20)
    pixels[0, 0, 0, 0] = 1000
    assert as_pictures(pixels)[0, 1, 5, 5] > 250


def test_numbers_are_written_in_and_framed():
    marked = torch.tensor([[True, False], [False, False]])
    figure = numbers({"a": torch.tensor([[1.0, -2.5], [0, 3]]), "b": torch.ones(1, 3)}, marked={"a": marked})
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["1", "-2.5", "0", "3"]
    assert len(left.patches) == 1
    assert left.patches[0].get_xy() == pytest.approx((-0.46, -0.46))
    assert (left.get_title(), right.get_title(), len(right.patches)) == ("a", "b", 0)
    drawn(figure)


def test_way_down_draws_each_step(way):
    image, way_up, down, _, _ = way
    figure = way_down(image, way_up, down, columns=4)
    titles = [axis.get_title().splitlines()[0] for axis in figure.axes if axis.images]
    assert titles == [
        "picture", "kept in 6", "unpool · 6", "rectify · 5", "filter · 4", "unpool · 2", "rectify · 1", "filter · 0",
    ]  # fmt: skip
    assert "1 not 0" in figure.axes[1].get_title()
    strength = down.reversals[2].maps[0].square().sum(0).sqrt()
    np.testing.assert_allclose(figure.axes[4].images[0].get_array(), strength, rtol=1e-5)
    assert np.array_equal(figure.axes[7].images[0].get_array(), as_image(as_pictures(down.pixels)[0]))
    drawn(figure)
    two = trace(nn.Sequential(nn.ReLU()), torch.rand(2, 3, 4, 4), "0")
    with pytest.raises(ValueError, match="one picture"):
        way_down(image, two, project(two, two.activations))


def test_way_down_from_a_fully_connected_layer():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 5))
    way_up = trace(net, torch.rand(1, 3, 8, 8), "2")
    down = project(way_up, keep(way_up.activations, 1))
    figure = way_down(pictures(1)[0], way_up, down)
    assert figure.axes[1].images[0].get_array().shape == (1, 5)
    drawn(figure)


def test_top_grid_lays_projections_left_of_patches():
    left, right = pictures(9), pictures(9, seed=1)
    figure = top_grid({"relu1, channel 3": (left, right), "other": (left, right)}, columns=2, title="layer 1")
    axis = figure.axes[0]
    shown = np.asarray(axis.images[0].get_array())
    assert np.array_equal(shown[:8, :8], as_image(left[0]))
    assert np.array_equal(shown[-8:, -8:], as_image(right[8]))
    assert np.array_equal(shown[9:17, 18:26], as_image(left[5])), "row by row, a white line between"
    assert axis.get_title() == "relu1, channel 3"
    drawn(figure)
    with pytest.raises(ValueError, match="nothing to draw"):
        top_grid({})
    with pytest.raises(ValueError, match="9 projections beside 4 patches"):
        top_grid({"a": (left, right[:4])})


def test_evolution_has_a_column_for_each_epoch():
    stack = pictures(6).view(2, 3, 3, 8, 8)
    figure = evolution({"relu1": stack, "relu2": stack.flip(0)}, [0, 1, 5])
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "1", "5"]
    shown = np.asarray(axis.images[0].get_array())
    assert np.array_equal(shown[9:17, 18:26], as_image(stack[1, 2]))
    assert [a.get_title() for a in figure.axes[:2]] == ["relu1", "relu2"]
    drawn(figure)
    with pytest.raises(ValueError, match="3, 3, h, w"):
        evolution({"relu1": stack[:, :2]}, [0, 1, 5])


def test_settling_draws_the_numbers():
    curves = {"relu1": {0: 0.2, 4: 0.9, 16: 1.0}, "relu5": {0: -0.1, 4: 0.4, 16: 1.0}}
    figure = settling(curves, threshold=0.8)
    (axis,) = figure.axes
    for line, (layer, curve) in zip(axis.lines[: len(curves)], curves.items(), strict=True):
        assert list(line.get_ydata()) == list(curve.values())
        assert line.get_label() == layer
    assert axis.lines[2].get_ydata()[0] == 0.8
    assert axis.get_ylim()[0] <= -0.1
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "4", "16"]
    drawn(figure)


def test_methods_has_a_row_for_each_activation():
    cells = {"patch": pictures(1)[0], "gradient": pictures(1, seed=1)[0]}
    figure = methods({"relu1": cells, "relu2": {name: cell.flip(1) for name, cell in cells.items()}})
    axes = np.array(figure.axes).reshape(2, 2)
    assert [axis.get_title() for axis in axes[0]] == ["patch", "gradient"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["relu1", "relu2"]
    assert np.array_equal(axes[1, 1].images[0].get_array(), as_image(cells["gradient"].flip(1)))
    drawn(figure)


def test_learning_curves_are_means_in_a_band():
    runs = torch.tensor([[0.1, 0.5], [0.3, 0.7]])
    figure = learning_curves({"all": runs, "some": runs[:1]}, "t")
    (axis,) = figure.axes
    assert axis.lines[0].get_ydata() == pytest.approx([0.2, 0.6])
    assert list(axis.lines[0].get_xdata()) == [1, 2]
    band = axis.collections[0].get_paths()[0].vertices
    assert {tuple(np.round(corner, 3)) for corner in band} == {(1, 0.1), (1, 0.3), (2, 0.5), (2, 0.7)}
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["all", "some"]
    drawn(figure)


def test_inspected_shows_where_the_activation_is(way):
    image, way_up, down, field, channel = way
    figure = inspected(image, way_up, down, field, channel)
    maps = way_up.activations[0, channel]
    row, column = divmod(int(maps.argmax()), maps.shape[1])
    box = field.box(row, column)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:5] == [
        f"channel {channel}, 4×4",
        "picture",
        "what the unit sees",
        "its projection",
        "in the picture",
    ]
    assert figure.axes[0].patches[0].get_xy() == (column - 0.5, row - 0.5)
    cut = as_image(image)[box.top : box.bottom, box.left : box.right]
    assert np.array_equal(figure.axes[2].images[0].get_array(), cut)
    assert "switches of 6" in titles[5]
    busiest = int(titles[5].split()[-1])
    dots = {(int(y), int(x)) for x, y in figure.axes[5].collections[0].get_offsets()}
    recorded = way_up.switches["6"]
    assert (recorded.rows[0, busiest, 0, 0].item(), recorded.columns[0, busiest, 0, 0].item()) in dots
    assert f"{maps.max():.2f} at row {row}, column {column}" in figure.get_suptitle()
    drawn(figure)


def test_inspected_without_poolings_and_of_a_silent_channel():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    with torch.no_grad():
        net[0].bias[1] = -100
    image = pictures(1)[0]
    way_up = trace(net, image[None].float() / 255, "1")
    down = project(way_up, keep(way_up.activations, 1))
    figure = inspected(image, way_up, down, receptive_fields(net, 8, ["1"])["1"], 1)
    assert len(figure.axes) == 5
    assert "silent on this picture" in figure.get_suptitle()
    assert (np.asarray(figure.axes[3].images[0].get_array()) == 128).all()
    drawn(figure)


def test_inspected_where_the_pooling_comes_first():
    net = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 2, 3), nn.ReLU())
    image = pictures(1)[0]
    way_up = trace(net, image[None].float() / 255, "1")
    down = project(way_up, keep(way_up.activations, 0))
    figure = inspected(image, way_up, down, receptive_fields(net, 8, ["1"])["1"], 0)
    shown = np.asarray(figure.axes[5].images[0].get_array())
    assert any(np.array_equal(shown, way_up.inputs[0, colour]) for colour in range(3))
    drawn(figure)
