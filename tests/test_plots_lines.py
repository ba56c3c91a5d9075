"""However many lines a figure is asked for, it draws each of them, and no two alike."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from lessons_lib import plots
from lessons_lib.course import figure_style
from lessons_lib.plots import deconvnet, invariance, transfer

pytestmark = pytest.mark.usefixtures("no_open_figures")

COUNT = 12  # more than any list of markers is long
NAMES = [f"line {i}" for i in range(COUNT)]
SHARES, BY_COUNT = {"a": 0.1, "b": 0.2}, {1: (0.1, 0.2), 2: (0.3, 0.5)}
BY_EPOCH = {name: {1: 0.5, 2: 0.75} for name in NAMES}

FIGURES = {
    "by_layer": lambda: plots.by_layer(dict.fromkeys(NAMES, SHARES), title="", ylabel=""),
    "learning_curves": lambda: deconvnet.learning_curves(dict.fromkeys(NAMES, torch.rand(2, 3)), ""),
    "settling": lambda: deconvnet.settling(BY_EPOCH),
    "training_curves": lambda: invariance.training_curves(
        {"shift": (0, 1)}, {"shift": dict.fromkeys(NAMES, torch.rand(1, 2))}
    ),
    "curves of transfer": lambda: transfer.curves(
        {"digits": dict.fromkeys(NAMES, BY_COUNT)}, {"digits": 0.1}
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_line_is_drawn_and_looks_like_no_other(name):
    figure_style()  # a lesson's seven colours in a row, where matplotlib has ten
    figure = FIGURES[name]()
    for axis in figure.axes:
        lines = [line for line in axis.lines if line.get_label() in NAMES]
        assert [line.get_label() for line in lines] == NAMES
        looks = {(to_hex(line.get_color()), line.get_marker(), line.get_linestyle()) for line in lines}
        assert len(looks) == COUNT
    plt.close(figure)
