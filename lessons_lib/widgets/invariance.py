"""The panel of lesson 10: transform a picture and watch its features move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.plots.invariance import NEUTRAL, transformation
from lessons_lib.widgets import keep_fitted, panel


def transformation_panel(
    names: Sequence[str],
    look: Callable[[str, str, float], Tensor],
    amounts: Mapping[str, Sequence[float]],
    measured: Mapping[str, Mapping[str, Tensor]],
) -> ipywidgets.VBox:
    """Choose a transformation, a picture and how much; see it, its features' distances and the probability.

    Args:
        names: of the pictures, N.
        look: given a picture's name, a transformation and its amount, the picture, uint8, shape (3, S, S).
        amounts: by transformation, A of them.
        measured: by transformation and name, shape (N, A), see ``lessons_lib.plots.invariance.curves``.
    """
    kind = ipywidgets.Dropdown(options=list(amounts), description="change")
    picture = ipywidgets.Dropdown(options=list(names), description="picture")
    step = ipywidgets.IntSlider(min=0, max=0, description="step", readout=False)

    def fit_step() -> None:
        steps = amounts[kind.value]
        step.max = len(steps) - 1
        step.value = min(range(len(steps)), key=lambda i: abs(steps[i] - NEUTRAL[kind.value]))

    keep_fitted(kind, fit_step)

    def draw(kind: str, picture: str, step: int) -> Figure:
        original, view = (look(picture, kind, amount) for amount in (NEUTRAL[kind], amounts[kind][step]))
        rows = {name: table[list(names).index(picture)] for name, table in measured[kind].items()}
        return transformation(original, view, kind, amounts[kind], rows, step)

    def alt(kind: str, picture: str, step: int) -> str:
        return (
            f"{picture} before and after a {kind} of {amounts[kind][step]:g}, with dots on its curves: features' "
            "distance and the right answer's probability."
        )

    return panel(draw, alt, kind=kind, picture=picture, step=step)
