"""What a run was worth, in the numbers that the field uses. Pure functions of series and rows.

Returns are simple returns of whole UTC days; a year has 365 of them, since the market never
closes. A ratio whose divisor is 0 is None: no number is better than a wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from statistics import NormalDist
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

DAYS_A_YEAR = 365
_NS_PER_DAY = 86_400 * 10**9
_EULER = 0.5772156649015329
Returns = NDArray[np.float64]
Point = tuple[int, float]
"""A time in ns and a value."""


# --- series -----------------------------------------------------------------------------------


def daily(points: Iterable[Point], start: float) -> list[Point]:
    """The last value of each UTC day, days without one keeping the day before's.

    A point at midnight ends the day before. ``start`` is the value before the first point.
    """
    last: dict[int, Point] = {(ts - 1) // _NS_PER_DAY: (ts, value) for ts, value in points}
    if not last:
        return []
    days: list[Point] = []
    value = start
    for day in range(min(last), max(last) + 1):
        value = last[day][1] if day in last else value
        days.append(((day + 1) * _NS_PER_DAY, value))
    return days


def returns_of(values: Sequence[float], start: float) -> Returns:
    """Simple returns [len(values)] of a value that was ``start`` before."""
    series = np.array([start, *values], dtype=np.float64)
    return series[1:] / series[:-1] - 1.0


def total_return(returns: Returns) -> float:
    return float(np.prod(1.0 + returns) - 1.0)


def annual_return(returns: Returns) -> float | None:
    """The yearly rate that compounds to the total."""
    total = 1.0 + total_return(returns)
    if not len(returns) or total < 0:
        return None
    return float(total ** (DAYS_A_YEAR / len(returns)) - 1.0)


def annual_volatility(returns: Returns) -> float | None:
    """The sample standard deviation of a day times sqrt(365)."""
    if len(returns) < 2:
        return None
    return float(np.std(returns, ddof=1) * math.sqrt(DAYS_A_YEAR))


def sharpe(returns: Returns) -> float | None:
    """Mean over standard deviation, annualized; no risk-free rate (Sharpe, 1994)."""
    daily_ratio = sharpe_of_a_day(returns)
    return None if daily_ratio is None else daily_ratio * math.sqrt(DAYS_A_YEAR)


def sharpe_of_a_day(returns: Returns) -> float | None:
    """The Sharpe ratio of daily returns, as it is."""
    spread = float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
    return float(np.mean(returns)) / spread if spread > 0 else None


def sortino(returns: Returns) -> float | None:
    """Mean over the root mean square of the losing days (of all days), annualized."""
    if not len(returns):
        return None
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(np.mean(returns)) / downside * math.sqrt(DAYS_A_YEAR) if downside > 0 else None


def calmar(returns: Returns) -> float | None:
    """Yearly return over the largest drawdown."""
    yearly, worst = annual_return(returns), max_drawdown(returns)
    return yearly / -worst if yearly is not None and worst < 0 else None


def drawdowns(returns: Returns) -> Returns:
    """How far below its peak the value is after each day, at most 0."""
    value = np.concatenate(([1.0], np.cumprod(1.0 + returns)))
    return (value / np.maximum.accumulate(value) - 1.0)[1:]


def max_drawdown(returns: Returns) -> float:
    return float(np.min(drawdowns(returns))) if len(returns) else 0.0


def longest_drawdown_days(returns: Returns) -> int:
    """The most days in a row below a peak."""
    longest = current = 0
    for below in drawdowns(returns) < 0:
        current = current + 1 if below else 0
        longest = max(longest, current)
    return longest


def alpha_beta(returns: Returns, market: Returns) -> tuple[float | None, float | None]:
    """Yearly alpha and beta against ``market``, by least squares on daily returns."""
    if len(returns) < 2 or len(returns) != len(market):
        return None, None
    spread = float(np.var(market, ddof=1))
    if spread == 0:
        return None, None
    beta = float(np.cov(returns, market, ddof=1)[0, 1]) / spread
    alpha = float(np.mean(returns - beta * market))
    return (1.0 + alpha) ** DAYS_A_YEAR - 1.0, beta


def deflated_sharpe(returns: Returns, tried: Sequence[float]) -> float | None:
    """The probability that the Sharpe ratio is above what the best of so many trials shows by luck.

    ``tried`` are the daily Sharpe ratios of every variant, this one's included; at least two.
    Bailey and Lopez de Prado, The Deflated Sharpe Ratio, 2014, equations (1), (2) and (9).
    """
    own, trials = sharpe_of_a_day(returns), len(tried)
    if own is None or trials < 2 or len(returns) < 3:
        return None
    normal = NormalDist()
    luck = (1 - _EULER) * normal.inv_cdf(1 - 1 / trials) + _EULER * normal.inv_cdf(
        1 - 1 / (trials * math.e)
    )
    threshold = float(np.std(np.array(tried), ddof=1)) * luck
    centered = returns - np.mean(returns)
    spread = float(np.sqrt(np.mean(centered**2)))
    skew = float(np.mean(centered**3)) / spread**3
    kurtosis = float(np.mean(centered**4)) / spread**4
    error = 1 - skew * own + (kurtosis - 1) / 4 * own**2
    if error <= 0:
        return None
    return normal.cdf((own - threshold) * math.sqrt(len(returns) - 1) / math.sqrt(error))


# --- trades -----------------------------------------------------------------------------------


class RoundTrip(Struct, frozen=True):
    """A position from flat to flat, or up to its turn. ``pnl`` is after fees; times in ns."""

    symbol: str
    side: str
    opened_ts: int
    closed_ts: int
    pnl: Decimal
    fees: Decimal


def round_trips(fills: Iterable[Mapping[str, Any]]) -> list[RoundTrip]:
    """The closed positions of a run's fills, which stand in their order.

    A fill that turns a position closes one and opens the next; its fee counts with the one closed.
    """
    opened: dict[str, tuple[int, str, Decimal, Decimal]] = {}
    closed: list[RoundTrip] = []
    for fill in fills:
        symbol, ts = str(fill["symbol"]), int(fill["exchange_ts"])
        after = Decimal(fill["position_qty"])
        fee, gain = Decimal(fill["fee"]), Decimal(fill["realized_pnl"])
        start, side, pnl, fees = opened.pop(symbol, (ts, str(fill["side"]), Decimal(0), Decimal(0)))
        pnl, fees = pnl + gain - fee, fees + fee
        is_turned = after != 0 and (after > 0) != (side == "Buy")
        if after == 0 or is_turned:
            closed.append(RoundTrip(symbol, side, start, ts, pnl, fees))
        else:
            opened[symbol] = (start, side, pnl, fees)
        if is_turned:
            opened[symbol] = (ts, str(fill["side"]), Decimal(0), Decimal(0))
    return closed


def hit_rate(trips: Sequence[RoundTrip]) -> float | None:
    """The share of round trips that earned."""
    return sum(trip.pnl > 0 for trip in trips) / len(trips) if trips else None


def profit_factor(trips: Sequence[RoundTrip]) -> float | None:
    """What winners earned over what losers lost."""
    lost = -sum(min(trip.pnl, Decimal(0)) for trip in trips)
    won = sum(max(trip.pnl, Decimal(0)) for trip in trips)
    return float(won / lost) if lost else None


def average_holding_s(trips: Sequence[RoundTrip]) -> float | None:
    if not trips:
        return None
    return sum(trip.closed_ts - trip.opened_ts for trip in trips) / len(trips) / 1e9


def exposure(fills: Iterable[Mapping[str, Any]], start_ns: int, end_ns: int) -> float:
    """The share of the time from ``start_ns`` to ``end_ns`` with a position in any symbol."""
    held: set[str] = set()
    since, total = 0, 0
    for fill in fills:
        was_in, ts = bool(held), min(max(int(fill["exchange_ts"]), start_ns), end_ns)
        if Decimal(fill["position_qty"]):
            held.add(str(fill["symbol"]))
        else:
            held.discard(str(fill["symbol"]))
        if held and not was_in:
            since = ts
        elif was_in and not held:
            total += ts - since
    if held:
        total += end_ns - since
    return total / (end_ns - start_ns) if end_ns > start_ns else 0.0


def traded_value(fills: Iterable[Mapping[str, Any]]) -> Decimal:
    """Price times quantity over all fills, in the quote coin."""
    return sum((Decimal(fill["price"]) * Decimal(fill["qty"]) for fill in fills), Decimal(0))
