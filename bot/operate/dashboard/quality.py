"""How good predictions have been, judged by what the price did after: pure, over numpy arrays.

A model's own answers carry the price they were made at; the first answer at or past a horizon's end
gives the price that came of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot.operate.state import Quality

Floats = NDArray[np.float64]

FEWEST = 30
"""Answers below which nothing is said."""
_TENTHS = 10
_WINDOWS = 40
_LATE = 3
"""An end that is not known within so many horizons after it is no end."""


def quality(symbol: str, model: str, rows: Sequence[Mapping[str, Any]]) -> Quality | None:
    """Judge answers, oldest first, each with read_ts, price, horizon_ns, expected_return,
    up_probability and trained. None without any."""
    if not rows:
        return None
    ts = np.array([row["read_ts"] for row in rows], dtype=np.int64)
    price = np.array([row["price"] for row in rows])
    expected = np.array([row["expected_return"] for row in rows])
    chance = np.array([row["up_probability"] for row in rows])
    horizon_ns = int(rows[-1]["horizon_ns"])
    realized, known = _realized(ts, price, horizon_ns)
    ts, expected, chance = ts[known], expected[known], chance[known]
    enough = len(realized) >= FEWEST
    bins = _calibration(chance, realized > 0) if enough else []
    return Quality(
        symbol=symbol,
        model=model,
        horizon_ns=horizon_ns,
        trained=bool(rows[-1]["trained"]),
        n=len(realized),
        ic=rank_correlation(expected, realized) if enough else None,
        hit_rate=_hit_rate(expected, realized) if enough else None,
        calibration_error=_calibration_error(bins),
        drift=population_stability(chance) if enough else None,
        calibration=bins,
        ic_over_time=_over_time(ts, expected, realized) if enough else [],
    )


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Spearman's correlation, ties at their mean rank; None where a side never changes."""
    a, b = _ranks(first), _ranks(second)
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def population_stability(values: Floats) -> float:
    """The population stability index between the first half of ``values`` and the second, over
    tenths of the first: below 0.1 the same, above 0.25 another population."""
    first, last = np.array_split(values, 2)
    edges = np.unique(np.quantile(first, np.linspace(0, 1, _TENTHS + 1)[1:-1]))
    shares = [
        np.bincount(np.searchsorted(edges, part), minlength=len(edges) + 1) / len(part)
        for part in (first, last)
    ]
    before, after = (np.clip(share, 1e-4, None) for share in shares)
    return float(np.sum((after - before) * np.log(after / before)))


def _realized(ts: NDArray[np.int64], price: Floats, horizon_ns: int) -> tuple[Floats, Floats]:
    """The log return over the horizon after each answer whose end is known, and which those are."""
    ends = np.searchsorted(ts, ts + horizon_ns)
    inside = ends < len(ts)
    at = np.minimum(ends, len(ts) - 1)
    known = inside & (ts[at] - ts <= (1 + _LATE) * horizon_ns) & (price > 0) & (price[at] > 0)
    realized: Floats = np.log(price[at][known] / price[known])
    return realized, known  # type: ignore[return-value]


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[inverse]
    return ranks


def _hit_rate(expected: Floats, realized: Floats) -> float | None:
    """How often the sign was right, of the moves that had one."""
    moved = (realized != 0) & (expected != 0)
    if not moved.any():
        return None
    return float(np.mean(np.sign(expected[moved]) == np.sign(realized[moved])))


def _calibration(chance: Floats, went_up: NDArray[np.bool_]) -> list[tuple[float, float, int]]:
    tenth = np.minimum((chance * _TENTHS).astype(int), _TENTHS - 1)
    return [
        (float(chance[here].mean()), float(went_up[here].mean()), int(here.sum()))
        for here in (tenth == number for number in range(_TENTHS))
        if here.any()
    ]


def _calibration_error(bins: Sequence[tuple[float, float, int]]) -> float | None:
    total = sum(count for _, _, count in bins)
    if not total:
        return None
    return sum(abs(said - was) * count for said, was, count in bins) / total


def _over_time(
    ts: NDArray[np.int64], expected: Floats, realized: Floats
) -> list[tuple[int, float]]:
    """The rank correlation in consecutive windows of equal size."""
    windows = min(_WINDOWS, len(ts) // FEWEST)
    parts = np.array_split(np.arange(len(ts)), windows)
    found = [
        (int(ts[part[-1]]), rank_correlation(expected[part], realized[part])) for part in parts
    ]
    return [(when, value) for when, value in found if value is not None]
