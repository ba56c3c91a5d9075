"""Figures of filters hold the right weights, colours and numbers."""

import numpy as np
import pytest
import torch

from lessons_lib.plots.filters import (
    as_colours,
    filter_browser,
    filter_rows,
    pictures_in_colour,
    smoothness_by_epoch,
    smoothness_strips,
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
    grey = as_colours(FILTERS[:, :1])
    assert grey.shape == FILTERS.shape
    assert torch.equal(grey[:, 0], grey[:, 2]), "one channel is drawn in grey"


@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (3, 3, 3), (0, 3, 3, 3)])
def test_what_has_no_colours_is_refused(shape):
    with pytest.raises(ValueError, match="red, green and blue"):
        as_colours(torch.zeros(shape))


def test_filter_rows_hold_each_filter_in_its_place():
    groups = {"before": FILTERS.repeat(2, 1, 1, 1), "after": 2 * FILTERS[:3], "planes": FILTERS[:4, :1]}
    figure = filter_rows(groups, suptitle="all")
    assert figure.get_suptitle() == "all"
    assert len(figure.axes) == len(groups)
    widths = set()
    for axis, (title, filters) in zip(figure.axes, groups.items(), strict=True):
        ends = "black and white" if title == "planes" else "black and full colour"
        assert axis.get_title("left") == f"{title}  ({ends}: ±{filters.abs().max():.2f})"
        for i, (image, tile) in enumerate(zip(axis.images, as_colours(filters), strict=True)):
            assert np.allclose(image.get_array(), tile.permute(1, 2, 0))
            left, right, bottom, top = image.get_extent()
            assert (top, left) == pytest.approx((1.2 * (i // 16), 1.2 * (i % 16)))
            widths.add(round(right - left, 6))
            assert bottom - top == pytest.approx(1)
    assert widths == {1}, "all tiles have one size"
    drawn(figure)
    own = filter_rows({"each": FILTERS}, scale="own", suptitle="own")
    assert own.axes[0].get_title("left") == "each"
    assert np.allclose(own.axes[0].images[7].get_array(), as_colours(FILTERS, "own")[7].permute(1, 2, 0))
    drawn(own)


def test_pictures_in_colour_name_each():
    figure = pictures_in_colour(FILTERS, [str(i) for i in range(10)], suptitle="templates")
    assert [axis.get_title() for axis in figure.axes] == [str(i) for i in range(10)]
    assert np.allclose(figure.axes[3].images[0].get_array(), as_colours(FILTERS, "own")[3].permute(1, 2, 0))
    drawn(figure)
    with pytest.raises(ValueError, match="10 pictures need 10 titles"):
        pictures_in_colour(FILTERS, ["one"])


def test_strips_show_each_filter_its_mean_and_noise():
    values = {"net": torch.tensor([0.2, 0.4, torch.nan, 0.9]), "other": torch.tensor([0.5, 0.6])}
    figure = smoothness_strips(values, {"net": 0.1, "other": 0.05}, title="layers")
    (axis,) = figure.axes
    dots = [collection for collection in axis.collections if len(collection.get_offsets()) > 1]
    assert dots[0].get_offsets()[:, 1].tolist() == pytest.approx([0.2, 0.4, 0.9])
    bands = [c.get_paths()[0].vertices[:, 1] for c in axis.collections[::3]]
    assert [band.max() for band in bands] == pytest.approx([0.196, 0.098])
    assert [band.min() for band in bands] == pytest.approx([-0.196, -0.098])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["net", "other"]
    legend = [text.get_text() for text in axis.get_legend().get_texts()]
    assert legend == ["95 % of white noise", "a filter", "mean"]
    assert axis.get_title() == "layers"
    drawn(figure)


def test_smoothness_by_epoch_draws_the_numbers():
    layers = {
        "conv1": {0: Interval(0.0, -0.1, 0.1), 8: Interval(0.9, 0.8, 0.95)},
        "conv2": {0: Interval(0.0, -0.1, 0.1), 8: Interval(0.6, 0.5, 0.7)},
    }
    figure = smoothness_by_epoch({"net": layers})
    (axis,) = figure.axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert lines == {"conv1": [0.0, 0.9], "conv2": [0.0, 0.6], "white noise": [0, 0]}
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "8"]
    drawn(figure)
    with pytest.raises(ValueError, match="nothing to draw"):
        smoothness_by_epoch({})


def test_browser_shows_the_filter_and_its_weights():
    figure = filter_browser(FILTERS, 4, title="conv1")
    picture, red, green, blue = figure.axes
    assert np.allclose(picture.images[0].get_array(), as_colours(FILTERS[4:5])[0].permute(1, 2, 0))
    for i, axis in enumerate((red, green, blue)):
        assert np.allclose(axis.images[0].get_array(), FILTERS[4, i])
        assert len(axis.texts) == 25
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
    assert titles[:2] == ["filter 1, 6 inputs", "weights, input channel 4"]
    canvas = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    assert np.allclose(canvas[4:7, 4:7], filters[1, 4])
    assert np.isnan(canvas[3]).all()
    assert [text.get_text() for text in figure.axes[1].texts[:3]] == [".50", "−.25", ".00"]
    drawn(figure)
