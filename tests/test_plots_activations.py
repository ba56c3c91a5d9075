"""Figures of feature maps hold the right tiles, layers and numbers."""

import numpy as np
import pytest
import torch

from lessons_lib.plots.activations import (
    channel_browser,
    channels_by_epoch,
    lines,
    mean_maps,
    mosaic,
    one_filter,
)
from lessons_lib.statistics import Interval
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

PICTURES = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 2, 7, 32, 64, 128, 256])
def test_mosaic_holds_each_channel_once(channels):
    maps = torch.arange(channels).view(-1, 1, 1).expand(-1, 2, 3).float()
    canvas = mosaic(maps)
    values, counts = np.unique(canvas[~np.isnan(canvas)], return_counts=True)
    assert values.tolist() == list(range(channels))
    assert set(counts) == {2 * 3 * 4**2}, "each position enlarged by 4, so that 2 rows become 8"
    assert canvas[0, 0] == 0


def test_channel_browser_frames_the_channel_it_enlarges():
    maps = torch.zeros(32, 4, 4)
    maps[11] = 1
    figure = channel_browser(PICTURES[0], maps, 11, title="block1")
    _, middle, right, _ = figure.axes
    assert right.get_title() == "channel 11, 4×4"
    assert np.array_equal(right.images[0].get_array(), maps[11])
    (frame,) = middle.patches
    left, top = frame.get_xy()
    inside = middle.images[0].get_array()[round(top) + 1 : round(top) + 9, round(left) + 1 : round(left) + 9]
    assert (inside == 1).all()
    assert (middle.images[0].get_array() == 1).sum() == inside.size
    drawn(figure)
    for channel in (-1, 32):
        with pytest.raises(ValueError, match="0–31"):
            channel_browser(PICTURES[0], maps, channel, "block1")


def test_mean_maps_average_over_channels():
    rows = {
        state: {"block1": torch.rand(3, 4, 8, 8), "block2": torch.rand(3, 6, 4, 4)}
        for state in ("untrained", "trained")
    }
    figure = mean_maps(PICTURES, rows)
    axes = np.array(figure.axes).reshape(6, 3)
    for i in range(3):
        for j, state in enumerate(rows):
            for column, layer in enumerate(("block1", "block2"), start=1):
                expected = rows[state][layer][i].mean(0)
                assert np.allclose(axes[3 * j + i, column].images[0].get_array(), expected)
    assert axes[0, 1].get_title() == "block1\n8×8"
    assert [axis.get_ylabel() for axis in axes[2:4, 0]] == ["untrained", "trained"]
    drawn(figure)


def test_channels_by_epoch_has_a_mosaic_for_each():
    stacks = {epoch: torch.rand(32, 4, 4) for epoch in (0, 1, 2, 5)}
    figure = channels_by_epoch(PICTURES[0], stacks, "block1, all channels")
    mosaics = [axis for axis in figure.axes if axis.get_title()]
    titles = [axis.get_title() for axis in mosaics]
    assert titles == ["picture", "before training", "after epoch 1", "after epoch 2", "after epoch 5"]
    for axis, stack in zip(mosaics[1:], stacks.values(), strict=True):
        shown = np.ma.filled(axis.images[0].get_array(), np.nan)
        assert np.array_equal(shown, mosaic(stack), equal_nan=True)
    assert figure.get_suptitle() == "block1, all channels"
    bars = [axis for axis in figure.axes if not axis.get_title()]
    assert len(bars) == len(stacks), "each mosaic has a scale of its own"
    drawn(figure)


def test_a_silent_layer_can_be_drawn():
    drawn(channels_by_epoch(PICTURES[0], {0: torch.zeros(8, 4, 4)}, "block1"))


def test_one_filter_draws_each_step():
    summed = torch.linspace(-2, 3, 64).view(8, 8)
    figure = one_filter(PICTURES[0], torch.randn(3, 3, 3), summed, summed.relu())
    _, weights, left, right = figure.axes[:4]
    assert np.array_equal(left.images[0].get_array(), summed)
    assert left.images[0].get_clim() == (-3, 3), "white is 0"
    assert right.images[0].get_clim() == (0, 3)
    assert weights.images[0].get_array().shape[1] > weights.images[0].get_array().shape[0]
    drawn(figure)


LINES = {"block1": {0: Interval(0.1, 0.0, 0.3), 5: Interval(0.5, 0.4, 0.6)}} | {
    "block2": {0: Interval(0.2, 0.1, 0.3), 5: Interval(0.6, 0.5, 0.9)}
}


def ends_of(container):
    """The lower and upper ends of a line's error bars."""
    (bars,) = container.lines[2]
    return [tuple(segment[:, 1]) for segment in bars.get_segments()]


def test_lines_draw_means_intervals_and_the_control():
    figure = lines(
        {"Sparsity": LINES, "Spread": LINES}, ["share", "ratio"], "epoch", {"Spread": LINES}, "shuffled"
    )
    for axis, title in zip(figure.axes, ("Sparsity", "Spread"), strict=True):
        assert axis.get_title() == title
        for container, (layer, epochs) in zip(axis.containers, LINES.items(), strict=True):
            assert container.get_label() == layer
            assert container.lines[0].get_ydata().tolist() == [v.mean for v in epochs.values()]
            assert np.allclose(ends_of(container), [(v.low, v.high) for v in epochs.values()])
        assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "5"]
    dashed = [line for line in figure.axes[1].lines if line.get_linestyle() == "--"]
    assert [list(line.get_ydata()) for line in dashed[:2]] == [[0.1, 0.5], [0.2, 0.6]]
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"block1", "block2", "shuffled"}
    drawn(figure)


def test_lines_need_no_control():
    figure = lines({"Dead": {"one": {0.001: Interval(0.1, 0.0, 0.3)}}}, ["share"], "learning rate")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.001"]
    drawn(figure)
