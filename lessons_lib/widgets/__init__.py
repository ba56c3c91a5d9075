"""Interactive panels: each redraws a function of :mod:`lessons_lib.plots` when a control moves.

Here is the panel itself; ``widgets/X.py`` holds the panels of the lesson on ``methods/X.py``.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lessons_lib import plots


def panel(
    draw: Callable[..., Figure], alt: Callable[..., str], **controls: ipywidgets.Widget
) -> ipywidgets.VBox:
    """Controls above a picture of the figure that ``draw`` makes from their values.

    The figure is an image that is replaced in place, so it neither flickers nor piles up. If ``draw`` fails,
    the message stands under the controls and the last good figure stays.

    Args:
        draw: called with each control's value by name; returns the figure.
        alt: called likewise; returns the sentence for those who cannot see it.
        controls: widgets with a ``value``.
    """
    picture = ipywidgets.HTML()  # not ipywidgets.Image, which has no alt text
    message = ipywidgets.HTML()

    def redraw(_: Any = None) -> None:
        values = {name: control.value for name, control in controls.items()}
        try:
            picture.value = _as_html(draw(**values), alt(**values))
            message.value = ""
        except Exception as error:
            message.value = f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"

    for control in controls.values():
        control.layout.max_width = "calc(100% - 4px)"  # with its margins; a phone is narrower than a slider
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox(
        [ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"}), message, picture]
    )


def panel_png(figure: Figure) -> bytes:
    """The PNG as which a panel shows ``figure``: packed quickly, for a reader who moves a slider; it is closed."""
    return plots.to_png(figure, compression=1)


def _as_html(figure: Figure, alt: str) -> str:
    width = round(figure.get_figwidth() * plt.rcParams["figure.dpi"])
    png = base64.b64encode(panel_png(figure)).decode()
    return f'<img alt="{html.escape(alt)}" style="width: {width}px; max-width: 100%" src="data:image/png;base64,{png}">'
