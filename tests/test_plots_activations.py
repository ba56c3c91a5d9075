"""Figures of feature maps hold the right tiles, layers and numbers."""

import numpy as np
import pytest
import torch

from lessons_lib.methods.activations import Measures
from lessons_lib.plots.activations import (
    channel_browser,
    channels_by_epoch,
    mean_maps,
    measures_by_epoch,
    mosaic,
)
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
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        mosaic(torch.zeros(1, 2, 3, 4))


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
            channel_browser(PICTURES[0], maps, channel)


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
                assert np.allclose(axes[2 * i + j, column].images[0].get_array(), expected)
    assert axes[0, 1].get_title() == "block1\n8×8"
    assert [axis.get_ylabel() for axis in axes[:2, 0]] == ["untrained", "trained"]
    drawn(figure)


def test_channels_by_epoch_has_a_mosaic_for_each():
    stacks = {epoch: torch.rand(32, 4, 4) for epoch in (0, 1, 2, 5)}
    figure = channels_by_epoch(PICTURES[0], stacks, "block1")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["picture", "before training", "after epoch 1", "after epoch 2", "after epoch 5"]
    for axis, stack in zip(figure.axes[1:], stacks.values(), strict=True):
        shown = np.ma.filled(axis.images[0].get_array(), np.nan)
        assert np.array_equal(shown, mosaic(stack), equal_nan=True)
    assert "all 32 channels of 4×4" in figure.get_suptitle()
    drawn(figure)


def test_a_silent_layer_can_be_drawn():
    drawn(channels_by_epoch(PICTURES[0], {0: torch.zeros(8, 4, 4)}, "block1"))


def test_measures_by_epoch_draws_the_numbers():
    measures = {
        "block1": {0: Measures(0.1, 0.2, 0.0, 0.4), 5: Measures(0.5, 0.6, 0.7, 0.8)},
        "block2": {0: Measures(0.2, 0.3, 0.1, 0.5), 5: Measures(0.6, 0.7, 0.8, 0.9)},
    }
    figure = measures_by_epoch(measures)
    for axis, field in zip(figure.axes, ("sparsity", "localisation", "dead", "likeness"), strict=True):
        for line, layer in zip(axis.lines, measures, strict=True):
            assert line.get_ydata().tolist() == [getattr(m, field) for m in measures[layer].values()]
            assert line.get_label() == layer
        assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "5"]
    drawn(figure)
