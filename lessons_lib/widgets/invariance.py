"""The panel of lesson 10: transform a picture and watch its features move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lessons_lib.plots.invariance import ANSWER, NEUTRAL
from lessons_lib.widgets.face import Face, pixels


def transformation_panel(
    names: Sequence[str],
    look: Callable[[str, str, float], Tensor],
    amounts: Mapping[str, Sequence[float]],
    measured: Mapping[str, Mapping[str, Tensor]],
) -> Face:
    """Choose a transformation, a picture and how much; see it, its features' distances and the probability.

    Args:
        names: of the pictures, N.
        look: given a picture's name, a transformation and its amount, the picture, uint8, shape (3, S, S).
        amounts: by transformation, A of them.
        measured: by transformation and name, shape (N, A), see ``lessons_lib.plots.invariance.curves``.
    """
    kinds, rows = list(amounts), {name: row for row, name in enumerate(names)}
    curves = [name for name in measured[kinds[0]] if name != ANSWER]

    def measure(name: str, kind: str, steps: list[int]) -> dict[str, Any]:
        found = {title: table[rows[name], steps].float() for title, table in measured[kind].items()}
        distances = torch.stack([found[title] for title in curves], dim=1)
        return {"distances": distances, "probabilities": found[ANSWER]}

    about: dict[str, Any] = {"pictures": list(names), "curves": curves, "neutral": NEUTRAL, "measured": True}
    about["amounts"] = {kind: list(steps) for kind, steps in amounts.items()}
    answers: dict[str, Callable[..., Any]] = {
        "picture": lambda name: {"title": name} | pixels(look(name, kinds[0], NEUTRAL[kinds[0]])),
        "view": lambda name, kind, step: pixels(look(name, kind, amounts[kind][step])),
        "clean": lambda name: {"answer": "the right answer"},
        "measure": measure,
    }
    return Face("invariance", about, answers)
