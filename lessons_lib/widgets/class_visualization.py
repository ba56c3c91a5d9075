"""The panel of lesson 09: play the frames of an ascent."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.methods.class_visualization import Ascent
from lessons_lib.plots.class_visualization import frame
from lessons_lib.widgets import panel


def frame_panel(names: Sequence[str], pictures: Tensor, ascent: Ascent) -> ipywidgets.VBox:
    """Choose a picture and move, or play, through its frames; it begins at the last.

    Args:
        names: of the N pictures.
        pictures: all frames as uint8, shape (F, N, 3, H, W).
        ascent: their numbers.
    """
    last = len(pictures) - 1
    picture = ipywidgets.Dropdown(options=list(names), description="class")
    index = ipywidgets.IntSlider(value=last, min=0, max=last, description="frame")
    play = ipywidgets.Play(value=last, min=0, max=last, interval=400)
    ipywidgets.link((play, "value"), (index, "value"))

    def draw(picture: str, index: int) -> Figure:
        return frame(pictures, ascent, list(names).index(picture), index, picture)

    def alt(picture: str, index: int) -> str:
        return (
            f"The picture of {picture} after {ascent.steps[index]} steps, with dots on the curves of its logit, "
            f"{ascent.logits[index, list(names).index(picture)]:.1f}, and its rank."
        )

    box = panel(draw, alt, picture=picture, index=index)
    box.children[0].children = (play, *box.children[0].children)
    return box
