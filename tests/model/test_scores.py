"""Scores by hand and against scipy and scikit-learn, where they are installed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bot.model import scores
from bot.model.intervals import Floats

DICE = np.random.default_rng(4)
FORETOLD = DICE.normal(size=400).round(1)  # rounded, so that there are ties
HAPPENED = 0.3 * FORETOLD + DICE.normal(size=400)


def array(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)


def test_ranks_share_the_mean_of_a_tie() -> None:
    assert scores.ranks(array(5, 1, 5, 9)).tolist() == [2.5, 1, 2.5, 4]


def test_rank_ic_is_scipys_spearman() -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.spearmanr(FORETOLD, HAPPENED).statistic
    assert scores.rank_correlation(FORETOLD, HAPPENED) == pytest.approx(expected, abs=1e-12)
    assert scores.pooled_rank_ic(FORETOLD, HAPPENED).estimate == pytest.approx(expected, abs=1e-12)


def test_rank_ic_of_a_constant_is_no_number() -> None:
    assert math.isnan(scores.rank_correlation(np.ones(9), HAPPENED[:9]))


def test_daily_rank_ic_is_the_mean_over_symbols_and_days_of_each_ones_spearman() -> None:
    stats = pytest.importorskip("scipy.stats")
    ts = np.arange(400) * scores.DAY_NS // 50  # eight days of fifty rows
    symbol = np.arange(400) % 2
    daily = scores.daily_rank_ics(FORETOLD, HAPPENED, ts, symbol)
    expected = [
        stats.spearmanr(FORETOLD[rows], HAPPENED[rows]).statistic
        for one in (0, 1)
        for day in range(8)
        if (rows := (ts // scores.DAY_NS == day) & (symbol == one)).any()
    ]
    assert daily.values.tolist() == pytest.approx(expected)
    assert scores.daily_rank_ic(daily).estimate == pytest.approx(np.mean(expected))


def test_a_day_of_few_rows_says_nothing() -> None:
    ts = np.array([0] * 9 + [scores.DAY_NS] * 10)
    daily = scores.daily_rank_ics(FORETOLD[:19], HAPPENED[:19], ts, np.zeros(19, dtype=np.int64))
    assert daily.days.tolist() == [scores.DAY_NS]


def test_a_hit_is_a_direction_foretold_and_no_move_counts_for_nothing() -> None:
    score = scores.hits(array(1, -2, 0, 3, 1), array(0.1, 0.2, 0.1, 0.0, 0.5))
    assert score.estimate == pytest.approx((1 + 0 + 0.5 + 1) / 4)


def test_log_loss_is_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    chance = 1 / (1 + np.exp(-FORETOLD))
    up = HAPPENED > 0
    assert scores.log_losses(chance, up).mean() == pytest.approx(metrics.log_loss(up, chance))


def test_a_certainty_that_was_wrong_costs_much_but_not_everything() -> None:
    assert 10 < scores.log_losses(array(0.0), np.array([True]))[0] < 20


def test_pinball_loss_is_scikit_learns_in_basis_points() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    levels = (0.1, 0.5, 0.9)
    quantiles = np.column_stack([FORETOLD + shift for shift in (-1, 0, 1)])
    expected = np.mean(
        [
            metrics.mean_pinball_loss(HAPPENED, quantiles[:, i], alpha=level)
            for i, level in enumerate(levels)
        ]
    )
    got = scores.pinball_losses(quantiles, levels, HAPPENED).mean()
    assert got == pytest.approx(1e4 * expected)


ALL = np.ones(1000, dtype=bool)


def test_rows_without_a_move_say_nothing_of_probabilities() -> None:
    chance, up = np.repeat([0.5, 0.9], 500), np.repeat([True, False], 500)
    moved = ~np.repeat([False, True], 500)
    assert scores.calibration_error(chance, up, moved).estimate == pytest.approx(0.5)
    assert scores.reliability(chance, up, moved).rows.sum() == 500
    nowhere = np.zeros(1000, dtype=bool)
    assert math.isnan(scores.calibration_error(chance, up, nowhere).estimate)
    assert not len(scores.reliability(chance, up, nowhere).rows)


def test_probabilities_that_come_true_are_calibrated_and_others_are_not() -> None:
    chance = np.repeat([0.2, 0.8], 500)
    up = np.concatenate((np.arange(500) < 100, np.arange(500) < 400))
    assert scores.calibration_error(chance, up, ALL).estimate == pytest.approx(0, abs=1e-12)
    assert scores.calibration_error(np.full(1000, 0.9), up, ALL).estimate == pytest.approx(0.4)
    diagram = scores.reliability(chance, up, ALL)
    assert diagram.rows.tolist() == [500, 500]
    assert diagram.chance.tolist() == pytest.approx([0.2, 0.8])
    assert diagram.rose.tolist() == pytest.approx([0.2, 0.8])


BLOCKS = np.repeat(np.arange(4), 10)
SIGNAL = np.tile(np.arange(1.0, 11.0), 4)  # the tenth row of a block is the strongest


def test_the_rule_holds_the_strongest_tenth_of_what_was_seen_and_pays_for_each_trade() -> None:
    outcome = np.full(40, math.log(1.01))
    returns = scores.rule_returns(SIGNAL, outcome, BLOCKS, overlap=1, cost=0.001)
    held = returns > 0.005
    assert np.flatnonzero(held).tolist() == [19, 29, 39]
    assert returns[19] == pytest.approx(0.01 - 0.001)
    assert returns[20] == pytest.approx(-0.001)  # out again
    assert not returns[:19].any()  # the first block only looks


def test_the_rule_never_knows_the_future() -> None:
    outcome = DICE.normal(size=40) * 0.01
    before = scores.rule_returns(SIGNAL, outcome, BLOCKS, overlap=2, cost=0.001)
    changed = SIGNAL.copy()
    changed[30:] *= -5
    after = scores.rule_returns(changed, outcome, BLOCKS, overlap=2, cost=0.001)
    assert after[:30].tolist() == before[:30].tolist()


def test_overlapping_trades_share_the_capital_and_a_trade_that_goes_on_is_free() -> None:
    signal = np.concatenate((np.ones(10), np.full(10, -2.0)))
    blocks = np.repeat([0, 1], 10)
    returns = scores.rule_returns(signal, np.zeros(20), blocks, overlap=4, cost=0.001)
    assert returns[10:14] == pytest.approx(-0.001 / 4)
    assert returns[14:] == pytest.approx(0)
