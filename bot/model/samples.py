"""Market events to rows: what a model reads, and what came of it.

The tokens are those of the live forecasters, made by the same code; the outcomes alone look ahead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bot.core.events import BookUpdate, Event
from bot.model.intervals import Floats, Ints
from bot.model.tokens import BOOK_TOKENS, CANDLE_TOKENS, BookTokens, CandleTokens

_CALM = 1 / 64
"""The weight of the newest move in the volatility."""
_LEAST_VOLATILITY = 1e-7


class Sample(Struct, frozen=True):
    """One symbol's tokens in time order. ``ts`` is exchange time in ns."""

    symbol: str
    ts: Ints  # [N]
    tokens: NDArray[np.float32]  # [N, F]
    price: Floats  # [N], close or mid
    unit: Floats  # [N], what a volatility-scaled model's returns are multiples of; else 1
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


class _Rows:
    """The tokens of one symbol as they are read."""

    def __init__(self, reader: CandleTokens | BookTokens) -> None:
        self._reader = reader
        self._ts: list[int] = []
        self._tokens: list[NDArray[np.float32]] = []
        self._prices: list[float] = []

    def take(self, event: Event) -> None:
        reader = self._reader
        token = reader.read(event)
        if token is not None:
            self._ts.append(event.exchange_ts)
            self._tokens.append(token)
            self._prices.append(reader.close if isinstance(reader, CandleTokens) else reader.mid)

    def sample(self, horizons_ns: tuple[int, ...]) -> Sample | None:
        if not self._ts:
            return None
        ts, price = np.array(self._ts, dtype=np.int64), np.array(self._prices)
        tokens = np.stack(self._tokens)
        if isinstance(self._reader, CandleTokens):
            outcome = closes_ahead(ts, price, horizons_ns)
        else:
            outcome = mids_ahead(ts, price, tokens[:, -1] > 0, horizons_ns)
        return Sample(self._reader.symbol, ts, tokens, price, np.ones(len(ts)), outcome)


def samples(
    events: Iterable[Event], *, tokens: str, interval: str, horizons_ns: tuple[int, ...]
) -> list[Sample]:
    """What a model of these ``tokens`` would read of the events, a sample a symbol in order of
    name. Of a symbol's books, those of the depth that comes first. Raises ValueError for tokens
    that this version does not know."""
    if tokens not in (CANDLE_TOKENS, BOOK_TOKENS):
        raise ValueError(f"tokens {tokens!r}: known are {CANDLE_TOKENS} and {BOOK_TOKENS}")
    rows: dict[str, _Rows] = {}
    for event in events:
        symbol = getattr(event, "symbol", None)
        if symbol is None:
            continue
        found = rows.get(symbol)
        if found is None:
            if tokens == CANDLE_TOKENS:
                found = rows[symbol] = _Rows(CandleTokens(symbol, interval))
            elif isinstance(event, BookUpdate):
                found = rows[symbol] = _Rows(BookTokens(symbol, event.depth))
            else:
                continue
        found.take(event)
    made = (rows[symbol].sample(horizons_ns) for symbol in sorted(rows))
    return [sample for sample in made if sample is not None]


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
