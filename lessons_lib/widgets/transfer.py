"""The decision helper of lesson 07: how many pictures, how similar, and which strategy the measurements speak for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets
from matplotlib.figure import Figure

from lessons_lib.methods.transfer import Scores, Similarity, decide
from lessons_lib.plots import transfer as figures
from lessons_lib.widgets import panel

PICTURES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def decision_panel(
    scores: Mapping[Similarity, Scores], *, small: int, pictures: Sequence[int] = PICTURES
) -> ipywidgets.VBox:
    """Enter size and similarity; read the strategy and the evidence for it.

    Args:
        scores: what was measured, by similarity of the target.
        small: up to this many pictures a class the usual advice calls a set small.
        pictures: what can be chosen.
    """
    size = ipywidgets.SelectionSlider(
        options=list(pictures),
        value=pictures[0],
        description="pictures a class",
        style={"description_width": "auto"},
    )
    target = ipywidgets.Dropdown(options=list(scores), description="target")

    def draw(pictures: int, similarity: Similarity) -> Figure:
        return figures.decision(decide(scores, pictures, similarity, small=small))

    def alt(pictures: int, similarity: Similarity) -> str:
        return str(decide(scores, pictures, similarity, small=small))

    return panel(draw, alt, pictures=size, similarity=target)
