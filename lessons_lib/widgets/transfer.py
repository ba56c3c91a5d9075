"""The panel of lesson 07: how many pictures, how similar a target, and what was measured nearest to that."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets
from matplotlib.figure import Figure

from lessons_lib.methods.transfer import Scores, decide
from lessons_lib.plots import transfer as figures
from lessons_lib.widgets import panel

PICTURES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def decision_panel(scores: Mapping[str, Scores]) -> ipywidgets.VBox:
    """Choose a target and how many pictures; read the strategies by their measured accuracy.

    Args:
        scores: what was measured, by target.
    """
    whole = {"description_width": "auto"}
    size = ipywidgets.SelectionSlider(options=PICTURES, description="pictures a class", style=whole)
    target = ipywidgets.Dropdown(options=list(scores), description="target")

    def draw(pictures: int, target: str) -> Figure:
        return figures.decision(decide(scores, pictures, target))

    def alt(pictures: int, target: str) -> str:
        return str(decide(scores, pictures, target))

    return panel(draw, alt, pictures=size, target=target)
