"""The metrics against an independent library, and trades counted by hand."""

from __future__ import annotations

import math
import warnings
from decimal import Decimal

import numpy as np
import pytest

from bot.research import metrics

with warnings.catch_warnings():  # it warns of what it lacks as it loads
    warnings.simplefilter("ignore")
    import empyrical

RANDOM = np.random.default_rng(5)
SERIES = [RANDOM.normal(0.001, 0.02, days) for days in (5, 90, 730)]
MARKET = [RANDOM.normal(0.0005, 0.03, len(series)) for series in SERIES]
DAY = 86_400 * 10**9


@pytest.mark.parametrize("index", range(3))
def test_every_ratio_is_that_of_empyrical(index):
    returns, market = SERIES[index], MARKET[index]
    pairs = [
        (metrics.total_return(returns), empyrical.cum_returns_final(returns)),
        (metrics.annual_return(returns), empyrical.annual_return(returns, annualization=365)),
        (metrics.annual_volatility(returns),
         empyrical.annual_volatility(returns, annualization=365)),
        (metrics.sharpe(returns), empyrical.sharpe_ratio(returns, annualization=365)),
        (metrics.sortino(returns), empyrical.sortino_ratio(returns, annualization=365)),
        (metrics.calmar(returns), empyrical.calmar_ratio(returns, annualization=365)),
        (metrics.max_drawdown(returns), empyrical.max_drawdown(returns)),
    ]  # fmt: skip
    alpha, beta = empyrical.alpha_beta_aligned(returns, market, annualization=365)
    pairs += zip(metrics.alpha_beta(returns, market), (alpha, beta), strict=True)
    for ours, theirs in pairs:
        assert ours == pytest.approx(theirs, rel=1e-9)


def test_a_ratio_without_a_divisor_is_none():
    flat = np.zeros(10)
    assert metrics.sharpe(flat) is metrics.sortino(flat) is metrics.calmar(flat) is None
    assert metrics.alpha_beta(flat, flat) == (None, None)


def test_days_without_a_value_keep_the_one_before_and_midnight_ends_a_day():
    points = [(DAY, 101.0), (DAY + 5, 90.0), (2 * DAY, 102.0), (4 * DAY, 99.0)]
    assert metrics.daily(points, 100.0) == [
        (DAY, 101.0), (2 * DAY, 102.0), (3 * DAY, 102.0), (4 * DAY, 99.0)
    ]  # fmt: skip


def test_the_longest_drawdown_counts_the_days_below_a_peak():
    returns = metrics.returns_of([110, 100, 105, 111, 100], 100)
    assert metrics.longest_drawdown_days(returns) == 2
    assert metrics.drawdowns(returns)[1] == pytest.approx(100 / 110 - 1)


def test_a_deflated_sharpe_ratio_falls_with_the_number_of_trials_and_is_the_papers_example():
    """Bailey and Lopez de Prado (2014), section "A numerical example": SR 2.5, 5 years of 250
    days, skewness -3, kurtosis 10, 100 trials whose yearly ratios vary by 1/2: 0.9004."""
    normal = metrics.NormalDist()
    own, days, trials = 2.5 / math.sqrt(250), 1250, 100
    luck = (1 - metrics._EULER) * normal.inv_cdf(1 - 1 / trials)
    luck += metrics._EULER * normal.inv_cdf(1 - 1 / (trials * math.e))
    threshold = math.sqrt(0.5 / 250) * luck
    error = math.sqrt(1 + 3 * own + 9 / 4 * own**2)
    assert normal.cdf((own - threshold) * math.sqrt(days - 1) / error) == pytest.approx(
        0.9004, abs=1e-4
    )
    returns = SERIES[2] + 0.002
    few = metrics.deflated_sharpe(returns, [0.0, 0.1])
    many = metrics.deflated_sharpe(returns, [0.0, 0.1] * 50)
    assert few is not None
    assert many is not None
    assert 0 < many < few < 1
    assert metrics.deflated_sharpe(returns, [0.1]) is None


def fill(ts: int, side: str, after: str, gain: str = "0", fee: str = "1") -> dict[str, object]:
    return {"symbol": "linear:BTCUSDT", "exchange_ts": ts, "side": side, "position_qty": after,
            "realized_pnl": gain, "fee": fee, "price": "100", "qty": "1"}  # fmt: skip


def test_round_trips_go_from_flat_to_flat_or_to_a_turn():
    fills = [
             fill(0, "Buy", "1"), fill(5, "Buy", "2"), fill(10, "Sell", "0", "20"),
             fill(20, "Sell", "-1"), fill(30, "Buy", "1", "-5"), fill(40, "Sell", "0", "9"),
    ]  # fmt: skip
    trips = metrics.round_trips(fills)
    assert [(t.side, t.opened_ts, t.closed_ts, t.pnl) for t in trips] == [
        ("Buy", 0, 10, Decimal(17)), ("Sell", 20, 30, Decimal(-7)), ("Buy", 30, 40, Decimal(8)),
    ]  # fmt: skip
    assert metrics.hit_rate(trips) == pytest.approx(2 / 3)
    assert metrics.profit_factor(trips) == pytest.approx(25 / 7)
    assert metrics.average_holding_s(trips) == pytest.approx(10e-9)
    assert metrics.exposure(fills, 0, 100) == pytest.approx(0.3)
    assert metrics.exposure(fills, 5, 15) == pytest.approx(0.5)
    assert metrics.exposure(fills, 39, 40) == 1.0
    assert metrics.traded_value(fills) == 600
