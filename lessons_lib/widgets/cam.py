"""The panel of lesson 05: the evidence for any class in any picture, laid over it or cut out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from lessons_lib.methods.cam import Evidence
from lessons_lib.widgets.face import Face, pixels


def cam_panel(
    images: Mapping[str, Tensor], found: Evidence, classes: Sequence[str], offered: Sequence[int]
) -> Face:
    """Choose a picture and a class, slide the overlay and the threshold.

    Args:
        images: pictures by name, uint8, shape (3, H, W).
        found: their class activation maps, in that order.
        classes: the names of the classes.
        offered: the numbers of those to choose from.
    """
    names = list(images)

    def evidence(name: str, k: int) -> dict[str, Any]:
        shown = found.maps[names.index(name), k]
        return {
            "evidence": shown,
            "shape": list(shown.shape),
            "logit": found.logits[names.index(name), k].item(),
        }

    about = {"pictures": names, "classes": list(classes), "offered": list(offered)}
    answers: dict[str, Callable[..., Any]] = {
        "picture": lambda name: {"title": name} | pixels(images[name]),
        "clean": lambda name: {"probabilities": found.probabilities[names.index(name)]},
        "evidence": evidence,
    }
    return Face("cam", about, answers)
