"""Figures of transfer learning show the numbers they were given, and mark what was advised."""

import pytest
import torch

from lessons_lib.methods.transfer import ADVICE, LATE, STRATEGIES, TUNED, decide, judge
from lessons_lib.plots import transfer as figures
from lessons_lib.statistics import Interval, t_interval
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

SCORES = {
    similarity: {
        name: {5: (0.3 + i / 10, 0.35 + i / 10), 60: (0.8 - i / 10, 0.82 - i / 10)}
        for i, name in enumerate(STRATEGIES)
    }
    for similarity in ("similar", "different")
}
SIZES = {"small": 5, "large": 60}


def test_layer_profiles_draw_each_probe_and_mark_the_best_layer():
    by_layer = {"a": (0.2, 0.3), "b": (0.7, 0.8), "c": (0.5, 0.6)}
    figure = figures.layer_profiles({"digits": {"svm": by_layer, "softmax": by_layer}}, {"digits": 0.1})
    (axis,) = figure.axes
    assert axis.lines[0].get_ydata() == pytest.approx([0.25, 0.75, 0.55])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert axis.lines[-1].get_xdata()[0] == 1, "the best layer"
    assert axis.get_title() == "digits"
    drawn(figure)
    with pytest.raises(ValueError, match="no targets"):
        figures.layer_profiles({}, {})


def test_curves_draw_means_t_interval():
    figure = figures.curves(SCORES, {"similar": 0.2, "different": 0.1})
    assert [axis.get_title() for axis in figure.axes] == ["similar", "different"]
    for axis in figure.axes:
        for line, name in zip(axis.lines[: len(STRATEGIES)], STRATEGIES, strict=True):
            assert line.get_label() == name
            expected = [t_interval(values).mean for values in SCORES["similar"][name].values()]
            assert line.get_ydata() == pytest.approx(expected)
            assert list(line.get_xdata()) == [5, 60]
        assert [label.get_text() for label in axis.get_xticklabels()] == ["5", "60"]
    drawn(figure)
    drawn(figures.curves({"any": {"another strategy": {1: (0.1, 0.2)}}}))
    with pytest.raises(ValueError, match="no targets"):
        figures.curves({})


def test_four_cases_hatch_the_advised_bar():
    verdicts = {
        (size, similarity): judge(
            {name: SCORES[similarity][name][count] for name in STRATEGIES}, ADVICE[size, similarity]
        )
        for size, count in SIZES.items()
        for similarity in SCORES
    }
    examples = {name: torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8) for name in SCORES}
    figure = figures.four_cases(SCORES, SIZES, verdicts, examples)
    pictures, small, large = figure.axes[:3]
    shown = pictures.images[0].get_array()
    assert shown.shape == (24, 24, 3)
    assert (shown[8:16, 16:24] == examples["similar"][5].permute(1, 2, 0).numpy()).all()
    assert [bar.get_height() for bar in small.patches] == pytest.approx([0.325, 0.425, 0.525, 0.625])
    assert [bar.get_hatch() for bar in small.patches] == ["//", None, None, None]
    assert [bar.get_hatch() for bar in large.patches] == [None, None, "//", None]
    assert small.get_title().startswith("small: 5 a class; the advice")
    drawn(figure)


def test_forgetting_draws_both_sides():
    learned = {"1": {0: 0.2, 3: 0.9}, "1/10": {0: 0.2, 3: 0.6}}
    kept = {"1": {0: 1.0, 3: 0.1}, "1/10": {0: 1.0, 3: 0.7}}
    figure = figures.forgetting(learned, kept)
    left, right = figure.axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[0.2, 0.9], [0.2, 0.6]]
    assert [line.get_ydata().tolist() for line in right.lines] == [[1.0, 0.1], [1.0, 0.7]]
    drawn(figure)
    with pytest.raises(ValueError, match="same learning rates"):
        figures.forgetting(learned, {"1": {0: 1.0}})


def test_answers_put_quoted_figures_beside_measured_ones():
    table = {"no training": 0.8, "fine-tuned": Interval(0.9, 0.85, 1.05)}
    figure = figures.answers(table, {"no training": 0.87}, title="Ants and bees", chance=0.5)
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [0.8, 0.9]
    diamonds = [line for line in axis.lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in diamonds] == [0.87]
    assert [text.get_text() for text in axis.texts] == ["0.800", "0.900"]
    drawn(figure)
    drawn(figures.answers({"fine-tuned": 0.9}, {}, title="Critters", chance=0.5))


def test_decisions_fade_what_is_clearly_worse():
    found = decide(SCORES, 60, "similar", small=20)
    figure = figures.decision(found)
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([0.81, 0.71, 0.61, 0.51])
    assert [bar.get_alpha() for bar in axis.patches] == [0.85, 0.35, 0.35, 0.35]
    hatched = [
        label.get_text()
        for label, bar in zip(axis.get_yticklabels(), axis.patches, strict=True)
        if bar.get_hatch()
    ]
    assert hatched == [f"{TUNED} (advised)"]
    assert axis.get_title().startswith(f"60 pictures a class, similar target: {LATE}")
    drawn(figure)
