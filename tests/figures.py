"""What tests of figures and panels share."""

from __future__ import annotations

import base64
import io
import re

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from lessons_lib import plots, widgets


def drawn(figure: Figure) -> np.ndarray:
    """The grey pixels of ``figure``, once it is sure that something was drawn in each frame; closes it."""
    framed = [
        axis for axis in figure.axes if axis.axison and any(s.get_visible() for s in axis.spines.values())
    ]
    empty = [axis.get_title() for axis in framed if not axis.has_data()]
    assert not empty, f"nothing is drawn in {len(empty)} of its axes: {empty}"
    pixels = np.asarray(Image.open(io.BytesIO(plots.to_png(figure))).convert("L"))
    assert pixels.std() > 5, "an empty figure"
    return pixels


def panel_png(figure: Figure) -> bytes:
    """The PNG as which a panel shows ``figure``; closes it."""
    return plots.to_png(figure, compression=widgets.QUICKLY)


def file_of(panel: ipywidgets.VBox) -> bytes:
    """The PNG or SVG that a panel shows."""
    found = re.search(r"base64,([^\"]+)", panel.children[-1].value)
    assert found, "the panel shows no picture"
    return base64.b64decode(found[1])
