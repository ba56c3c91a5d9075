"""Figures of evaluations hold the right maps and numbers."""

import numpy as np
import pytest
import torch

from lessons_lib.plots.evaluation import scoreboard, side_by_side
from lessons_lib.statistics import Interval
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")


def test_side_by_side_shows_every_map_from_zero_up():
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    maps = {"CAM": torch.randn(2, 4, 4), "occlusion": torch.randn(2, 8, 8)}
    figure = side_by_side(images, maps, ("cat", "dog"))
    axes = np.array(figure.axes).reshape(2, 3)
    for i in range(2):
        assert np.array_equal(axes[i, 0].images[0].get_array(), images[i].permute(1, 2, 0))
        assert axes[i, 0].get_ylabel() == ("cat", "dog")[i]
        for axis, stack in zip(axes[i, 1:], maps.values(), strict=True):
            drawing = axis.images[0]
            assert np.allclose(drawing.get_array(), stack[i].clamp(min=0))
            assert drawing.get_clim() == (0, pytest.approx(stack[i].max().item()))
    assert [axis.get_title() for axis in axes[0]] == ["picture", "CAM", "occlusion"]
    drawn(figure)
    drawn(side_by_side(images, {"nothing": torch.zeros(2, 4, 4)}))
    with pytest.raises(ValueError, match="2 pictures"):
        side_by_side(images, {"CAM": torch.ones(1, 4, 4)})
    with pytest.raises(ValueError, match="shorter"):
        side_by_side(images, maps, ("cat",))


SCORES = {
    "energy": {"CAM": Interval(0.5, 0.4, 0.6), "edges": Interval(0.7, 0.6, 0.8), "gradient": Interval(0.2, 0.1, 0.3)},
    "deletion": {"gradient": Interval(0.3, 0.2, 0.4), "CAM": Interval(0.1, 0.0, 0.2), "edges": Interval(0.2, 0.1, 0.3)},
}  # fmt: skip


def test_scoreboard_orders_methods_and_draws_intervals():
    figure = scoreboard(SCORES, baselines={"edges"}, chance={"energy": 0.35}, smaller_is_better={"deletion"})
    left, right = figure.axes
    order = ["edges", "CAM", "gradient"]
    assert [label.get_text() for label in left.get_yticklabels()] == order
    assert left.yaxis_inverted(), "the best on top"
    for axis, metric in ((left, "energy"), (right, "deletion")):
        for place, method in enumerate(order):
            bar, dot = axis.lines[2 * place : 2 * place + 2]
            score = SCORES[metric][method]
            assert list(bar.get_xdata()) == [score.low, score.high]
            assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (score.mean, place)
            assert dot.get_marker() == ("s" if method == "edges" else "o")
    assert left.lines[-1].get_xdata()[0] == 0.35
    assert len(right.lines) == 6, "no chance given, none drawn"
    assert (left.get_xlabel(), right.get_xlabel()) == ("larger is better", "smaller is better")
    drawn(figure)
    falling = scoreboard({"deletion": SCORES["deletion"]}, smaller_is_better={"deletion"})
    assert [label.get_text() for label in falling.axes[0].get_yticklabels()] == ["CAM", "edges", "gradient"]
    drawn(falling)
    controlled = scoreboard(SCORES, smaller_is_better={"deletion"}, controls={"deletion"})
    assert [axis.get_xlabel() for axis in controlled.axes] == ["larger is better", "control: near 0 expected"]
    assert controlled.axes[0].get_xlim() == controlled.axes[1].get_xlim() != right.get_xlim()
    drawn(controlled)
    for bad in ({}, {"a": SCORES["energy"], "b": {"CAM": Interval(0, 0, 0)}}):
        with pytest.raises(ValueError, match="same conditions"):
            scoreboard(bad)
