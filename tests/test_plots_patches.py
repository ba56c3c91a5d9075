"""Figures of patches show the right boxes, patches, marks and numbers."""

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from torch import nn

from lessons_lib.methods.receptive_field import Box, receptive_fields
from lessons_lib.plots.patches import (
    field_boxes,
    influences,
    marked_pictures,
    one_against_others,
    patch_grids,
    patch_sheet,
)
from lessons_lib.statistics import t_interval
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

PICTURES = torch.randint(
    0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
FIELD = receptive_fields(nn.Sequential(nn.Conv2d(3, 4, 5, stride=2, padding=2)), 16, ["0"])["0"]


def rectangles(axis):
    return [(*p.get_xy(), p.get_width(), p.get_height()) for p in axis.patches if isinstance(p, Rectangle)]


def test_field_boxes_outline_a_corner_and_a_middle_unit():
    figure = field_boxes(PICTURES[0], {"stem": FIELD, "again": FIELD})
    assert len(figure.axes) == 2
    axis = figure.axes[0]
    assert axis.get_title() == "stem: 8×8 units\nfield 5×5"
    # window and box of the corner, then of the middle: x, y, width, height
    assert rectangles(axis) == [(-2, -2, 5, 5), (0, 0, 3, 3), (6, 6, 5, 5), (6, 6, 5, 5)]
    drawn(figure)


def test_influences_draw_the_map_and_the_box():
    values = torch.rand(8, 9)
    figure = influences({"a": values}, {"a": Box(1, 2, 5, 8)})
    assert np.array_equal(figure.axes[0].images[0].get_array(), values.numpy())
    assert rectangles(figure.axes[0]) == [(2, 1, 6, 4)]
    drawn(figure)


@pytest.mark.parametrize(("count", "side", "grid"), [(9, 3, 3), (5, 30, 3), (1, 40, 1), (4, 24, 2)])
def test_patch_sheet_holds_every_patch_in_order(count, side, grid):
    patches = torch.arange(count).view(-1, 1, 1, 1).expand(-1, 3, side, side).to(torch.uint8)
    sheet = patch_sheet(patches)
    tile = side * max(1, -(-24 // side))
    line = max(1, tile // 16)
    assert sheet.shape == (grid * (tile + line) - line,) * 2 + (3,)
    for i in range(count):
        top, left = (i // grid) * (tile + line), (i % grid) * (tile + line)
        assert (sheet[top : top + tile, left : left + tile] == i).all()


def test_patch_grids_name_rows_and_channels():
    rows = {
        "block1": {"channel 3": PICTURES[:9], "channel 5": PICTURES[3:]},
        "block2": {"channel 0": PICTURES[:9]},
    }
    rows["block2"]["channel 1"] = PICTURES[2:11]
    figure = patch_grids(rows)
    axes = np.array(figure.axes).reshape(2, 2)
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["block1", "block2"]
    assert [axis.get_title() for axis in axes.flat] == ["channel 3", "channel 5", "channel 0", "channel 1"]
    assert np.array_equal(axes[1, 1].images[0].get_array(), patch_sheet(PICTURES[2:11]))
    drawn(figure)


def test_marked_pictures_are_dark_outside_the_mask():
    marked = torch.zeros(3, 16, 16, dtype=torch.bool)
    marked[0, 4:9, 4:9] = True
    marked[2] = True
    figure = marked_pictures(PICTURES[:3], marked, ["a", "b", "c"])
    shown = [axis.images[0].get_array() for axis in figure.axes[:3]]
    picture = PICTURES[0].permute(1, 2, 0).numpy()
    assert np.array_equal(shown[0][4:9, 4:9], picture[4:9, 4:9])
    assert np.array_equal(shown[0][:4], picture[:4] // 4)
    assert np.array_equal(shown[2], PICTURES[2].permute(1, 2, 0).numpy())
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c"]
    drawn(figure)
    for images, titles in ((PICTURES[:2], ["a", "b"]), (PICTURES[:3], ["a"])):
        with pytest.raises(ValueError, match="zip"):
            marked_pictures(images, marked, titles)


def test_one_against_others_draws_all_and_their_interval():
    columns = {"block3": (9.0, [3.0, 5.0, 4.0]), "block4": (2.0, [1.0, 2.0])}
    figure = one_against_others(columns, ("this", "those"), title="T", ylabel="n")
    axis = figure.axes[0]
    points = [line.get_ydata() for line in axis.lines if len(line.get_ydata())]
    assert any(np.array_equal(p, [9.0]) for p in points)
    assert any(np.array_equal(p, [3.0, 5.0, 4.0]) for p in points)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["block3", "block4"]
    assert [text.get_text() for text in axis.get_legend().get_texts()][:2] == ["this", "those"]
    bars = [container for container in axis.containers if container.has_yerr]
    low, high = bars[0].lines[2][0].get_segments()[0][:, 1]
    expected = t_interval([3.0, 5.0, 4.0])
    assert (low, high) == pytest.approx((expected.low, expected.high))
    drawn(figure)
