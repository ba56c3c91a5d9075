"""Panels of lesson 10: hide a part and see which features change, and mark parts by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.data.face_parts import PARTS
from lessons_lib.data.marks import load_marks, save_marks
from lessons_lib.methods.correspondence import delta, sign_distances
from lessons_lib.plots.correspondence import marked, sign_patterns
from lessons_lib.widgets import panel


def sign_panel(
    hidden: Mapping[str, Tensor], changes: Mapping[str, Mapping[str, Tensor]], *, shown: int = 6
) -> ipywidgets.VBox:
    """Choose which part is hidden and a layer; see the signs of the changes in several faces, and Δ.

    Args:
        hidden: by condition, the occluded pictures, uint8, shape (N, 3, H, W).
        changes: by layer and condition, ε in those pictures, shape (N, …).
        shown: how many of the pictures to draw; Δ is that of all.
    """
    condition = ipywidgets.Dropdown(options=list(hidden), description="hidden")
    layer = ipywidgets.Dropdown(options=list(changes), description="layer")

    def draw(condition: str, layer: str) -> Figure:
        change = changes[layer][condition]
        return sign_patterns(hidden[condition][:shown], change[:shown], sign_title(change, condition, layer))

    def alt(condition: str, layer: str) -> str:
        return f"Faces with the {condition.replace('_', ' ')} hidden, a row of signs in {layer} beside each."

    return panel(draw, alt, condition=condition, layer=layer)


def sign_title(changes: Tensor, condition: str, layer: str) -> str:
    """What :func:`sign_panel` writes over its figure: the condition, the layer and Δ by two ways to count zeros."""
    counted, left_out = (delta(sign_distances(changes, zeros)).mean for zeros in ("third sign", "left out"))
    return (
        f"{condition.replace('_', ' ')} hidden, {layer}, {len(changes)} pictures: Δ = {counted:.2f}, "
        f"and {left_out:.2f} where unchanged features are left out"
    )


def mark_panel(images: Mapping[str, Tensor], path: Path) -> ipywidgets.VBox:
    """Mark eyes and nose in photographs: move the crosshair by two sliders, press *keep*.

    Each mark is written to ``path`` at once; marks that are there already are shown.

    Args:
        images: photographs by name, uint8, shape (3, H, W), of any sizes.
        path: a JSON file, see :func:`lessons_lib.data.marks.load_marks`.

    Raises:
        ValueError: if ``path`` holds something else.
    """
    marks = load_marks(path)
    picture = ipywidgets.Dropdown(options=list(images), description="picture")
    part = ipywidgets.Dropdown(options=PARTS, description="part")
    down = ipywidgets.FloatSlider(
        value=0.5, min=0, max=1, step=0.005, description="down", continuous_update=False
    )
    across = ipywidgets.FloatSlider(
        value=0.5, min=0, max=1, step=0.005, description="across", continuous_update=False
    )
    keep = ipywidgets.Button(description="keep this mark", icon="check")
    kept = ipywidgets.IntText(
        value=0, layout={"display": "none"}
    )  # changes with each mark, so that it is drawn

    def to_mark(_: Any = None) -> None:
        place = marks.get(picture.value, {}).get(part.value)
        if place is not None:
            down.value, across.value = place

    def press(_: Any) -> None:
        marks.setdefault(picture.value, {})[part.value] = (down.value, across.value)
        save_marks(path, marks)
        kept.value += 1

    picture.observe(to_mark, names="value")
    part.observe(to_mark, names="value")
    keep.on_click(press)
    to_mark()

    def draw(picture: str, part: str, down: float, across: float, kept: int) -> Figure:
        return marked(images[picture], marks.get(picture, {}), down, across, part)

    def alt(picture: str, part: str, down: float, across: float, kept: int) -> str:
        return (
            f"{picture} with {len(marks.get(picture, {}))} of {len(PARTS)} parts marked and a crosshair for the "
            f"{part.replace('_', ' ')}."
        )

    box = panel(draw, alt, picture=picture, part=part, down=down, across=across, kept=kept)
    return ipywidgets.VBox([keep, *box.children])
