"""Market events to rows: what a model reads, and what came of it.

The tokens are those of the live forecasters, made by the same code; the outcomes alone look ahead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bot.core.events import BookUpdate, Candle, Event, FundingRate, Ticker
from bot.model.dataset import Dataset, future_returns
from bot.model.intervals import Floats, Ints
from bot.model.tokens import (
    BOOK_TOKENS,
    CANDLE_TOKENS,
    Bars,
    BookTokens,
    CandleState,
    candle_tokens,
    interval_ns,
)

_CALM = 1 / 64
"""The weight of the newest move in the volatility."""
_LEAST_VOLATILITY = 1e-7


class Sample(Struct, frozen=True):
    """One symbol's tokens in time order. ``ts`` is exchange time in ns."""

    symbol: str
    ts: Ints  # [N]
    tokens: NDArray[np.float32]  # [N, F]
    price: Floats  # [N], close or mid
    unit: Floats  # [N], a bar's volatility, of which a scaled model's returns are multiples; or 1
    outcome: Floats  # [N, horizons], log return; NaN where it is not known

    @property
    def volatility(self) -> Floats:
        """What a token's move has been of late [N], known with each token: the root of an
        exponential mean of squared log returns."""
        moves = np.diff(np.log(self.price), prepend=math.log(self.price[0]))
        variance, seen = 0.0, []
        for count, square in enumerate((moves * moves).tolist()):
            variance += max(_CALM, 1 / (count + 1)) * (square - variance)
            seen.append(variance)
        volatility: Floats = np.maximum(np.sqrt(np.array(seen)), _LEAST_VOLATILITY)
        return volatility


class _CandleRows:
    """One symbol's bars of one interval, tokenised together at the end."""

    def __init__(self, symbol: str, interval: str) -> None:
        self._symbol = symbol
        self._interval = interval
        self._funding = math.nan
        self._bars: list[tuple[float, ...]] = []
        self._opens: list[int] = []

    def take(self, event: Event) -> None:
        match event:
            case Candle() if event.interval == self._interval and (
                not self._opens or event.open_ts > self._opens[-1]
            ):
                numbers = (event.open, event.high, event.low, event.close, event.volume)
                self._opens.append(event.open_ts)
                self._bars.append((*map(float, numbers), self._funding))
            case Ticker() if event.funding_rate is not None:
                self._funding = float(event.funding_rate)
            case FundingRate():
                self._funding = float(event.rate)
            case _:
                pass

    def sample(self, horizons_ns: tuple[int, ...]) -> Sample | None:
        if not self._opens:
            return None
        open_ts = np.array(self._opens, dtype=np.int64)
        opened, high, low, close, volume, funding = np.array(self._bars).T
        bars = Bars(open_ts, opened, high, low, close, volume, funding)
        tokens, volatility, _ = candle_tokens(bars, self._interval, CandleState())
        ts = open_ts + interval_ns(self._interval)
        outcome = closes_ahead(ts, close, horizons_ns)
        return Sample(self._symbol, ts, tokens, close, volatility, outcome)


class _BookRows:
    """The tokens of one symbol's book as they are read."""

    def __init__(self, symbol: str, depth: int) -> None:
        self._reader = BookTokens(symbol, depth)
        self._ts: list[int] = []
        self._tokens: list[NDArray[np.float32]] = []
        self._mids: list[float] = []

    def take(self, event: Event) -> None:
        token = self._reader.read(event)
        if token is not None:
            self._ts.append(event.exchange_ts)
            self._tokens.append(token)
            self._mids.append(self._reader.mid)

    def sample(self, horizons_ns: tuple[int, ...]) -> Sample | None:
        if not self._ts:
            return None
        # a stamp may lie before its predecessor's where the recorder's order says otherwise
        ts = np.maximum.accumulate(np.array(self._ts, dtype=np.int64))
        mids, tokens = np.array(self._mids), np.stack(self._tokens)
        outcome = mids_ahead(ts, mids, tokens[:, -1] > 0, horizons_ns)
        return Sample(self._reader.symbol, ts, tokens, mids, np.ones(len(ts)), outcome)


def samples(
    events: Iterable[Event], *, tokens: str, interval: str, horizons_ns: tuple[int, ...]
) -> list[Sample]:
    """What a model of these ``tokens`` would read of the events, a sample a symbol in order of
    name. Of a symbol's books, those of the depth that comes first. Raises ValueError for tokens
    that this version does not know."""
    if tokens not in (CANDLE_TOKENS, BOOK_TOKENS):
        raise ValueError(f"tokens {tokens!r}: known are {CANDLE_TOKENS} and {BOOK_TOKENS}")
    rows: dict[str, _CandleRows | _BookRows] = {}
    for event in events:
        symbol = getattr(event, "symbol", None)
        if symbol is None:
            continue
        found = rows.get(symbol)
        if found is None:
            if tokens == CANDLE_TOKENS:
                found = rows[symbol] = _CandleRows(symbol, interval)
            elif isinstance(event, BookUpdate):
                found = rows[symbol] = _BookRows(symbol, event.depth)
            else:
                continue
        found.take(event)
    made = (rows[symbol].sample(horizons_ns) for symbol in sorted(rows))
    return [sample for sample in made if sample is not None]


def samples_of(
    data: Dataset, horizons: Sequence[int], rows: NDArray[np.bool_] | None = None
) -> list[Sample]:
    """A training dataset's rows, those of the mask ``rows`` [N], a sample a series, for fitting
    baselines to what the model learned from. ``horizons`` are in bars, or ms for books."""
    outcome = future_returns(data, horizons)
    wanted = np.ones(len(data), dtype=bool) if rows is None else rows
    found = []
    for number, series in enumerate(data.series):
        mine = wanted & (data.row_series == number)
        if mine.any():
            found.append(
                Sample(
                    str(series), data.ts[mine], data.tokens[mine], data.price[mine],
                    data.volatility[mine], outcome[mine],
                )
            )  # fmt: skip
    return found


def closes_ahead(ts: Ints, price: Floats, horizons_ns: tuple[int, ...]) -> Floats:
    """Log returns [N, horizons] to the close exactly one horizon later; NaN where that bar is
    missing."""
    outcome = np.full((len(ts), len(horizons_ns)), np.nan)
    for index, horizon_ns in enumerate(horizons_ns):
        at = np.searchsorted(ts, ts + horizon_ns)
        at_most = np.minimum(at, len(ts) - 1)
        known = ts[at_most] == ts + horizon_ns
        outcome[known, index] = np.log(price[at_most[known]] / price[known])
    return outcome


def mids_ahead(
    ts: Ints, price: Floats, after_gap: NDArray[np.bool_], horizons_ns: tuple[int, ...]
) -> Floats:
    """Log returns [N, horizons] to the mid that stood one horizon later; NaN where the book was
    lost before, or the data ends."""
    outcome = np.full((len(ts), len(horizons_ns)), np.nan)
    segment = np.cumsum(after_gap)
    for index, horizon_ns in enumerate(horizons_ns):
        until = ts + horizon_ns
        at = np.searchsorted(ts, until, side="right") - 1
        following = np.minimum(at + 1, len(ts) - 1)
        # the mid stands until the next update, which must be of the same stretch of the book
        known = (at + 1 < len(ts)) & (segment[following] == segment)
        outcome[known, index] = np.log(price[at[known]] / price[known])
    return outcome
