"""Rank correlation (Spearman), pooled and by day."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NS_PER_DAY = 86_400_000_000_000
_LEAST = 20
"""A day with fewer rows says nothing."""


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks [N] from 0 on; equal values share the mean of theirs."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[where]


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's correlation; NaN where one side is constant."""
    one, other = ranks(a), ranks(b)
    one, other = one - one.mean(), other - other.mean()
    size = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / size) if size > 0 else float("nan")


def daily_rank_correlations(
    forecast: NDArray[np.float64],
    outcome: NDArray[np.float64],
    ts: NDArray[np.int64],
    series: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Spearman's correlation over each series' rows of a UTC day, and those days' numbers.

    A row counts by the time ``ts`` (ns) of its forecast. Days with fewer than 20 rows or a constant
    side are left out.
    """
    day = ts // _NS_PER_DAY
    order = np.lexsort((ts, day, series))
    keys = np.stack((series[order], day[order]))
    cuts = np.flatnonzero((np.diff(keys, axis=1) != 0).any(0)) + 1
    found, days = [], []
    for rows in np.split(order, cuts):
        if len(rows) >= _LEAST:
            value = rank_correlation(forecast[rows], outcome[rows])
            if not np.isnan(value):
                found.append(value)
                days.append(int(day[rows[0]]))
    return np.array(found), np.array(days, dtype=np.int64)
