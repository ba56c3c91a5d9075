"""The referee: what any explanation of any network scores on scenes whose parts' importance is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lessons_lib.data.critters import PARTS, Twins
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.evaluation.explainers import Explainer, explain
from lessons_lib.methods.evaluation.perturbation import deletion, insertion
from lessons_lib.methods.evaluation.pointing import grids, pointing_game, relevance_mass_accuracy
from lessons_lib.methods.evaluation.randomisation import layers_with_weights, randomised, rank_correlation
from lessons_lib.networks import predict
from lessons_lib.statistics import Interval, bootstrap_interval

SMALL_IS_GOOD = ("deletion", "randomisation")
"""The metrics of ``score`` of which a small value is good."""


@dataclass(frozen=True)
class Scores:
    """What one explanation of one network scores.

    Attributes:
        values: by metric, float64, shape (N,): of each scene (of each grid, for the grid game), NaN where there is
            none. *pointing*, *mass* and *grid* are shares in 0–1, *deletion* and *insertion* areas in 0–1,
            *randomisation* and *parts* rank correlations in −1 to 1. Those of ``SMALL_IS_GOOD`` are better the
            smaller they are.
        maps: of the scenes, shape (N, H, W).
    """

    values: dict[str, Tensor]
    maps: Tensor

    @property
    def intervals(self) -> dict[str, Interval | None]:
        """By metric the mean over scenes with its 95 % interval; none with fewer than two scenes that have a value."""
        return {
            metric: bootstrap_interval(values) if (~values.isnan()).sum() > 1 else None
            for metric, values in self.values.items()
        }

    def __str__(self) -> str:
        """A line a metric."""
        return "\n".join(f"{metric:13} {interval or 'none'}" for metric, interval in self.intervals.items())


def score(
    explainer: Explainer,
    model: nn.Module,
    twins: Twins,
    *,
    steps: int = 12,
    grid_count: int = 40,
    confidence: float = 0.9,
    seed: int = 0,
    transform: Callable[[Tensor], Tensor] = to_input,
) -> Scores:
    """Score an explanation of a network against where the object is, what the network needs, and what it has learned.

    - *pointing*: is the map's greatest value on the animal (head or ears)? ``pointing_game``
    - *mass*: the share of the map's positive mass on it. ``relevance_mass_accuracy``
    - *grid*: the share of it on the right one of four animals, of pictures of which the network is sure. ``grids``
    - *deletion*, *insertion*: the area under the curve of the probability.
    - *randomisation*: the rank correlation with the map of the same network after all its layers have lost their
      weights. 1 is a map that does not depend on what was learned.
      A map that stays the same everywhere has not changed either.
    - *parts*: the rank correlation, over the parts of a scene, of the map's mass on the part with the part's effect on
      the logit, known by taking it away (``part_masses``, ``part_effects``, ``agreement``).

    A map that says nothing is not left out: without a positive value it has no mass on the animal, 0.

    Args:
        explainer: any callable, see ``Explainer``.
        model: a classifier of these scenes' species, in their order. It is left as it was.
        twins: see ``lessons_lib.data.critters.twins``. The map asked for is the true class's.
        steps: of deletion and insertion.
        grid_count: how many grids, which share scenes; 0 for a network that takes no pictures of twice the size.
        confidence: a picture is fit for a grid if its class has at least this probability.
        seed: of the random weights, the grids, and the order of pixels that a map calls equal.
        transform: from uint8 pictures to the model's input.

    Raises:
        ValueError: as ``explain``, or if a layer cannot be randomised.

    >>> from lessons_lib.data import critters
    >>> from lessons_lib.methods.evaluation import centre_gaussian
    >>> from lessons_lib.models import ChainCNN
    >>> twins = critters.twins(12, 32, species=("cat", "dog"))
    >>> print(score(centre_gaussian, ChainCNN(2), twins, grid_count=0).intervals["randomisation"])
    1.00 [1.00, 1.00]
    """
    scenes = twins.scenes
    inputs, labels = transform(scenes.images), scenes.labels
    animal = ~scenes.masks[:, PARTS.index("background")]
    maps = explain(explainer, model, inputs, labels)
    with randomised(model, layers_with_weights(model), seed=seed):
        forgotten = explain(explainer, model, inputs, labels)
    unmoved = (forgotten == maps).all((1, 2))
    curves = {
        name: exchange(model, inputs, maps, labels, steps=steps, seed=seed).area
        for name, exchange in (("deletion", deletion), ("insertion", insertion))
    }
    shares = predict(model, scenes.images, transform=transform).softmax(1)
    sure = shares[range(len(labels)), labels] >= confidence
    right_quarter = torch.empty(0, dtype=torch.float64)
    if grid_count and len(labels[sure].unique()) >= 4:
        four = grids(inputs[sure], labels[sure], grid_count, seed=seed)
        found = explain(explainer, model, four.pictures, four.targets)
        right_quarter = relevance_mass_accuracy(found, four.masks).nan_to_num(0)
    return Scores(
        {
            "pointing": pointing_game(maps, animal),
            "mass": relevance_mass_accuracy(maps, animal).nan_to_num(0),
            "grid": right_quarter,
            **curves,
            "randomisation": rank_correlation(forgotten, maps).nan_to_num(0).masked_fill(unmoved, 1),
            "parts": agreement(part_masses(maps, twins), part_effects(model, twins, transform=transform)),
        },
        maps,
    )


def part_effects(
    model: nn.Module, twins: Twins, *, transform: Callable[[Tensor], Tensor] = to_input
) -> Tensor:
    """How much the true class's logit falls when a part is taken away: its importance by intervention.

    After R. Hesse, S. Schaub-Meyer and S. Roth, "FunnyBirds" (ICCV 2023), who draw birds with and without a part.

    Args:
        model: a classifier of these scenes' species, in their order.
        twins: scenes, and the same without one part each.
        transform: from uint8 pictures to the model's input.

    Returns:
        Float64, shape (N, P): positive where the part speaks for the class; NaN where a scene does not show the part.
    """
    own = (range(len(twins.scenes)), twins.scenes.labels)
    whole = predict(model, twins.scenes.images, transform=transform)[own]
    left = [predict(model, twin.images, transform=transform)[own] for twin in twins.without.values()]
    return (
        (whole[:, None] - torch.stack(left, 1))
        .double()
        .masked_fill(~part_places(twins).any((2, 3)), torch.nan)
    )


def part_places(twins: Twins) -> Tensor:
    """Where a scene and its twin differ, that is, where the part was: bool, shape (N, P, H, W)."""
    return torch.stack([(twins.scenes.images != twin.images).any(1) for twin in twins.without.values()], 1)


def part_masses(maps: Tensor, twins: Twins) -> Tensor:
    """The sum of a map over each part's pixels, with its signs.

    The sum and not the mean, for taking a part away takes all of its pixels: where a map shares out the logit among the
    pixels, what is lost with a part is the sum of their shares. So a map that is the same everywhere ranks the parts by
    their area.

    Args:
        maps: shape (N, H, W).
        twins: of these N scenes.

    Returns:
        Float64, shape (N, P).
    """
    return torch.einsum("nhw,nphw->np", maps.cpu().double(), part_places(twins).double())


def agreement(masses: Tensor, effects: Tensor) -> Tensor:
    """Spearman's rank correlation over the parts of each scene, those whose effect is not NaN.

    Args:
        masses: of a map on each part, shape (N, P).
        effects: of each part, same shape.

    Returns:
        Float64, shape (N,), in −1 to 1; 0 where a map has the same mass on all parts, and so ranks none above another;
        NaN where fewer than three effects are known, or all are equal.

    >>> agreement(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[0.9, -0.1, 0.3]])).round(decimals=6)
    tensor([1.], dtype=torch.float64)
    """
    found = torch.full((len(effects),), torch.nan, dtype=torch.float64)
    for i, (mass, effect) in enumerate(zip(masses, effects, strict=True)):
        known = ~effect.isnan()
        if known.sum() > 2 and effect[known].unique().numel() > 1:
            correlation = rank_correlation(mass[known].view(1, 1, -1), effect[known].view(1, 1, -1))
            found[i] = correlation.nan_to_num(0)[0]
    return found
