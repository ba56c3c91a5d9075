"""The panel of lesson 10: transform a picture and watch its features move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.invariance import NEUTRAL, Invariance, Kind
from lessons_lib.plots.invariance import transformation
from lessons_lib.widgets import panel


def transformation_panel(
    names: Sequence[str],
    originals: Tensor,
    views: Mapping[Kind, Tensor],
    measured: Mapping[Kind, Invariance],
    layers: Mapping[str, str],
) -> ipywidgets.VBox:
    """Choose a transformation, a picture and how much; see it, its features' distances and the probability.

    Args:
        names: of the pictures, N.
        originals: untransformed, uint8, shape (N, 3, S, S).
        views: by transformation, uint8, shape (N, A, 3, S, S).
        measured: by transformation, on these views.
        layers: the layers to show and what to call them.
    """
    kinds = list(views)
    kind = ipywidgets.Dropdown(options=kinds, description="change")
    picture = ipywidgets.Dropdown(options=list(names), description="picture")
    step = ipywidgets.IntSlider(min=0, max=0, description="step", readout=False)

    def fit_step(_: Any = None) -> None:
        # before the panel observes it, so that a new transformation never meets a step it does not have
        amounts = measured[kind.value].amounts
        step.max = len(amounts) - 1
        step.value = min(range(len(amounts)), key=lambda i: abs(amounts[i] - NEUTRAL[kind.value]))

    kind.observe(fit_step, names="value")
    fit_step()

    def draw(kind: Kind, picture: str, step: int) -> Figure:
        row = list(names).index(picture)
        return transformation(originals[row], views[kind][row, step], measured[kind], row, step, kind, layers)

    def alt(kind: Kind, picture: str, step: int) -> str:
        return (
            f"{picture} before and after a {kind} of {measured[kind].amounts[step]:.3g}, with dots on its curves: "
            "features' distance and the true class's probability."
        )

    return panel(draw, alt, kind=kind, picture=picture, step=step)
