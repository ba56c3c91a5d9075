"""The panel of lesson 04: move a patch over a picture and read the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import get_args

import ipywidgets
import torch
from IPython.display import SVG
from torch import Tensor, nn

from lessons_lib.methods.occlusion import Baseline, Occluder, baseline_picture
from lessons_lib.plots.occlusion import patched
from lessons_lib.widgets import panel


def patched_view(
    occluder: Occluder, classes: Sequence[str], row: int, column: int, size: int, baseline: Baseline, *,
    black: Tensor | float = -1.0, white: Tensor | float = 1.0,
) -> SVG:  # fmt: skip
    """A picture with a patch centred on one pixel, and what the network says of it.

    Args:
        occluder: the network and the picture.
        classes: the names of all classes.
        row: the patch's centre, from the top.
        column: the same from the left.
        size: side of the patch in pixels; 0 shows the picture without one.
        baseline: what stands in the patch.
        black: the input value of a black pixel, a number or one for each channel (C,).
        white: that of a white pixel.

    Raises:
        ValueError: if the patch's centre is outside the picture.
    """
    image = occluder.image
    height, width = image.shape[1:]
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"the centre must lie in 0–{height - 1} and 0–{width - 1}, not at ({row}, {column})")
    filled = baseline_picture(image, baseline, max(size, 1), black=black, white=white)
    top, left = row - size // 2, column - size // 2
    box = max(0, top), max(0, left), min(height, top + size), min(width, left + size)
    probabilities = occluder(torch.tensor([box]), filled)[0][0]
    shown = image.clone()
    window = (slice(None), slice(box[0], box[2]), slice(box[1], box[3]))
    shown[window] = filled[window]
    low, high = (torch.as_tensor(v).to(image).expand(len(image))[:, None, None] for v in (black, white))
    picture = ((shown - low) / (high - low) * 255).round().clamp(0, 255).to(torch.uint8).cpu()
    return patched(picture, probabilities, occluder.clean[0], classes)


def occlusion_panel(
    model: nn.Module, images: Mapping[str, Tensor], classes: Sequence[str], *,
    size: int | None = None, baseline: Baseline = "zero", black: Tensor | float = -1.0, white: Tensor | float = 1.0,
) -> ipywidgets.VBox:  # fmt: skip
    """Move a patch over a picture; the five most probable classes follow.

    Args:
        model: a classifier.
        images: its inputs by name, float, shape (C, H, W), all of one size.
        classes: the names of all classes.
        size: side of the patch to begin with, in pixels; a fifth of the picture's by default.
        baseline: what stands in it to begin with.
        black: the input value of a black pixel, a number or one for each channel (C,).
        white: that of a white pixel.
    """
    height, width = next(iter(images.values())).shape[1:]
    start = height // 5 if size is None else size

    @cache
    def occluder(picture: str) -> Occluder:
        return Occluder(model, images[picture])

    def draw(picture: str, row: int, column: int, size: int, baseline: Baseline) -> SVG:
        return patched_view(occluder(picture), classes, row, column, size, baseline, black=black, white=white)

    alt = (
        "{picture} with a patch of {size} by {size} pixels centred on row {row}, column {column}, filled with "
        "{baseline}, beside bars of the five most probable classes."
    )
    return panel(
        draw,
        alt.format,
        picture=ipywidgets.Dropdown(options=list(images), description="picture"),
        row=ipywidgets.IntSlider(value=height // 2, max=height - 1, description="row"),
        column=ipywidgets.IntSlider(value=width // 2, max=width - 1, description="column"),
        size=ipywidgets.IntSlider(value=start, max=height, description="size"),
        baseline=ipywidgets.Dropdown(options=get_args(Baseline), value=baseline, description="baseline"),
    )
