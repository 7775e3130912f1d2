"""How sure a measured score is: block bootstrap, paired differences, the Diebold-Mariano test.

Rows next to each other share their outcomes (a horizon of five bars overlaps its neighbour's by
four) and markets remember, so rows are resampled in whole stretches of time, all symbols of a
stretch together. Every score here is a function of sums over rows; resampling then adds block
sums and needs no second pass over the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

DRAWS = 1_000
_SEED = 20_240_601
_LEVEL = 0.95
_FEWEST_BLOCKS = 5
"""An interval from fewer blocks would only look like one."""
_MOST_FREEDOM = 1_000_000


class Score(Struct, frozen=True):
    """A score as a function ``value`` of the sums of ``moments`` [n, k] over rows.

    ``value`` takes sums [..., k] and returns scores [...].
    """

    moments: Floats
    value: Callable[[Floats], Floats]

    @property
    def estimate(self) -> float:
        return float(self.value(self.moments.sum(axis=0)))


class Interval(Struct, frozen=True):
    """A score with its 95 % interval; ``lo`` and ``hi`` are NaN where too few blocks are."""

    value: float
    lo: float
    hi: float

    @property
    def excludes_zero(self) -> bool:
        return self.lo > 0 or self.hi < 0


def block_draws(blocks: Ints, *, draws: int = DRAWS, seed: int = _SEED) -> tuple[Ints, Floats]:
    """Row to block index [n], and how often each block is drawn [draws, blocks].

    Non-overlapping blocks (Carlstein, 1986), each draw as many blocks as there are. The same
    blocks give the same draws.
    """
    _, index = np.unique(blocks, return_inverse=True)
    count = int(index.max()) + 1 if len(index) else 0
    if count < _FEWEST_BLOCKS:
        return index.astype(np.int64), np.zeros((0, count))
    generator = np.random.default_rng(seed)
    chances = np.full(count, 1 / count)
    drawn = generator.multinomial(count, chances, size=draws)
    return index.astype(np.int64), drawn.astype(np.float64)


def interval(score: Score, index: Ints, drawn: Floats) -> Interval:
    """The score with percentiles of its bootstrap distribution."""
    return _interval(score.estimate, score.value(drawn @ _block_sums(score, index, drawn)))


def difference(first: Score, second: Score, index: Ints, drawn: Floats) -> Interval:
    """``first`` less ``second`` on the same rows, both drawn together."""
    values = first.value(drawn @ _block_sums(first, index, drawn))
    others = second.value(drawn @ _block_sums(second, index, drawn))
    return _interval(first.estimate - second.estimate, values - others)


def _block_sums(score: Score, index: Ints, drawn: Floats) -> Floats:
    blocks = drawn.shape[1]
    columns = [np.bincount(index, column, minlength=blocks) for column in score.moments.T]
    return np.stack(columns, axis=1)


def _interval(value: float, values: Floats) -> Interval:
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(value, math.nan, math.nan)
    tail = (1 - _LEVEL) / 2
    lo, hi = np.quantile(values, [tail, 1 - tail])
    return Interval(value, float(lo), float(hi))


class DieboldMariano(Struct, frozen=True):
    """``statistic`` < 0 says that the first forecast's losses are the smaller ones."""

    statistic: float
    p_value: float
    n: int
    lags: int


def diebold_mariano(losses: Floats, others: Floats, *, overlap: int = 1) -> DieboldMariano:
    """Whether two forecasts lose alike: losses [n] of each, in time order.

    ``overlap`` is how many rows one horizon spans. The variance of the mean difference is Newey
    and West's (1987) with at least ``overlap - 1`` lags, the small-sample correction that of
    Harvey, Leybourne and Newbold (1997), the p-value two-sided from Student's t with n - 1
    degrees of freedom. Equal losses give a statistic of 0.
    """
    gap = losses - others
    n = len(gap)
    lags = min(max(overlap - 1, _automatic_lags(n)), n - 1) if n > 1 else 0
    variance = newey_west(gap, lags) if n > 1 else 0.0
    if n < 2 or variance <= 0:
        return DieboldMariano(0.0, 1.0, n, lags)
    span = min(max(overlap, 1), n // 2)
    correction = math.sqrt((n + 1 - 2 * span + span * (span - 1) / n) / n)
    statistic = float(gap.mean()) / math.sqrt(variance / n) * correction
    return DieboldMariano(statistic, student_tail(abs(statistic), n - 1), n, lags)


def newey_west(x: Floats, lags: int) -> float:
    """The long-run variance of ``x`` [n] with Bartlett weights."""
    centred = x - x.mean()
    n = len(x)
    total = float(centred @ centred)
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag])
    return total / n


def student_tail(t: float, freedom: int) -> float:
    """P(|T| > t) of Student's t, by quadrature over T = sqrt(freedom) tan(angle)."""
    freedom = min(freedom, _MOST_FREEDOM)
    reach = min(60 / math.sqrt(freedom), math.pi / 2)  # beyond lies less than a double resolves
    start = min(math.atan2(t, math.sqrt(freedom)), reach)

    def mass(low: float) -> float:
        angles = np.linspace(low, reach, 20_001)
        weights = np.cos(angles) ** (freedom - 1)
        return float(np.trapezoid(weights, angles))

    return mass(start) / mass(0.0)


def independent(ts: Ints, horizon_ns: int) -> int:
    """How many rows of one symbol have outcomes that do not overlap: ``ts`` [n] ascending."""
    count, free_from = 0, None
    start = 0
    while start < len(ts):
        if free_from is not None:
            start = int(np.searchsorted(ts, free_from))
            if start >= len(ts):
                break
        count += 1
        free_from = int(ts[start]) + horizon_ns
    return count


def _automatic_lags(n: int) -> int:
    """Newey and West's rule of thumb (1994) for the Bartlett kernel."""
    return int(4 * (n / 100) ** (2 / 9))
