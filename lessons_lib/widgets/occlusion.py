"""The panel of lesson 04: move a patch over a picture and read the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, get_args

import torch
from IPython.display import SVG
from torch import Tensor, nn

from lessons_lib.methods.occlusion import Baseline, Occluder, baseline_picture
from lessons_lib.plots.occlusion import patched
from lessons_lib.widgets.face import Face, pixels


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
) -> Face:  # fmt: skip
    """Move a patch over a picture; the five most probable classes follow. And the map of all places.

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
    low, high = (torch.as_tensor(v).expand(3)[:, None, None] for v in (black, white))

    @cache
    def occluder(name: str) -> Occluder:
        return Occluder(model, images[name])

    def seen(inputs: Tensor) -> dict[str, Any]:
        shown = (inputs.cpu() - low) / (high - low) * 255
        return pixels(shown.round().clamp(0, 255).to(torch.uint8))

    def filled(name: str, side: int, kind: Baseline) -> Tensor:
        return baseline_picture(occluder(name).image, kind, side, black=black, white=white)

    def patches(name: str, places: list[dict[str, int]], side: int, kind: Baseline) -> dict[str, Any]:
        corners = [(place["row"] - side // 2, place["column"] - side // 2) for place in places]
        boxes = [
            (max(0, top), max(0, left), min(height, top + side), min(width, left + side))
            for top, left in corners
        ]
        return {"probabilities": occluder(name)(torch.tensor(boxes), filled(name, side, kind))[0].cpu()}

    about: dict[str, Any] = {
        "pictures": list(images),
        "classes": list(classes),
        "kinds": get_args(Baseline),
        "kind": baseline,
    }
    about |= {"sides": sorted({start, *(round(height / part) for part in (14, 7, 3.5))}), "side": start}
    answers: dict[str, Callable[..., Any]] = {
        "picture": lambda name: {"title": name} | seen(images[name]),
        "fill": lambda name, side, kind: seen(filled(name, side, kind)),
        "clean": lambda name: {"probabilities": occluder(name).clean[0].cpu()},
        "patches": patches,
    }
    return Face("occlusion", about, answers)
