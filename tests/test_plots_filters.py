"""Figures of filters hold the right weights, colours and numbers."""

import numpy as np
import pytest
import torch

from lessons_lib.methods.filters import low_frequency_share, spectrum
from lessons_lib.plots.activations import mosaic
from lessons_lib.plots.filters import (
    as_colours,
    colour_grid,
    filter_browser,
    filter_grids,
    kernels,
    matrices,
    pictures_in_colour,
    plane_grids,
    smoothness_by_epoch,
    smoothness_strips,
    waves,
)
from lessons_lib.statistics import Interval
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

FILTERS = torch.randn(10, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def test_colours_are_grey_at_zero_and_keep_the_sign():
    filters = torch.zeros(3, 3, 2, 2)
    filters[0, 0, 0, 0] = 2  # wants red
    filters[1, 2, 1, 1] = -1  # wants no blue
    shared, own = as_colours(filters), as_colours(filters, "own")
    assert shared[0, :, 0, 0].tolist() == own[0, :, 0, 0].tolist() == [1, 0.5, 0.5]
    assert shared[1, :, 1, 1].tolist() == [0.5, 0.5, 0.25]
    assert own[1, :, 1, 1].tolist() == [0.5, 0.5, 0]
    for pictures in (shared, own):
        assert (pictures[2] == 0.5).all(), "a filter that is zero"
    assert (as_colours(torch.zeros(1, 3, 2, 2)) == 0.5).all()


@pytest.mark.parametrize(
    ("filters", "scale", "text"),
    [
        (torch.zeros(2, 4, 3, 3), "shared", "red, green and blue"),
        (torch.zeros(3, 3, 3), "shared", "red, green and blue"),
        (torch.zeros(0, 3, 3, 3), "shared", "red, green and blue"),
        (torch.zeros(2, 3, 3, 3), "both", '"shared" or "own"'),
    ],
)
def test_what_has_no_colours_is_refused(filters, scale, text):
    with pytest.raises(ValueError, match=text):
        as_colours(filters, scale)


def test_colour_grid_holds_each_filter_in_its_place():
    canvas = colour_grid(FILTERS, "own")
    assert canvas.shape == (2 * 6 - 1, 5 * 6 - 1, 3)
    for i, tile in enumerate(as_colours(FILTERS, "own")):
        row, column = divmod(i, 5)
        part = canvas[row * 6 : row * 6 + 5, column * 6 : column * 6 + 5]
        assert np.allclose(part, tile.permute(1, 2, 0))
    assert (canvas[5] == 1).all(), "a white line"
    assert (colour_grid(FILTERS[:7])[-5:, -5:] == 1).all(), "white where there is no filter"


def test_filter_grids_have_one_for_each_group():
    groups = {"before": FILTERS, "after": 2 * FILTERS, "later": FILTERS[:4], "last": FILTERS[:1]}
    figure = filter_grids(groups, suptitle="all")
    assert [axis.get_title() for axis in figure.axes[:4]] == list(groups)
    assert figure.get_suptitle() == "all"
    for axis, filters in zip(figure.axes[: len(groups)], groups.values(), strict=True):
        assert np.allclose(axis.images[0].get_array(), colour_grid(filters))
    assert np.allclose(colour_grid(FILTERS), colour_grid(2 * FILTERS)), "the scale is shared within a group"
    drawn(figure)
    with pytest.raises(ValueError, match="no filters"):
        filter_grids({})


def test_pictures_in_colour_name_each():
    figure = pictures_in_colour(FILTERS, [str(i) for i in range(10)], suptitle="templates")
    assert [axis.get_title() for axis in figure.axes] == [str(i) for i in range(10)]
    assert np.allclose(figure.axes[3].images[0].get_array(), as_colours(FILTERS, "own")[3].permute(1, 2, 0))
    drawn(figure)
    with pytest.raises(ValueError, match="10 filters need 10 titles"):
        pictures_in_colour(FILTERS, ["one"])


def test_kernels_are_laid_out_output_by_input():
    filters = torch.randn(6, 9, 3, 3)
    figure = kernels(filters, outputs=4, inputs=5, title="block2")
    canvas = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    assert canvas.shape == (4 * 4 - 1, 5 * 4 - 1)
    for i in range(4):
        for j in range(5):
            assert np.allclose(canvas[4 * i : 4 * i + 3, 4 * j : 4 * j + 3], filters[i, j])
    assert np.isnan(canvas[3]).all()
    assert figure.axes[0].get_title() == "block2: the first 4 of 6 filters × 5 of 9 input channels"
    low, high = figure.axes[0].images[0].get_clim()
    assert -low == high == pytest.approx(filters[:4, :5].abs().max().item())
    drawn(figure)
    drawn(kernels(torch.zeros(2, 1, 3, 3)))
    with pytest.raises(ValueError, match="shape"):
        kernels(torch.zeros(2, 3))


def test_plane_grids_have_a_mosaic_for_each_group():
    groups = {"first": torch.randn(6, 3, 3), "second": torch.randn(4, 5, 5)}
    figure = plane_grids(groups, suptitle="depthwise")
    for axis, (title, filters) in zip(figure.axes[: len(groups)], groups.items(), strict=True):
        shown = np.ma.filled(axis.images[0].get_array(), np.nan)
        assert np.array_equal(shown, mosaic(filters), equal_nan=True)
        assert axis.get_title() == title
    assert figure.get_suptitle() == "depthwise"
    drawn(figure)
    with pytest.raises(ValueError, match="no filters"):
        plane_grids({})
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        plane_grids({"colour": FILTERS})


def test_matrices_have_one_row_for_each_output():
    layers = {"before": torch.randn(3, 40), "after": torch.randn(3, 40)}
    figure = matrices(layers, ylabel="class", yticklabels=["a", "b", "c"])
    for axis, (title, matrix) in zip(figure.axes[: len(layers)], layers.items(), strict=True):
        assert np.allclose(axis.images[0].get_array(), matrix)
        assert axis.get_title() == title
        assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]
    drawn(figure)
    for bad in ({}, {"a": torch.zeros(3)}):
        with pytest.raises(ValueError, match="matrix"):
            matrices(bad)


def test_waves_frame_those_that_count_as_low():
    figure = waves([3, 7])
    for axis, size, low in zip(figure.axes, (3, 7), (4, 13), strict=True):
        assert axis.get_title() == f"{size}×{size}: {size**2} waves, {low} of them low"
        tiles = torch.tensor(np.stack([image.get_array() for image in axis.images]))
        shares = spectrum(tiles[:, None]).flatten(1)
        assert torch.allclose(shares, torch.eye(size**2, dtype=torch.float64), atol=1e-6), "one wave a tile"
        framed = torch.tensor([patch.get_linewidth() > 1 for patch in axis.patches])
        assert framed.tolist() == (low_frequency_share(tiles[:, None]) > 0.5).tolist()
    drawn(figure)
    for sizes in ([], [1, 3]):
        with pytest.raises(ValueError, match="at least 2"):
            waves(sizes)


def test_strips_show_each_filter_its_mean_and_noise():
    values = {"net": torch.tensor([0.2, 0.4, torch.nan, 0.9]), "other": torch.tensor([0.5, 0.6])}
    intervals = {"net": Interval(0.5, 0.3, 0.8), "other": Interval(0.55, 0.5, 0.6)}
    figure = smoothness_strips(values, intervals, {"net": 0.44, "other": 0.27}, ylabel="share")
    (axis,) = figure.axes
    dots = [collection for collection in axis.collections if len(collection.get_offsets())]
    assert dots[0].get_offsets()[:, 1].tolist() == pytest.approx([0.2, 0.4, 0.9])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["net", "other"]
    assert [text.get_text() for text in axis.get_legend().get_texts()].count("a filter") == 1
    drawn(figure)
    with pytest.raises(ValueError, match="no groups"):
        smoothness_strips({}, {}, {})


def test_smoothness_by_epoch_draws_the_numbers():
    layers = {
        "conv1": {0: Interval(0.3, 0.2, 0.4), 8: Interval(0.9, 0.8, 0.95)},
        "conv2": {0: Interval(0.3, 0.2, 0.4), 8: Interval(0.6, 0.5, 0.7)},
    }
    noise = {"net": {"conv1": 0.27, "conv2": 0.32}}
    figure = smoothness_by_epoch({"net": layers}, noise)
    (axis,) = figure.axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert lines["conv1"] == [0.3, 0.9]
    assert lines["conv2"] == [0.3, 0.6]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "8"]
    drawn(figure)
    with pytest.raises(ValueError, match="no networks"):
        smoothness_by_epoch({}, {})


def test_browser_shows_the_filter_its_weights_and_its_spectrum():
    figure = filter_browser(FILTERS, 4, title="conv1")
    picture, red, green, blue, waves_, _ = figure.axes
    assert np.allclose(picture.images[0].get_array(), as_colours(FILTERS[4:5])[0].permute(1, 2, 0))
    for i, axis in enumerate((red, green, blue)):
        assert np.allclose(axis.images[0].get_array(), FILTERS[4, i])
        assert len(axis.texts) == 25
    shown = waves_.images[0].get_array()
    assert shown.sum() == pytest.approx(1)
    assert shown[:3, :3].sum() >= low_frequency_share(FILTERS)[4].item() - 1e-9
    assert figure.get_suptitle() == "conv1"
    drawn(figure)
    for index in (-1, 10):
        with pytest.raises(ValueError, match="0–9"):
            filter_browser(FILTERS, index)


def test_browser_enlarges_the_strongest_plane_of_a_deep_filter():
    filters = torch.zeros(2, 6, 3, 3)
    filters[1, 4] = torch.tensor([[0.5, -0.25, 0], [0, 0, 0], [0, 0, 0.125]])
    figure = filter_browser(filters, 1)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:3] == ["filter 1, 6 inputs", "weights, input channel 4", "spectrum"]
    assert [text.get_text() for text in figure.axes[1].texts[:3]] == [".50", "−.25", ".00"]
    drawn(figure)
