"""Intervals of differences: rows and seeds counted once each, t quantiles, seeds paired or not."""

from __future__ import annotations

import numpy as np
import pytest

from foldstack.ensemble import paired_difference
from foldstack.ensemble.estimate import split_variance
from foldstack.ensemble.optimism import difference_variance_ratio
from foldstack.metrics import get
from makers import make_members


def two_way(losses: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of rows, seeds and their interaction, of (rows, seeds) losses."""
    n, seeds = losses.shape
    rows, columns = losses.mean(axis=1), losses.mean(axis=0)
    rest = losses - rows[:, None] - columns + losses.mean()
    return (
        seeds * rows.var(ddof=1),
        n * columns.var(ddof=1),
        (rest**2).sum() / (n - 1) / (seeds - 1),
    )


def test_rows_and_seeds_have_the_variances_of_a_two_way_analysis():
    """Closed form for a mean over rows: what seeds do to single rows is counted once."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 1))
    a, b = (rows * weight + rng.normal(size=(50, 4)) for weight in (1, 2))
    own, paired = split_variance(np.stack([a, b], axis=1))
    assert not paired
    of_rows = (a.mean(axis=1) - b.mean(axis=1)).var(ddof=1)
    assert own == pytest.approx(of_rows - (two_way(a)[2] + two_way(b)[2]) / 4)
    noise = rng.normal(size=(50, 4))  # the same in both
    own, paired = split_variance(np.stack([a + 5 * noise, b + 5 * noise], axis=1))
    assert paired
    of_rows, _, interaction = two_way(a - b)
    assert own == pytest.approx((of_rows - interaction) / 4)


def test_the_error_of_a_mean_absolute_error_is_the_closed_form():
    """Errors of 100 rows in 3 seeds of 2 models: the bootstrap's 200 resamples leave a few percent."""
    rng = np.random.default_rng(1)
    targets, groups = np.zeros((100, 1)), np.arange(100)
    hard = rng.normal(size=(100, 1))
    a, b = (
        rng.normal(size=(3, 1, 1)) + spread * hard + rng.normal(size=(3, 100, 1))
        for spread in (1, 4)
    )
    found = paired_difference(get("mae", "regression"), targets, a, b, groups, 0)
    of_a, of_b = (np.abs(model[:, :, 0]).T for model in (a, b))
    apart = [two_way(losses) for losses in (of_a, of_b)]
    of_rows = (of_a - of_b).mean(axis=1).var(ddof=1) - sum(each[2] for each in apart) / 3
    of_seeds = [each[1] / 300 for each in apart]
    assert found.difference == pytest.approx((of_b - of_a).mean())
    assert found.seed_error**2 == pytest.approx(sum(of_seeds))
    assert found.row_error == pytest.approx(np.sqrt(of_rows / 100), rel=0.1)
    assert not found.seeds_paired
    squares = sum(each**2 / 2 for each in of_seeds)
    assert found.degrees == pytest.approx(found.standard_error**4 / squares)


def test_few_seeds_have_a_t_quantile():
    """Two seeds of the one model that differ: one degree of freedom, not 1.96."""
    members = make_members([1.0, 0.5])
    good, bad = members.probabilities.transpose(1, 0, 2)
    arguments = (get("roc_auc", "binary"), members.targets)
    found = paired_difference(*arguments, [good, good], [good, bad], members.groups, 0)
    assert found.degrees == pytest.approx(1, abs=0.01) and found.row_error < 0.1 * found.seed_error
    assert found.high - found.difference == pytest.approx(12.7 * found.standard_error, rel=0.01)
    one = paired_difference(*arguments, [good], [bad], members.groups, 0)
    assert one.degrees == np.inf
    assert one.high - one.difference == pytest.approx(1.96 * one.standard_error)


def test_a_copy_with_the_same_seeds_is_paired_and_one_with_other_seeds_is_not():
    members = make_members([2.0, 1.0, 0.5])
    a, b, c = members.probabilities.transpose(1, 0, 2)
    arguments = (get("roc_auc", "binary"), members.targets)
    same = paired_difference(*arguments, [a, b, c], [a, b, c], members.groups, 0)
    assert same.seeds_paired and same.low == same.high == 0
    other = paired_difference(*arguments, [a, b, c], [c, a, b], members.groups, 0)
    assert not other.seeds_paired and other.low < 0 < other.high


def test_runs_that_differ_by_their_training_rows_raise_the_rows_variance():
    """By 1 + (runs - 1) h: not if all runs predict alike, double if their difference is all noise."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 1, 40, 1))
    alike = np.repeat(a, 5, axis=0), np.repeat(b, 5, axis=0)
    assert difference_variance_ratio(*alike) == 1
    assert difference_variance_ratio(rng.random((5, 40, 1)), rng.random((5, 40, 1))) == 2
    members = make_members([2.0, 0.5])
    good, bad = members.probabilities.transpose(1, 0, 2)
    arguments = (get("roc_auc", "binary"), members.targets, [good], [bad], members.groups, 0)
    once, twice = (paired_difference(*arguments, ratio) for ratio in (1.0, 2.0))
    assert twice.row_error == pytest.approx(np.sqrt(2) * once.row_error) and once.row_error > 0
