"""Intervals that cover what they should, against simulation, scipy and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bot.model import scores
from bot.model.intervals import (
    block_draws,
    diebold_mariano,
    difference,
    independent,
    interval,
    newey_west,
    student_tail,
)


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    dice = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        noise = dice.normal(size=(60, 1)) + dice.normal(size=(60, 20)) / 4  # rows of a block alike
        index, drawn = block_draws(np.repeat(np.arange(60), 20), draws=200, seed=trial)
        found = interval(scores.mean(noise.ravel()), index, drawn)
        covered += found.lo <= 0 <= found.hi
    assert 0.88 <= covered / 200 <= 0.99


def test_rows_alone_would_give_too_narrow_an_interval() -> None:
    dice = np.random.default_rng(2)
    values = np.repeat(dice.normal(size=50), 40)
    wide = interval(scores.mean(values), *block_draws(np.repeat(np.arange(50), 40)))
    narrow = interval(scores.mean(values), *block_draws(np.arange(2_000)))
    assert wide.hi - wide.lo > 3 * (narrow.hi - narrow.lo)


def test_a_pair_is_drawn_together() -> None:
    dice = np.random.default_rng(3)
    values = dice.normal(size=500)
    index, drawn = block_draws(np.arange(500) // 10)
    found = difference(scores.mean(values + 0.01), scores.mean(values), index, drawn)
    assert (found.value, found.lo, found.hi) == pytest.approx((0.01, 0.01, 0.01))
    assert found.excludes_zero


def test_the_interval_of_a_rank_correlation_is_scipys_within_a_little() -> None:
    stats = pytest.importorskip("scipy.stats")
    dice = np.random.default_rng(5)
    x = dice.normal(size=300)
    y = x + dice.normal(size=300)
    found = interval(scores.pooled_rank_ic(x, y), *block_draws(np.arange(300)))
    expected = stats.bootstrap(
        (x, y), lambda a, b: stats.spearmanr(a, b).statistic, paired=True, vectorized=False,
        n_resamples=300, method="percentile", rng=np.random.default_rng(6),
    ).confidence_interval  # fmt: skip
    assert found.lo == pytest.approx(expected.low, abs=0.03)
    assert found.hi == pytest.approx(expected.high, abs=0.03)


def test_too_few_blocks_give_no_interval() -> None:
    found = interval(scores.mean(np.ones(8)), *block_draws(np.arange(8) // 2))
    assert found.value == 1
    assert math.isnan(found.lo)
    assert math.isnan(found.hi)
    assert not found.excludes_zero


def test_the_same_rows_give_the_same_interval() -> None:
    values = np.random.default_rng(7).normal(size=100)
    first, second = (
        interval(scores.mean(values), *block_draws(np.arange(100) // 4)) for _ in range(2)
    )
    assert first == second


def test_the_long_run_variance_is_statsmodels() -> None:
    regression = pytest.importorskip("statsmodels.regression.linear_model")
    dice = np.random.default_rng(8)
    x = np.convolve(dice.normal(size=300), np.ones(4), "valid")
    fit = regression.OLS(x, np.ones(len(x))).fit(
        cov_type="HAC", cov_kwds={"maxlags": 5, "use_correction": False}
    )
    assert newey_west(x, 5) / len(x) == pytest.approx(float(fit.bse[0]) ** 2, rel=1e-9)


@pytest.mark.parametrize("freedom", [1, 4, 30, 5_000])
@pytest.mark.parametrize("t", [0.0, 0.5, 2.0, 6.0])
def test_students_tail_is_scipys(t: float, freedom: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = 2 * stats.t.sf(t, freedom)
    assert student_tail(t, freedom) == pytest.approx(expected, rel=1e-4, abs=1e-12)


def test_diebold_mariano_rejects_equal_forecasts_about_as_often_as_it_says() -> None:
    dice = np.random.default_rng(9)
    rejected = 0
    for _ in range(300):
        noise = dice.normal(size=(2, 203))
        losses = [np.convolve(row, np.ones(4) / 4, "valid") ** 2 for row in noise]
        rejected += diebold_mariano(*losses, overlap=4).p_value < 0.05
    assert 0.02 <= rejected / 300 <= 0.12


def test_diebold_mariano_names_the_better_forecast() -> None:
    dice = np.random.default_rng(10)
    outcome = dice.normal(size=400)
    good, bad = (outcome - 0.5 * outcome) ** 2, outcome**2
    found = diebold_mariano(good, bad)
    assert found.statistic < -4
    assert found.p_value < 1e-4
    assert diebold_mariano(bad, good).statistic == pytest.approx(-found.statistic)
    assert diebold_mariano(good, good).p_value == 1


def test_the_small_sample_correction_is_harveys() -> None:
    losses, others = np.array([1.0, 3.0, 2.0, 5.0]), np.zeros(4)
    found = diebold_mariano(losses, others, overlap=2)
    plain = losses.mean() / math.sqrt(newey_west(losses, found.lags) / 4)
    assert found.statistic == pytest.approx(plain * math.sqrt((4 + 1 - 4 + 2 / 4) / 4))


def test_overlapping_outcomes_are_counted_once() -> None:
    ts = np.arange(100, dtype=np.int64)
    assert independent(ts, 1) == 100
    assert independent(ts, 5) == 20
    assert independent(ts, 1_000) == 1
    assert independent(ts[:0], 5) == 0
