"""The panel of lesson 05: the evidence for any class in any picture, laid over it or cut out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.cam import Evidence
from lessons_lib.plots.cam import STRENGTH, explain
from lessons_lib.widgets import panel


def cam_panel(
    images: Mapping[str, Tensor], found: Evidence, classes: Sequence[str], offered: Sequence[int]
) -> ipywidgets.VBox:
    """Choose a picture and a class, slide the overlay and the threshold.

    Args:
        images: pictures by name, uint8, shape (3, H, W).
        found: their class activation maps, in that order.
        classes: the names of the classes.
        offered: the numbers of those to choose from.
    """
    names = list(images)
    picture = ipywidgets.Dropdown(options=names, description="picture")
    options, first = [(classes[k], k) for k in offered], offered[int(found.logits[0, offered].argmax())]
    named = ipywidgets.Dropdown(options=options, value=first, description="class")
    overlay = ipywidgets.FloatSlider(min=0, max=1, step=0.05, value=STRENGTH, description="overlay")
    threshold = ipywidgets.FloatSlider(min=0, max=1, step=0.05, value=0.5, description="threshold")

    def title(name: str, k: int) -> str:
        probability = found.probabilities[names.index(name), k]
        return f"{name}: evidence for {classes[k]}, probability {probability:.2f}"

    def draw(picture: str, named: int, overlay: float, threshold: float) -> Figure:
        evidence = found.maps[names.index(picture), named]
        over = title(picture, named)
        return explain(images[picture], evidence, strength=overlay, threshold=threshold, title=over)

    def alt(picture: str, named: int, overlay: float, threshold: float) -> str:
        return (
            f"{title(picture, named)}: the picture, the evidence laid over it, and the part of it where the evidence "
            f"is at least {threshold:.0%} of its maximum."
        )

    return panel(draw, alt, picture=picture, named=named, overlay=overlay, threshold=threshold)
