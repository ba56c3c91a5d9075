"""Which pictures to learn from, what a trained head already says, and what measurements say about a reader's case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lessons_lib.checks import check_choice, check_range
from lessons_lib.statistics import Interval, t_interval

Scores = Mapping[str, Mapping[int, Sequence[float]]]
"""By strategy and pictures a class: accuracies (0–1), one for each seed, in the same order of seeds."""


def per_class(labels: Tensor, count: int, seed: int) -> Tensor:
    """Positions of ``count`` pictures of each class, drawn by lot: int64, ascending.

    Args:
        labels: int64, shape (N,).
        count: pictures a class, at least 1.
        seed: another one draws others.

    Raises:
        ValueError: if ``count`` is below 1 or a class has fewer pictures.
    """
    check_range("count", count, 1)
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for label in labels.unique():
        places = (labels == label).nonzero().flatten()
        check_range(f"the number of pictures of class {label.item()}", len(places), count)
        drawn.append(places[torch.randperm(len(places), generator=generator)[:count]])
    return torch.cat(drawn).sort().values


@dataclass(frozen=True)
class Decision:
    """What was measured nearest to a reader's own case.

    Attributes:
        target: what was learned.
        pictures: of a class in the reader's own set.
        measured_at: pictures a class of the nearest measurement, by ratio.
        accuracies: by strategy, mean and interval over seeds, best first.
        ties: the best strategy, and those whose paired difference to it has an interval that holds 0.
    """

    target: str
    pictures: int
    measured_at: int
    accuracies: Mapping[str, Interval]
    ties: tuple[str, ...]

    def __str__(self) -> str:
        """What was measured, in sentences."""
        best = self.ties[0]
        tied = f"; undecided against {' and '.join(self.ties[1:])}" if self.ties[1:] else ""
        return f"{self.target}, {self.measured_at} pictures a class: {best} {self.accuracies[best]}{tied}."


def decide(scores: Mapping[str, Scores], pictures: int, target: str) -> Decision:
    """The measurement nearest to so many pictures a class of such a target, and which strategies it cannot tell apart.

    Args:
        scores: by target.
        pictures: of a class, at least 1.
        target: a key of ``scores``.

    Raises:
        ValueError: for fewer than one picture, a target that was not measured, or strategies that share no size.
    """
    check_range("pictures", pictures, 1)
    check_choice("target", target, scores)
    by_strategy = scores[target]
    shared = set.intersection(*(set(by_count) for by_count in by_strategy.values()))
    if not shared:
        raise ValueError("the strategies were measured at different sizes: nothing can be compared")
    nearest = min(sorted(shared), key=lambda size: abs(math.log(size / pictures)))
    here = {name: by_count[nearest] for name, by_count in by_strategy.items()}
    ranked = sorted(here, key=lambda name: sum(here[name]), reverse=True)
    best, ties = here[ranked[0]], [ranked[0]]
    for name in ranked[1:]:
        if t_interval([a - b for a, b in zip(best, here[name], strict=True)]).low <= 0:
            ties.append(name)
    accuracies = {name: t_interval(here[name]) for name in ranked}
    return Decision(target, pictures, nearest, accuracies, tuple(ties))
