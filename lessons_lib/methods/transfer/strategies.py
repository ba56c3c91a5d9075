"""Strategies against each other: accuracy by pictures a class, with intervals over seeds, and whether advice held."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lessons_lib.data.pictures import Pictures, to_input
from lessons_lib.methods.transfer.probes import Kind, Probe
from lessons_lib.networks import accuracy
from lessons_lib.processes import run_all
from lessons_lib.statistics import Interval, t_interval
from lessons_lib.training import Settings, fit

Size = Literal["small", "large"]
Similarity = Literal["similar", "different"]
Scores = Mapping[str, Mapping[int, tuple[float, ...]]]
Strategy = Callable[[Tensor, int], float]

LATE, EARLY, TUNED, SCRATCH = (
    "probe of the last layer",
    "probe of an earlier layer",
    "fine-tune all",
    "from scratch",
)
STRATEGIES = (LATE, EARLY, TUNED, SCRATCH)

# A. Karpathy et al., CS231n course notes, "Transfer learning": what everyone repeats
ADVICE: Mapping[tuple[Size, Similarity], str] = {
    ("small", "similar"): LATE,
    ("large", "similar"): TUNED,
    ("small", "different"): EARLY,
    ("large", "different"): TUNED,
}


def per_class(labels: Tensor, count: int, seed: int) -> Tensor:
    """Positions of ``count`` pictures of each class, drawn by lot: int64, ascending.

    Args:
        labels: int64, shape (N,).
        count: pictures a class, at least 1.
        seed: another one draws others.

    Raises:
        ValueError: if ``count`` is below 1 or a class has fewer pictures.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1 picture a class, not {count}")
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for label in labels.unique():
        places = (labels == label).nonzero().flatten()
        if len(places) < count:
            raise ValueError(f"class {label.item()} has {len(places)} pictures, fewer than {count}")
        drawn.append(places[torch.randperm(len(places), generator=generator)[:count]])
    return torch.cat(drawn).sort().values


@dataclass(frozen=True)
class Probing:
    """The strategy of a linear probe on cached features. Called with positions of pictures and a seed.

    Attributes:
        train: features of the pool of training pictures, shape (N, D).
        labels: of the pool, shape (N,).
        test: features of the test pictures, shape (M, D).
        test_labels: of the test pictures, shape (M,).
        kind: see :class:`Probe`.
    """

    train: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor
    kind: Kind = "svm"

    def __call__(self, index: Tensor, seed: int) -> float:
        """Test accuracy (0–1) of a probe that learns from the pictures at ``index``."""
        probe = Probe(self.kind, seed=seed).fit(self.train[index], self.labels[index])
        return probe.accuracy(self.test, self.test_labels)


@dataclass(frozen=True)
class Training:
    """The strategy of training a network. Called with positions of pictures and a seed.

    Attributes:
        build: makes the network to train from the chosen pictures, which it may start its head from, and a seed.
        settings: how to train on so many pictures, with a seed.
        train: the pool of training pictures.
        test: pictures to measure accuracy on, once, after training.
        transform: turns uint8 pictures into the network's input.
        groups: makes parameter groups of the built network, each with its learning rate; None lets all learn at the
            rate of the settings.
    """

    build: Callable[[Pictures, int], nn.Module]
    settings: Callable[[int, int], Settings]
    train: Pictures
    test: Pictures
    transform: Callable[[Tensor], Tensor] = to_input
    groups: Callable[[Any], Sequence[Mapping[str, Any]]] | None = None

    def __call__(self, index: Tensor, seed: int) -> float:
        """Test accuracy (0–1) of a network that learns from the pictures at ``index``."""
        chosen = self.train.subset(index)
        model = self.build(chosen, seed)
        run = fit(
            model,
            chosen,
            None,  # testing after every epoch would take longer than training on so few pictures
            self.settings(len(chosen), seed),
            transform=self.transform,
            groups=self.groups(model) if self.groups else None,
            progress=False,
        )
        if run.interrupted:  # half a training is no measurement
            raise KeyboardInterrupt
        return accuracy(model, self.test, transform=self.transform)


def learning_curves(
    strategies: Mapping[str, Strategy],
    labels: Tensor,
    sizes: Sequence[int],
    seeds: Sequence[int],
    *,
    processes: int = 1,
    progress: bool = True,
) -> dict[str, dict[int, tuple[float, ...]]]:
    """Test accuracy of each strategy, by training pictures a class, one for each seed.

    A seed draws the training pictures and decides everything random in training. All strategies get the same
    pictures for a seed, so they can be compared seed by seed.

    Args:
        strategies: by name, called with the positions of the training pictures and the seed; they return accuracies.
        labels: of the pool the pictures are drawn from, int64, shape (N,).
        sizes: pictures a class.
        seeds: at least two, for an interval.
        processes: how many runs at a time; see :func:`lessons_lib.processes.run_all`.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for no strategies or sizes, fewer than two seeds, or too few pictures of a class.

    Source: M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014, figure 9).
    """
    if not strategies or not sizes or len(set(seeds)) < 2:
        raise ValueError("need at least one strategy, one size and two different seeds")
    drawn = {(size, seed): per_class(labels, size, seed) for size in sizes for seed in seeds}
    runs = list(product(strategies, sizes, seeds))
    values = run_all(
        [partial(strategies[name], drawn[size, seed], seed) for name, size, seed in runs],
        processes=processes,
        progress=progress,
    )
    scores = dict(zip(runs, values, strict=True))
    return {
        name: {size: tuple(scores[name, size, seed] for seed in seeds) for size in sizes}
        for name in strategies
    }


@dataclass(frozen=True)
class Verdict:
    """Whether an advice held in one case.

    Attributes:
        advised: the strategy that was advised.
        rival: the best of the others, by its mean.
        lead: how much more accurate the advised one is than the rival, seed by seed: its mean and 95 % interval.
    """

    advised: str
    rival: str
    lead: Interval

    @property
    def outcome(self) -> Literal["held", "did not hold", "undecided"]:
        """Held or not if the interval of the lead is on one side of 0, else undecided."""
        if self.lead.low > 0:
            return "held"
        return "did not hold" if self.lead.high < 0 else "undecided"

    def __str__(self) -> str:
        """One sentence; its numbers say how far ahead the one is that it says was ahead, or behind if behind."""
        low, high = self.lead.low, self.lead.high
        if self.lead.mean < 0:
            low, high = -high, -low
        points = f"{100 * abs(self.lead.mean):.1f} points"
        interval = f"[{100 * low:+.1f}, {100 * high:+.1f}]"
        if self.outcome == "held":
            return f"The advice held: {self.advised} beat {self.rival} by {points} {interval}."
        if self.outcome == "did not hold":
            return f"The advice did not hold: {self.rival} beat {self.advised} by {points} {interval}."
        order = "ahead of" if self.lead.mean >= 0 else "behind"
        return f"Undecided: {self.advised} was {points} {order} {self.rival}, but the interval includes 0 {interval}."


def judge(scores: Mapping[str, Sequence[float]], advised: str) -> Verdict:
    """Whether the advised strategy beat the best of the others, by a paired t-interval over seeds.

    Choosing the best rival after the fact favours the rival a little: a narrow "did not hold" is weak evidence.

    Args:
        scores: accuracies by strategy, one for each seed, in the same order of seeds.
        advised: one of the strategies.

    Raises:
        ValueError: for an unknown strategy, no rival, or strategies measured with different numbers of seeds.
    """
    if advised not in scores or len(scores) < 2:
        raise ValueError(
            f"{advised!r} must be one of at least two strategies; there are: {', '.join(scores)}"
        )
    if len({len(values) for values in scores.values()}) > 1:
        raise ValueError("all strategies must be measured with the same seeds")
    rivals = {name: sum(values) for name, values in scores.items() if name != advised}
    rival = max(rivals, key=rivals.__getitem__)
    return Verdict(
        advised, rival, t_interval([a - b for a, b in zip(scores[advised], scores[rival], strict=True)])
    )


@dataclass(frozen=True)
class Decision:
    """What was measured nearest to a reader's own case, and what follows from it.

    Attributes:
        pictures: of a class in the reader's own set.
        measured_at: pictures a class of the nearest measurement, by ratio.
        similarity: of the target.
        accuracies: by strategy, mean and interval over seeds, best first.
        advised: what the usual advice says.
        ties: strategies that the measurement cannot tell from the best, the best first.
    """

    pictures: int
    measured_at: int
    similarity: Similarity
    accuracies: Mapping[str, Interval]
    advised: str
    ties: tuple[str, ...]

    def __str__(self) -> str:
        """What to do and why, in sentences."""
        best = next(iter(self.accuracies))
        tied = f" (no clear difference to {' or '.join(self.ties[1:])})" if self.ties[1:] else ""
        return (
            f"{self.pictures} pictures a class of a {self.similarity} target: {best}{tied}. Measured at "
            f"{self.measured_at} a class: {self.accuracies[best]} of the test pictures right. "
            f"The usual advice: {self.advised}."
        )


def decide(
    scores: Mapping[Similarity, Scores], pictures: int, similarity: Similarity, *, small: int
) -> Decision:
    """Which strategy the measurements speak for, given how many pictures a class one has and how similar they are.

    Args:
        scores: what :func:`learning_curves` gave, by similarity of the target.
        pictures: of a class, at least 1.
        similarity: a key of ``scores``.
        small: up to this many pictures a class the usual advice calls a set small.

    Raises:
        ValueError: for fewer than one picture, a similarity that was not measured, or strategies that share no size.
    """
    if pictures < 1:
        raise ValueError(f"need at least 1 picture a class, not {pictures}")
    if similarity not in scores:
        raise ValueError(f"no target was measured that is {similarity!r}; there are: {', '.join(scores)}")
    curves = scores[similarity]
    shared = set.intersection(*(set(curve) for curve in curves.values()))
    if not shared:
        raise ValueError("the strategies were measured at different sizes: nothing can be compared")
    nearest = min(sorted(shared), key=lambda size: abs(math.log(size / pictures)))
    here = {name: curve[nearest] for name, curve in curves.items()}
    ranked = sorted(here, key=lambda name: sum(here[name]), reverse=True)
    best = ranked[0]
    ties = [
        name for name in ranked[1:] if judge({best: here[best], name: here[name]}, best).outcome != "held"
    ]
    return Decision(
        pictures,
        nearest,
        similarity,
        {name: t_interval(here[name]) for name in ranked},
        ADVICE["small" if pictures <= small else "large", similarity],
        (best, *ties),
    )


def mapped(logits: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Answers of a network to a question it was not trained for: the probability of each group of its classes.

    Args:
        logits: of a classifier, shape (N, classes).
        groups: for each answer, the classes that stand for it, such as all kinds of dog for "dog".

    Returns:
        Shape (N, len(groups)), each row adding up to 1: probabilities among the groups alone.

    Raises:
        ValueError: for another shape, fewer than two groups, an empty one, overlapping ones, or an unknown class.
    """
    if logits.ndim != 2:
        raise ValueError(f"logits must have shape (N, classes), not {tuple(logits.shape)}")
    members = [member for group in groups for member in group]
    if len(groups) < 2 or not all(groups) or len(set(members)) < len(members):
        raise ValueError("need two groups of classes or more, none empty, none sharing a class")
    if not 0 <= min(members) <= max(members) < logits.shape[1]:
        raise ValueError(f"classes must be in 0–{logits.shape[1] - 1}, not {members}")
    return torch.stack([logits[:, list(group)].logsumexp(1) for group in groups], dim=1).softmax(1)
