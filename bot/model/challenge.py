"""A challenger held against the champion on the same rows of the same days."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from bot.model import scores
from bot.model.baselines import Forecast
from bot.model.intervals import Floats, Ints, block_draws, difference
from bot.model.samples import Sample
from bot.model.scores import Flags

METRIC = "log_loss"
"""Minus the log of the probability given to what came, over all horizons; rows without a move are
left out."""


class Comparison(Struct, frozen=True):
    """Mean losses over ``n`` outcomes. ``difference`` is the challenger's less the champion's, with
    the paired block-bootstrap interval of 95 %; NaN where there are too few days for one."""

    n: int
    champion: float
    challenger: float
    difference: float
    lo: float
    hi: float

    @property
    def is_better(self) -> bool:
        """Whether the challenger's losses are surely the smaller ones."""
        return self.hi < 0


def compare(
    samples: Sequence[Sample],
    champion: Sequence[Forecast],
    challenger: Sequence[Forecast],
    *,
    since_ns: int,
    horizons_ns: tuple[int, ...],
) -> Comparison:
    """Of rows from ``since_ns`` on; forecasts are a sample each, with probabilities.

    Blocks are days, or five of the longest horizon where that is longer: outcomes that overlap
    are drawn together.
    """
    kept = [sample.ts >= since_ns for sample in samples]
    ts = np.concatenate([sample.ts[mine] for sample, mine in zip(samples, kept, strict=True)])
    outcome = np.concatenate(
        [sample.outcome[mine] for sample, mine in zip(samples, kept, strict=True)]
    )
    ours, theirs = (_losses(said, kept, outcome) for said in (challenger, champion))
    n = int(np.isfinite(theirs).sum())
    if not n:
        return Comparison(0, math.nan, math.nan, math.nan, math.nan, math.nan)
    block_ns = max(scores.DAY_NS, 5 * max(horizons_ns))
    index, drawn = block_draws(_blocks(ts, block_ns, outcome.shape[1]))
    first, second = scores.mean(ours), scores.mean(theirs)
    gap = difference(first, second, index, drawn)
    return Comparison(n, second.estimate, first.estimate, gap.value, gap.lo, gap.hi)


def _losses(said: Sequence[Forecast], kept: Sequence[Flags], outcome: Floats) -> Floats:
    """[rows * horizons], NaN without an outcome or a move."""
    chances = [
        forecast.chance[mine]
        for forecast, mine in zip(said, kept, strict=True)
        if forecast.chance is not None
    ]
    losses = scores.log_losses(np.concatenate(chances), outcome > 0)
    known = np.isfinite(outcome) & (outcome != 0)
    return np.where(known, losses, np.nan).ravel()


def _blocks(ts: Ints, block_ns: int, horizons: int) -> Ints:
    return np.repeat(ts // block_ns, horizons)
