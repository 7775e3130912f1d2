"""What a forecast is worth against what happened. numpy only.

Each function takes rows and returns a ``Score`` (see ``intervals.py``), or an array by day or bin
for a picture. ``outcome`` is a log return over the horizon; rows without one are not passed in.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bot.model.intervals import Floats, Ints, Score

Flags: TypeAlias = NDArray[np.bool_]

DAY_NS = 86_400 * 10**9
BINS = 10
_FEWEST_A_DAY = 10
_LEAST_CHANCE = 1e-6
_BASIS_POINTS = 1e4


def ranks(x: Floats) -> Floats:
    """Ranks [n] from 1, ties sharing their mean."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    result: Floats = (ends - (counts - 1) / 2)[inverse]
    return result


def correlation(x: Floats, y: Floats) -> float:
    """Pearson's, NaN where one of the two is constant."""
    return float(_correlation(_pair_moments(x, y).sum(axis=0)))


def rank_correlation(x: Floats, y: Floats) -> float:
    """Spearman's: Pearson's of the ranks."""
    return correlation(ranks(x), ranks(y))


def pooled_rank_ic(prediction: Floats, outcome: Floats) -> Score:
    """Spearman over all rows at once. A draw keeps the ranks of the whole sample."""
    return Score(_pair_moments(ranks(prediction), ranks(outcome)), _correlation)


class Daily(Struct, frozen=True):
    """One number a symbol and UTC day: ``days`` [d] in ns, ``values`` [d]."""

    days: Ints
    values: Floats


def daily_rank_ics(prediction: Floats, outcome: Floats, ts: Ints, symbol: Ints) -> Daily:
    """Spearman over each symbol's rows of each UTC day, symbol by symbol; days of few rows are left
    out, a day on which the forecast says one thing only has NaN.

    ``symbol`` [n] numbers the symbols.
    """
    days, values = [], []
    day = ts // DAY_NS
    order = np.lexsort((day, symbol))
    edges = np.flatnonzero(np.diff(day[order]) | np.diff(symbol[order])) + 1
    for rows in np.split(order, edges):
        if len(rows) < _FEWEST_A_DAY:
            continue
        days.append(int(day[rows[0]]) * DAY_NS)
        values.append(rank_correlation(prediction[rows], outcome[rows]))
    return Daily(np.array(days, dtype=np.int64), np.array(values, dtype=np.float64))


def daily_rank_ic(daily: Daily) -> Score:
    """The mean over symbols and days."""
    return mean(daily.values)


def mean(values: Floats, per: float = 1.0) -> Score:
    """The mean of values [n] but NaN, times ``per``."""
    known = np.isfinite(values)
    return Score(np.column_stack((np.where(known, values * per, 0.0), known)), _mean)


def hits(prediction: Floats, outcome: Floats) -> Score:
    """The share of moves whose direction was foretold; a forecast of none is half a hit."""
    moved = outcome != 0
    hit = np.where(prediction == 0, 0.5, np.sign(prediction) == np.sign(outcome))
    return Score(np.column_stack((np.where(moved, hit, 0.0), moved)).astype(np.float64), _mean)


def log_losses(chance: Floats, up: Flags) -> Floats:
    """Minus the log of the probability [n] given to what happened."""
    told = np.clip(np.where(up, chance, 1 - chance), _LEAST_CHANCE, 1.0)
    result: Floats = -np.log(told)
    return result


def pinball_losses(quantiles: Floats, levels: tuple[float, ...], outcome: Floats) -> Floats:
    """The mean over levels of the quantile loss [n], for ``quantiles`` [n, levels], in basis
    points (Koenker and Bassett, 1978)."""
    over = (outcome[:, None] - quantiles) * _BASIS_POINTS
    level = np.array(levels)
    result: Floats = np.maximum(level * over, (level - 1) * over).mean(axis=1)
    return result


class Reliability(Struct, frozen=True):
    """Per bin of foretold probability: rows, mean probability, share that rose."""

    rows: Ints
    chance: Floats
    rose: Floats


def reliability(chance: Floats, up: Flags, moved: Flags, bins: int = BINS) -> Reliability:
    """What came of probabilities where there was a move, for the reliability diagram; empty bins
    are left out."""
    chance, up = chance[moved], up[moved]
    if not len(chance):
        return Reliability(np.zeros(0, dtype=np.int64), chance, chance)
    edges = np.quantile(chance, np.arange(1, bins) / bins)
    index = np.searchsorted(edges, chance, side="right")
    rows = np.bincount(index, minlength=bins)
    kept = rows > 0
    said = np.bincount(index, weights=chance, minlength=bins)[kept] / rows[kept]
    rose = np.bincount(index, weights=up.astype(np.float64), minlength=bins)[kept] / rows[kept]
    return Reliability(rows[kept], said, rose)


def calibration_error(chance: Floats, up: Flags, moved: Flags, bins: int = BINS) -> Score:
    """The expected calibration error: the mean over moves of their bin's |said - rose|.

    Naeini et al., 2015, with equally filled bins. A draw keeps the bins of the whole sample.
    """
    if not moved.any():
        return Score(np.zeros((len(chance), bins + 1)), _calibration)
    edges = np.quantile(chance[moved], np.arange(1, bins) / bins)
    index = np.searchsorted(edges, chance, side="right")
    moments = np.zeros((len(chance), bins + 1))
    moments[np.arange(len(chance)), index] = np.where(moved, chance - up, 0.0)
    moments[:, bins] = moved
    return Score(moments, _calibration)


def rule_returns(
    signal: Floats, outcome: Floats, blocks: Ints, *, overlap: int, cost: float
) -> Floats:
    """Net return [n] per row of one symbol, rows in time order, of a rule that any forecast can
    follow.

    It holds the sign of the signal while the signal is stronger than nine tenths of those of all
    earlier blocks, and nothing else; the first block only looks. Each row's trade lasts one
    horizon of ``overlap`` rows and takes 1/``overlap`` of the capital, so that overlapping trades
    together never hold more than all of it (Jegadeesh and Titman, 1993); ``cost`` is paid per unit
    traded, as a share of it, and not where a trade goes on as the one that ends.
    """
    strong = np.abs(signal)
    held = np.zeros(len(signal))
    seen: list[Floats] = []
    edges = np.flatnonzero(np.diff(blocks)) + 1
    for rows in np.split(np.arange(len(signal)), edges):
        if seen:
            bar = np.quantile(np.concatenate(seen), 0.9)
            held[rows] = np.where(strong[rows] > bar, np.sign(signal[rows]), 0.0)
        seen.append(strong[rows])
    before = np.concatenate((np.zeros(overlap), held))[: len(held)]
    result: Floats = (held * np.expm1(outcome) - cost * np.abs(held - before)) / overlap
    return result


# --- functions of sums ------------------------------------------------------------------------


def _pair_moments(x: Floats, y: Floats) -> Floats:
    x, y = x - x.mean(), y - y.mean()
    return np.column_stack((np.ones(len(x)), x, y, x * x, y * y, x * y))


def _correlation(sums: Floats) -> Floats:
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = (n * xx - x * x) * (n * yy - y * y)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = np.where(spread > 0, (n * xy - x * y) / np.sqrt(spread), np.nan)
    return result


def _mean(sums: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)
    return result


def _calibration(sums: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1]
    return result
