"""What a sample says: means with intervals, differences between groups, and whether two tables agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from lessons_lib.checks import check_range, check_tensor

_RESAMPLES = 4999


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """The mean with its interval, to two decimals."""
        mean, low, high = (round(value, 2) + 0.0 for value in (self.mean, self.low, self.high))  # never −0.00
        return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def bootstrap_interval(values: Tensor, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The mean of ``values`` and its bootstrap confidence interval (percentiles of resampled means).

    It says how much the mean depends on *which* filters or pictures were measured; it does not say what another
    training run would give.

    Args:
        values: one for each filter or picture, shape (N,); NaN, what has no value, is left out.
        confidence: above 0 and below 1.
        seed: of the resampling.

    Raises:
        ValueError: if fewer than two values are left, or for another shape or confidence.

    Source: B. Efron, "Bootstrap methods: another look at the jackknife" (Annals of Statistics 1979).

    >>> print(bootstrap_interval(torch.arange(100.0)))
    49.50 [43.91, 55.06]
    """
    return _bootstrap((values,), np.mean, confidence, seed)


def difference_of_means(
    first: Tensor, second: Tensor, *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """How much the mean of one group lies above that of another, with its bootstrap confidence interval.

    There is no p-value: a permutation test asks whether the groups are alike in *every* respect, so with unequal
    spreads and sizes it can be sure of a difference where the interval of the means holds 0.

    Args:
        first: a measure of each member of one group, shape (N,); NaN is left out.
        second: the same measure of the other group, shape (M,); NaN is left out.
        confidence: above 0 and below 1.
        seed: of the resampling.

    Raises:
        ValueError: if a group has fewer than two values, or for another shape or confidence.

    >>> print(difference_of_means(torch.tensor([3.0, 4.0, 5.0]), torch.tensor([0.0, 1.0, 2.0])))
    3.00 [1.67, 4.33]
    """

    def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return a.mean(axis=axis) - b.mean(axis=axis)

    return _bootstrap((first, second), difference, confidence, seed)


def t_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The mean and its confidence interval by Student's t, which is wide for few values, as it should be.

    Args:
        values: independent and at least two, such as one for each seed.
        confidence: above 0 and below 1.

    Raises:
        ValueError: for fewer than two values, NaN, or another confidence.

    >>> print(t_interval([0.81, 0.84, 0.83]))
    0.83 [0.79, 0.86]
    """
    row = torch.tensor(values, dtype=torch.float64)
    check_tensor("values", row, "N", finite=True)
    check_range("the number of values", len(values), 2)
    check_range("confidence", confidence, 0, 1)
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * (row.std() / len(values) ** 0.5).item()
    return Interval(row.mean().item(), row.mean().item() - half, row.mean().item() + half)


def share_interval(right: float, of: int, *, confidence: float = 0.95) -> Interval:
    """A share of a count and its Wilson interval, of which about ``confidence`` hold the share of all such pictures.

    Args:
        right: how many have the property, 0 to ``of``; a mean over seeds need not be whole.
        of: how many there are, at least 1.
        confidence: above 0 and below 1.

    Raises:
        ValueError: for numbers out of range.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (JASA 1927).

    >>> print(share_interval(146, 153))
    0.95 [0.91, 0.98]
    """
    check_range("the count", of, 1)
    check_range("a part of it", right, 0, of)
    check_range("confidence", confidence, 0, 1)
    z, share = stats.norm.ppf((1 + confidence) / 2), right / of
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return Interval(share, middle - half, middle + half)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row of ``a`` with its row of ``b``, −1 to 1; NaN where one of them is flat.

    >>> correlation(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[3.0, 2.0, 1.0]])).round(decimals=4)
    tensor([-1.])
    """
    a, b = (rows - rows.mean(-1, keepdim=True) for rows in (a, b))
    norms = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(norms > 1e-12, (a * b).sum(-1) / norms, torch.nan)


@dataclass(frozen=True)
class MantelTest:
    """How far two tables of pairs of classes order the pairs alike.

    Attributes:
        correlation: Spearman's rank correlation over the pairs, −1 to 1.
        p_value: share of permutations of the classes that agree as well or better (0–1).
        pairs: how many pairs of classes there are.
    """

    correlation: float
    p_value: float
    pairs: int

    def __str__(self) -> str:
        """In a line."""
        return f"rank correlation {self.correlation:.2f} over {self.pairs} pairs, p = {self.p_value:.4f}"


def mantel_test(a: Tensor, b: Tensor, *, permutations: int = 9999, seed: int = 0) -> MantelTest:
    """Whether two tables of classes by classes order the pairs of classes alike: Mantel's test on ranks.

    Both directions of a pair are added, and the diagonal is left out. Pairs that share a class are not
    independent, so an ordinary p-value would be too small: here classes are permuted, not pairs.

    Args:
        a: shape (classes, classes), such as contacts on a map.
        b: the same shape, such as a confusion matrix.
        permutations: how many random orders of the classes to compare with.
        seed: decides them.

    Raises:
        ValueError: for tables of other shapes, with NaN or of under four classes, or where all pairs of one
            table are equal, so that there is no order.

    N. Mantel, "The detection of disease clustering and a generalized regression approach", Cancer Research 1967.

    >>> distances = torch.cdist(torch.arange(6.0)[:, None], torch.arange(6.0)[:, None])
    >>> print(mantel_test(distances, distances.square()))
    rank correlation 1.00 over 15 pairs, p = 0.0039
    """
    check_range("the number of classes", len(a), 4)
    for table in (a, b):
        check_tensor("a table of classes by classes", table, f"{len(a)} {len(a)}", finite=True)
    row, column = np.triu_indices(len(a), 1)
    first, second = (_ranks((table + table.T).double().numpy()[row, column]) for table in (a, b))
    if not first.any() or not second.any():
        raise ValueError("all pairs of a table are equal, so they have no order to compare")
    ranks = np.zeros(a.shape)
    ranks[row, column] = ranks[column, row] = second
    generator = np.random.default_rng(seed)
    orders = generator.permuted(np.tile(np.arange(len(a)), (permutations, 1)), axis=1)
    by_chance = ranks[orders[:, row], orders[:, column]] @ first
    found = second @ first
    as_good = int((by_chance >= found - 1e-12).sum())
    return MantelTest(float(found), (1 + as_good) / (1 + permutations), len(row))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks with mean 0 and length 1, so that a dot product is a correlation; zeros where all are equal."""
    ranks = stats.rankdata(values)
    ranks = ranks - ranks.mean()
    return ranks / max(float(np.linalg.norm(ranks)), 1e-12)


def _bootstrap(
    samples: Sequence[Tensor], statistic: Callable[..., np.ndarray], confidence: float, seed: int
) -> Interval:
    """A statistic of the values that are not NaN, with its interval."""
    check_range("confidence", confidence, 0, 1)
    groups = []
    for values in samples:
        check_tensor("values, one for each member,", values, "N")
        group = values.detach().cpu().double()
        groups.append(group[~group.isnan()].numpy())
        check_range("the number of values that are not NaN", len(groups[-1]), 2)
    found = stats.bootstrap(
        groups,
        statistic,
        n_resamples=_RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(statistic(*groups, axis=0)), float(found.low), float(found.high))
