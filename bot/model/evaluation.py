"""A model held against baselines on the same rows: scores, intervals, paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from msgspec import Struct

from bot.model import scores
from bot.model.baselines import Forecast
from bot.model.checkpoint import Card
from bot.model.intervals import (
    Floats,
    Ints,
    Score,
    block_draws,
    diebold_mariano,
    difference,
    independent,
    interval,
)
from bot.model.samples import Sample
from bot.model.scores import Flags
from bot.model.tokens import CANDLE_TOKENS

Row = dict[str, Any]

ALL = "all"
"""The symbol of rows over all of them together."""
LOWER_IS_BETTER = ("log_loss", "pinball", "calibration_error")
_BOOK_BLOCK_NS = 10 * 10**9
_BASIS_POINTS = 1e4
TAKER_RATE = 0.00055
"""Bybit's fee for taking liquidity on linear perpetuals, VIP 0; the rule's cost a unit traded."""


class Subject(Struct, frozen=True):
    """One symbol's rows, or all symbols' rows in order of symbol and time, and what was said."""

    symbol: str
    ts: Ints
    of: Ints
    """Which symbol a row is of [N]."""
    outcome: Floats
    forecasts: Mapping[str, Forecast]


def subjects(
    samples: Sequence[Sample], forecasts: Sequence[Mapping[str, Forecast]]
) -> Iterator[Subject]:
    """A subject a symbol, and one over all where there are several."""
    for number, (sample, said) in enumerate(zip(samples, forecasts, strict=True)):
        of = np.full(len(sample.ts), number, dtype=np.int64)
        yield Subject(sample.symbol, sample.ts, of, sample.outcome, said)
    if len(samples) < 2:
        return
    names = set.intersection(*(set(said) for said in forecasts))
    yield Subject(
        ALL,
        np.concatenate([sample.ts for sample in samples]),
        np.repeat(np.arange(len(samples)), [len(sample.ts) for sample in samples]),
        np.concatenate([sample.outcome for sample in samples]),
        {
            name: _joined([said[name] for said in forecasts])
            for name in forecasts[0]
            if name in names
        },
    )


def _joined(parts: Sequence[Forecast]) -> Forecast:
    chances = [part.chance for part in parts if part.chance is not None]
    quantiles = [part.quantiles for part in parts if part.quantiles is not None]
    whole = len(chances) == len(parts) == len(quantiles)
    return Forecast(
        np.concatenate([part.expected for part in parts]),
        np.concatenate(chances) if whole else None,
        np.concatenate(quantiles) if whole else None,
    )


def rows(card: Card, subject: Subject, *, cost: float = TAKER_RATE) -> Iterator[Row]:
    """A row a horizon and metric: the model's score, the baselines', and the differences.

    ``subject.forecasts`` has the model under its card's name, the baselines under theirs. ``n`` is
    how many rows had an outcome, ``n_independent`` how many whose outcomes do not overlap. A
    baseline's ``difference`` is the model's score less its own; ``dm`` is the Diebold-Mariano test
    of the losses' equality, where the metric is the mean of one.
    """
    for case in cases(card, subject, cost=cost):
        for metric in METRICS:
            yield from compared(case, metric, card.name)


def cases(card: Card, subject: Subject, *, cost: float = TAKER_RATE) -> Iterator[Case]:
    """One a horizon. ``cost`` is what trading a unit costs, as a share of it."""
    config = card.config
    for index, horizon_ns in enumerate(config.horizons_ns):
        if card.tokens == CANDLE_TOKENS:
            block_ns = max(scores.DAY_NS, 5 * horizon_ns)
        else:
            block_ns = max(_BOOK_BLOCK_NS, 10 * horizon_ns)
        yield Case(subject, index, horizon_ns, config.quantiles, cost, block_ns)


def compared(case: Case, metric: str, name: str) -> Iterator[Row]:
    """The row of one metric of ``name``; none where it does not say what the metric needs."""
    subject = case.subject
    ours = case.score(metric, name)
    if ours is None:
        return
    index, drawn = case.draws(metric)
    found = interval(ours, index, drawn)
    baselines: dict[str, Any] = {}
    for other in subject.forecasts:
        theirs = None if other == name else case.score(metric, other)
        if theirs is None:
            continue
        gap = difference(ours, theirs, index, drawn)
        baselines[other] = {**_told(interval(theirs, index, drawn)), "difference": _told(gap)}
        test = case.test(metric, name, other)
        if test is not None:
            baselines[other]["dm"] = test
    yield {
        "model": name,
        "symbol": subject.symbol,
        "horizon": case.horizon_ns / 1e9,
        "metric": metric,
        **_told(found),
        "n": len(case.kept),
        "n_independent": case.independent,
        "baselines": baselines,
    }


def _told(found: Any) -> dict[str, float | None]:
    return {
        key: None if math.isnan(number) else number
        for key, number in (("value", found.value), ("lo", found.lo), ("hi", found.hi))
    }


class Case:
    """One subject at one horizon: the rows that have an outcome, and every score of them."""

    def __init__(
        self,
        subject: Subject,
        index: int,
        horizon_ns: int,
        levels: tuple[float, ...],
        cost: float,
        block_ns: int,
    ) -> None:
        self.subject = subject
        self.horizon_ns = horizon_ns
        self._index = index
        self._levels = levels
        self.cost = cost
        self.kept = np.flatnonzero(np.isfinite(subject.outcome[:, index]))
        self.ts, self._of = subject.ts[self.kept], subject.of[self.kept]
        self.outcome = subject.outcome[self.kept, index]
        self._blocks = self.ts // block_ns
        self._draws = block_draws(self._blocks)
        self._scores: dict[tuple[str, str], Score | None] = {}
        self._daily: dict[str, scores.Daily] = {}

    @cached_property
    def independent(self) -> int:
        """Rows whose outcomes do not overlap, over all symbols."""
        return sum(
            independent(self.ts[self._of == one], self.horizon_ns) for one in np.unique(self._of)
        )

    @property
    def symbols(self) -> int:
        return len(np.unique(self._of))

    @cached_property
    def overlap(self) -> int:
        """How many rows of a symbol one horizon spans, in the middle."""
        spans = []
        for one in np.unique(self._of):
            ts = self.ts[self._of == one]
            ahead = np.searchsorted(ts, ts + self.horizon_ns) - np.arange(len(ts))
            spans.append(np.median(ahead))
        return max(round(float(np.median(spans))), 1) if spans else 1

    def draws(self, metric: str) -> tuple[Ints, Floats]:
        if metric == "daily_rank_ic":
            return block_draws(self.daily(next(iter(self.subject.forecasts))).days)
        return self._draws

    def expected(self, name: str) -> Floats:
        expected: Floats = self.subject.forecasts[name].expected[self.kept, self._index]
        return expected

    @cached_property
    def moved(self) -> Flags:
        """Rows with a direction: probabilities of a rise are judged there."""
        moved: Flags = self.outcome != 0
        return moved

    def said(self, name: str) -> tuple[Floats, Flags] | None:
        """The probability of a rise, row by row, and whether it came."""
        chance = self.subject.forecasts[name].chance
        return None if chance is None else (chance[self.kept, self._index], self.outcome > 0)

    def daily(self, name: str) -> scores.Daily:
        """The rank IC of each symbol and day."""
        if name not in self._daily:
            self._daily[name] = scores.daily_rank_ics(
                self.expected(name), self.outcome, self.ts, self._of
            )
        return self._daily[name]

    def net_returns(self, name: str, cost: float) -> Floats:
        """Of the simple rule, row by row, each symbol trading its own capital."""
        net = np.zeros(len(self.kept))
        for one in np.unique(self._of):
            mine = self._of == one
            net[mine] = scores.rule_returns(
                self.expected(name)[mine], self.outcome[mine], self._blocks[mine],
                overlap=self.overlap, cost=cost,
            )  # fmt: skip
        return net

    def score(self, metric: str, name: str) -> Score | None:
        """None where the forecast does not say what the metric needs, or no row has an outcome."""
        key = metric, name
        if key not in self._scores:
            self._scores[key] = self._scored(metric, name) if len(self.kept) else None
        return self._scores[key]

    def losses(self, metric: str, name: str) -> Floats | None:
        """The loss whose mean the metric is, row by row; None for another metric."""
        said = self.subject.forecasts[name]
        if metric == "log_loss" and said.chance is not None:
            losses = scores.log_losses(said.chance[self.kept, self._index], self.outcome > 0)
            return np.where(self.moved, losses, np.nan)
        if metric == "pinball" and said.quantiles is not None:
            quantiles = said.quantiles[self.kept, self._index]
            return scores.pinball_losses(quantiles, self._levels, self.outcome)
        return None

    def test(self, metric: str, name: str, other: str) -> dict[str, float] | None:
        """Diebold and Mariano's, on the mean over symbols of each time's losses."""
        pair = [self.losses(metric, each) for each in (name, other)]
        if pair[0] is None or pair[1] is None:
            return None
        known = np.isfinite(pair[0])
        _, at = np.unique(self.ts[known], return_inverse=True)
        counts = np.bincount(at)
        first, second = (np.bincount(at, each[known]) / counts for each in pair if each is not None)
        found = diebold_mariano(first, second, overlap=self.overlap)
        return {"statistic": found.statistic, "p_value": found.p_value}

    def _scored(self, metric: str, name: str) -> Score | None:
        losses = self.losses(metric, name)
        if losses is not None:
            return scores.mean(losses)
        if metric == "rank_ic":
            return scores.pooled_rank_ic(self.expected(name), self.outcome)
        if metric == "daily_rank_ic":
            daily = self.daily(name)
            return scores.daily_rank_ic(daily) if len(daily.days) else None
        if metric == "hit_rate":
            return scores.hits(self.expected(name), self.outcome)
        if metric == "calibration_error":
            said = self.said(name)
            return None if said is None else scores.calibration_error(*said, self.moved)
        if metric in ("net_bps_a_day", "gross_bps_a_day"):
            cost = self.cost if metric == "net_bps_a_day" else 0.0
            return scores.mean(self.net_returns(name, cost), _BASIS_POINTS * self._rows_a_day)
        return None

    @property
    def _rows_a_day(self) -> float:
        """Of one symbol."""
        days = 0.0
        for one in np.unique(self._of):
            ts = self.ts[self._of == one]
            days += max(float(ts[-1] - ts[0]), float(self.horizon_ns)) / scores.DAY_NS
        return len(self.kept) / days


METRICS = (
    "rank_ic",
    "daily_rank_ic",
    "hit_rate",
    "log_loss",
    "pinball",
    "calibration_error",
    "net_bps_a_day",
    "gross_bps_a_day",
)
