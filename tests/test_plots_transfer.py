"""Figures of transfer learning show the numbers they were given, and mark what was advised."""

import pytest
from matplotlib.colors import to_hex

from lessons_lib.methods.transfer import decide
from lessons_lib.plots import transfer as figures
from lessons_lib.statistics import share_interval, t_interval
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

NAMES = ("a", "b", "c", "d")
SCORES = {
    target: {
        name: {5: (0.3 + i / 10, 0.35 + i / 10), 60: (0.8 - i / 10, 0.82 - i / 10)}
        for i, name in enumerate(NAMES)
    }
    for target in ("photographs", "digits")
}


def test_layer_profiles_draw_each_layer():
    by_layer = {"a": (0.2, 0.3), "b": (0.7, 0.8), "c": (0.5, 0.6)}
    figure = figures.layer_profiles(
        {"digits": by_layer, "photographs": by_layer}, {"digits": 0.1, "photographs": 0.5}
    )
    for axis, title in zip(figure.axes, ("digits", "photographs"), strict=True):
        assert axis.get_title() == title
        assert axis.lines[0].get_ydata() == pytest.approx([0.25, 0.75, 0.55])
        assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    drawn(figure)
    with pytest.raises(ValueError, match="nothing to draw"):
        figures.layer_profiles({}, {})


def test_curves_draw_means_and_intervals():
    figure = figures.curves(SCORES, {"photographs": 0.2, "digits": 0.1})
    assert [axis.get_title() for axis in figure.axes] == ["photographs", "digits"]
    for axis in figure.axes:
        by_name = {line.get_label(): line for line in axis.lines}
        for name in NAMES:
            expected = [t_interval(values).mean for values in SCORES["digits"][name].values()]
            assert by_name[name].get_ydata() == pytest.approx(expected)
            assert list(by_name[name].get_xdata()) == [5, 60]
        assert [label.get_text() for label in axis.get_xticklabels()] == ["5", "60"]
    drawn(figure)


def test_the_trade_off_has_a_mark_for_each_training():
    figure = figures.trade_off({"1": ((0.2, 0.3), (0.0, 0.1)), "1/10": ((0.8,), (0.7,))}, old=1, new=0.6)
    (axis,) = figure.axes
    assert [line.get_xydata().tolist() for line in axis.lines] == [
        [[0.2, 0], [0.3, 0.1]],
        [[0.8, 0.7]],
        [[0.6, 1]],
    ]
    drawn(figure)


def test_answers_put_quoted_figures_beside_measured_ones():
    table = {"no training": ((80,), 100), "fine-tuned": ((90, 92), 100)}
    figure = figures.answers(table, {"no training": 0.87}, title="Ants and bees")
    (axis,) = figure.axes
    dots = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([0.8, 0.91])
    assert [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "D"] == [0.87]
    seeds = [list(line.get_xdata()) for line in axis.lines if line.get_marker() == "|"]
    assert seeds == [[0.8], [0.9, 0.92]]
    wide = share_interval(91, 100)
    _, band = axis.collections  # whose ends are cut where the interval ends; a line's would project
    assert band.get_segments()[0][:, 0] == pytest.approx([wide.low, wide.high])
    assert band.get_capstyle() in (None, "butt")
    drawn(figure)


def test_four_cases_mark_the_two_strategies_that_are_compared():
    scores = {name: SCORES["digits"][name][5] for name in NAMES}
    lead = t_interval([a - b for a, b in zip(scores["b"], scores["d"], strict=True)])
    figure = figures.four_cases({"small and different": (scores, "b", "d", lead)})
    (axis,) = figure.axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["a", "b (advised)", "c", "d (instead of)"]
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == pytest.approx([0.325, 0.425, 0.525, 0.625])
    assert len({to_hex(line.get_color()) for line in dots}) == 3, "two colours and grey"
    assert axis.get_title().endswith(str(lead))
    drawn(figure)


def test_decisions_fade_what_is_surely_worse():
    figure = figures.decision(decide(SCORES, 60, "digits"))
    (axis,) = figure.axes
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == pytest.approx([0.81, 0.71, 0.61, 0.51])
    assert [line.get_alpha() for line in dots] == [1, 0.35, 0.35, 0.35]
    assert axis.get_title().startswith("digits, measured at 60 pictures a class")
    drawn(figure)
