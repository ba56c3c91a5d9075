"""Intervals and tests are those of the textbooks, and refuse samples that say nothing."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from lessons_lib.statistics import (
    Interval,
    bootstrap_interval,
    difference_of_means,
    mantel_test,
    share_interval,
    t_interval,
)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_bootstrap_interval_agrees_with_the_normal_approximation():
    values = noise(20, 20).flatten() + 3
    found = bootstrap_interval(values)
    error = values.std().item() / 20
    assert found.mean == pytest.approx(values.mean().item())
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.2 * error)
    wider = bootstrap_interval(values, confidence=0.99)
    assert wider.low < found.low < found.high < wider.high
    assert bootstrap_interval(values) == found
    assert str(Interval(0.5, -0.001, 0.751)) == "0.50 [0.00, 0.75]"


def test_bootstrap_interval_leaves_out_what_has_no_value():
    assert bootstrap_interval(torch.tensor([1.0, torch.nan, 1.0])) == Interval(1, 1, 1)


def test_difference_of_means_agrees_with_welch():
    first, second = (
        torch.cat([noise(8, 8).flatten(), torch.tensor([torch.nan])]),
        3 * noise(9, 9, seed=1).flatten(),
    )
    found = difference_of_means(first, second + 0.3)
    test = stats.ttest_ind(first[:-1], second + 0.3, equal_var=False).confidence_interval()
    assert found.mean == pytest.approx(first[:-1].mean().item() - second.mean().item() - 0.3, abs=1e-6)
    width = float(test.high - test.low)
    assert found.low == pytest.approx(float(test.low), abs=0.05 * width)
    assert found.high == pytest.approx(float(test.high), abs=0.05 * width)
    assert difference_of_means(first, second + 0.3) == found


def test_difference_of_means_is_sure_of_nothing_where_only_the_spreads_differ():
    """The permutation test would be: it answers another question."""
    trials = [
        (40 * noise(1, 1, 4, seed=count).flatten() + 1, noise(20, 2, 4, seed=100 + count).flatten() + 1)
        for count in range(40)
    ]
    found = [difference_of_means(*pair) for pair in trials]
    missed = sum(not interval.low <= 0 <= interval.high for interval in found)
    sure = sum(
        stats.permutation_test(
            pair,
            lambda a, b, axis: a.mean(axis) - b.mean(axis),
            n_resamples=199,
            vectorized=True,
            rng=np.random.default_rng(0),
        ).pvalue
        <= 0.05
        for pair in trials
    )
    assert missed <= 10
    assert sure > 20


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (torch.zeros(3, 2), "one for each member"),
        (torch.tensor([1.0]), "at least 2"),
        (torch.tensor([1.0, torch.nan, torch.nan]), "at least 2"),
    ],
)
def test_groups_that_say_nothing_are_refused(values, text):
    with pytest.raises(ValueError, match=text):
        bootstrap_interval(values)
    for groups in ((values, torch.arange(5.0)), (torch.arange(5.0), values)):
        with pytest.raises(ValueError, match=text):
            difference_of_means(*groups)


@pytest.mark.parametrize("confidence", [-0.5, 95])
def test_confidence_is_a_share(confidence):
    with pytest.raises(ValueError, match="confidence must be in 0–1"):
        bootstrap_interval(torch.arange(5.0), confidence=confidence)
    with pytest.raises(ValueError, match="confidence must be in 0–1"):
        difference_of_means(torch.arange(5.0), torch.arange(5.0), confidence=confidence)


def test_t_interval_is_students():
    values = (0.8, 0.9, 0.85)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    found = t_interval(values)
    assert (found.mean, found.low, found.high) == pytest.approx((0.85, low, high))
    for wrong in ((0.5,), (0.5, math.nan)):
        with pytest.raises(ValueError, match=r"at least 2|NaN"):
            t_interval(wrong)
    with pytest.raises(ValueError, match="confidence"):
        t_interval(values, confidence=95)


def test_mantel_test_is_spearmans_correlation_over_pairs():
    a, b = noise(7, 7, dtype=torch.float64), noise(7, 7, seed=1, dtype=torch.float64)
    rows, columns = np.triu_indices(7, 1)
    expected = stats.spearmanr(((a + a.T)[rows, columns]).numpy(), ((b + b.T)[rows, columns]).numpy())
    found = mantel_test(a, b)
    assert found.pairs == 21
    assert str(found) == f"rank correlation {expected.statistic:.2f} over 21 pairs, p = {found.p_value:.4f}"
    assert found.correlation == pytest.approx(expected.statistic)
    assert 0.05 < found.p_value <= 1


def test_mantel_test_tells_order_from_chance():
    table = noise(9, 9, dtype=torch.float64)
    same = mantel_test(table, 3 * table**3 + torch.eye(9) * 100)  # any rising function, any diagonal
    opposite = mantel_test(table + table.T, -table - table.T)
    assert opposite.correlation == pytest.approx(-1)
    assert opposite.p_value == 1
    assert mantel_test(table + table.T, (table + table.T) ** 3).correlation == pytest.approx(1)
    assert mantel_test(table + table.T, (table + table.T) ** 3).p_value == pytest.approx(1e-4, rel=0.5)
    assert same.correlation > 0.5


def test_mantel_test_p_value_is_the_share_of_all_orders():
    """With four classes all 24 orders can be tried."""
    a, b = noise(4, 4, seed=3, dtype=torch.float64), noise(4, 4, seed=4, dtype=torch.float64)
    rows, columns = np.triu_indices(4, 1)
    first = (a + a.T).numpy()
    second = (b + b.T).numpy()

    def correlation(order):
        moved = second[np.ix_(order, order)]
        return stats.spearmanr(first[rows, columns], moved[rows, columns]).statistic

    found = correlation([0, 1, 2, 3])
    share = np.mean([correlation(list(order)) >= found - 1e-12 for order in itertools.permutations(range(4))])
    assert mantel_test(a, b).p_value == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (torch.rand(5, 4), torch.rand(5, 4), "classes by classes"),
        (torch.rand(5, 5), torch.rand(4, 4), "classes by classes"),
        (torch.rand(3, 3), torch.rand(3, 3), "at least 4"),
        (torch.full((5, 5), torch.nan), torch.rand(5, 5), "NaN"),
        (torch.eye(5), torch.rand(5, 5), "equal"),
    ],
)
def test_mantel_test_refuses_bad_tables(a, b, text):
    with pytest.raises(ValueError, match=text):
        mantel_test(a, b)


@pytest.mark.parametrize(("right", "of"), [(0, 1), (3, 3), (126, 153), (499, 1000)])
def test_the_interval_of_a_share_is_wilsons(right, of):
    found = share_interval(right, of)
    expected = stats.binomtest(right, of).proportion_ci(method="wilson")
    assert (found.mean, found.low, found.high) == pytest.approx(
        (right / of, expected.low, expected.high), abs=1e-12
    )
    assert share_interval(right, of, confidence=0.99).high >= found.high


def test_shares_that_there_are_not():
    for right, of in ((1, 0), (-1, 5), (6, 5)):
        with pytest.raises(ValueError, match=r"at least 1|in 0–5"):
            share_interval(right, of)
