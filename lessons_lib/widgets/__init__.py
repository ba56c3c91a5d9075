"""Interactive panels: each redraws a function of ``lessons_lib.plots`` when a control moves.

Here is the panel itself; ``widgets/X.py`` holds the panels of the lesson on ``methods/X.py``.
"""

from __future__ import annotations

import html
import pkgutil
from collections.abc import Callable
from typing import Any

import ipywidgets
import lazy_loader
from IPython.display import SVG
from matplotlib.figure import Figure

from lessons_lib import plots

# the panels of a lesson are imported when they are first used
__getattr__, _, _ = lazy_loader.attach(__name__, [part.name for part in pkgutil.iter_modules(__path__)])

QUICKLY = 1  # zlib's level at which panels pack their figures, for a reader who moves a slider


def panel(
    draw: Callable[..., Figure | SVG], alt: Callable[..., str], **controls: ipywidgets.Widget
) -> ipywidgets.VBox:
    """Controls above a picture of the figure that ``draw`` makes from their values.

    The figure is an image that is replaced in place, so it neither flickers nor piles up. If ``draw`` fails,
    the message stands under the controls and the last good figure stays.

    Args:
        draw: called with each control's value by name; returns the figure.
        alt: called likewise; returns the sentence for those who cannot see it,
            as ``"…".format`` does.
        controls: widgets with a ``value``.
    """
    picture = ipywidgets.HTML()  # not ipywidgets.Image, which has no alt text
    message = ipywidgets.HTML()

    def redraw(_: Any = None) -> None:
        values = {name: control.value for name, control in controls.items()}
        try:
            picture.value = plots.img_tag(draw(**values), alt(**values), compression=QUICKLY)
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


def keep_fitted(control: ipywidgets.Widget, fit: Callable[[], None]) -> None:
    """Call ``fit``, which sets what other controls offer, now and whenever ``control`` changes.

    To be called before the panel observes the control, so that a new layer never meets a channel it does not have.
    """
    control.observe(lambda _: fit(), names="value")
    fit()
