"""Market events to feature vectors, one per closed candle or book update.

A token is fixed when it is written: it depends on the past alone, through differences, ratios
and constants, never on statistics of a window. That is what lets a cache keep it. Every feature
is of order one and tamed by asinh or log1p, so that no outlier needs clipping away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bot.core.events import (
    BookUpdate,
    Candle,
    Event,
    FeedDown,
    FundingRate,
    Level,
    Ticker,
    Trade,
)
from bot.model.levels import Levels

Token = NDArray[np.float32]

CANDLE_TOKENS = "candle-2"
CANDLE_FEATURES = 23
BOOK_TOKENS = "book-1"
BOOK_LEVELS = 20
BOOK_FEATURES = 4 * BOOK_LEVELS + 12

_NS_PER_MINUTE = 60_000_000_000
_MINUTES = {"D": 1440, "W": 10_080}
_MINUTE_VOLATILITY = 5e-4  # a large coin's log return in a minute: the volatility to begin with
_LEAST_VOLATILITY = 0.02  # of that unit: a market that stands still has no smaller one
_FAST, _SLOW = 1 / 32, 1 / 256  # weights of the newest bar in exponential means
_SPANS = (2, 5, 20, 80)
"""Bars over which exponential means of the log close are taken: where prices came from."""
_GARMAN_KLASS = 2 * math.log(2) - 1
_FUNDING_UNIT = 1e-4  # Bybit's usual rate, 0.01 % per interval
_BASIS_POINT = 1e-4
_NOTIONAL_UNIT = 1_000.0  # quote coins; makes sizes comparable across symbols
_LOG_SHARE = 0.25  # brings log1p of sizes and times to order one
_E12 = 1e-12


def interval_ns(interval: str) -> int:
    """How long a bar of Bybit's ``interval`` lasts. Raises ValueError for an unknown name."""
    minutes = _MINUTES.get(interval) or (int(interval) if interval.isdigit() else 0)
    if minutes <= 0:
        raise ValueError(f"interval {interval!r} is not a number of minutes, 'D' or 'W'")
    return minutes * _NS_PER_MINUTE


class Bars(Struct, frozen=True):
    """Candles of one series as columns [N], oldest first, no time twice."""

    open_ts: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    funding: NDArray[np.float64]
    """The rate known at the close; NaN where none is."""


class CandleState(Struct, frozen=True):
    """What the next candle's token depends on beside the candle itself."""

    open_ts: int = 0
    close: float = 0.0
    """0: no candle yet."""
    volume: float = 0.0
    usual_log_volume: float = math.nan
    """NaN: no candle that traded yet."""
    variance: float = 0.0
    slow_variance: float = 0.0
    log_closes: tuple[float, ...] = ()
    """Exponential means over ``_SPANS`` bars."""


def candle_tokens(
    bars: Bars, interval: str, state: CandleState
) -> tuple[NDArray[np.float32], NDArray[np.float64], CandleState]:
    """Tokens [N, F] of the next candles, the volatility [N] known at each close, the new state.

    The volatility is that of one bar's log return: the square root of an exponential mean of
    Garman and Klass's variance (On the Estimation of Security Price Volatilities, 1980, without
    drift) plus the squared jump from close to open. Any cut into calls gives the same.
    """
    bar_ns = interval_ns(interval)
    unit = _MINUTE_VOLATILITY * math.sqrt(bar_ns / _NS_PER_MINUTE)
    first = np.zeros(len(bars.open_ts), dtype=bool)
    first[:1] = state.close == 0.0
    previous = np.where(first, bars.open, np.append(state.close, bars.close[:-1]))
    missing = (np.diff(bars.open_ts, prepend=state.open_ts) // bar_ns - 1).clip(min=0)
    missing = np.where(first, 0, missing).astype(np.float64)
    opened, high, low, close = (
        np.log(price / previous) for price in (bars.open, bars.high, bars.low, bars.close)
    )
    step = 0.5 * (high - low) ** 2 - _GARMAN_KLASS * (close - opened) ** 2
    step += opened**2 / (1 + missing)
    prior = unit * unit
    floor = (_LEAST_VOLATILITY * unit) ** 2
    begun = state.close != 0.0
    variance = _mean(step, state.variance if begun else prior, _FAST, floor)
    slow = _mean(step, state.slow_variance if begun else prior, _SLOW, floor)
    expected = np.sqrt(variance[:-1] * (1 + missing))  # what was known before each bar
    change, busy, usual = _volumes(bars.volume, state)
    means = _log_close_means(bars, state)
    day = (bars.open_ts + bar_ns) / (1440 * _NS_PER_MINUTE)
    known = ~np.isnan(bars.funding)
    volatility = np.sqrt(variance[1:])
    tokens = np.stack(
        [
            *(np.arcsinh(move / expected) for move in (opened, high, low, close)),
            change,
            bars.volume <= 0,
            *_phases(day % 1),
            *_phases(day % 7 / 7),
            np.arcsinh(np.where(known, bars.funding, 0.0) / _FUNDING_UNIT),
            known,
            _LOG_SHARE * np.log1p(missing),
            first,
            busy,
            _place_of(close, low, high),
            np.log(volatility / unit),
            np.log(variance[1:] / slow[1:]),
            np.full(len(first), _LOG_SHARE * math.log(bar_ns / _NS_PER_MINUTE)),
            *_away(bars, means, volatility),
        ],
        axis=1,
    ).astype(np.float32)
    if not len(first):
        return tokens, volatility, state
    after = CandleState(
        int(bars.open_ts[-1]), float(bars.close[-1]), float(bars.volume[-1]),
        float(usual[-1]), float(variance[-1]), float(slow[-1]),
        tuple(float(mean[-1]) for mean in means),
    )  # fmt: skip
    return tokens, volatility, after


def _log_close_means(bars: Bars, state: CandleState) -> list[NDArray[np.float64]]:
    """Exponential means [N + 1] of the log close over each of ``_SPANS``, from before the first."""
    start = float(np.log(bars.open[0])) if len(bars.open) else 0.0
    before = state.log_closes or (start,) * len(_SPANS)
    closes = np.log(bars.close)
    return [
        _mean(closes, mean, 2 / (1 + span), -math.inf)
        for mean, span in zip(before, _SPANS, strict=True)
    ]


def _away(
    bars: Bars, means: list[NDArray[np.float64]], volatility: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """How far [N] the log close is from each mean, in volatilities of as many bars."""
    for mean, span in zip(means, _SPANS, strict=True):
        yield np.arcsinh((np.log(bars.close) - mean[1:]) / (volatility * math.sqrt(span)))


def _phases(turns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sine and cosine [N] of parts of a turn."""
    return np.sin(2 * math.pi * turns), np.cos(2 * math.pi * turns)


def _place_of(
    close: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where the close lies in its bar, from -1 at the low to 1 at the high; 0 in a flat bar."""
    flat = high <= low
    return np.where(flat, 0.0, (2 * close - high - low) / np.where(flat, 1.0, high - low))


def _volumes(
    volume: NDArray[np.float64], state: CandleState
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Asinh of the log volume's change [N] from the bar before and [N] from what was usual before,
    0 where one side is none; and the usual log volume [N + 1], an exponential mean over the bars
    that traded, NaN before one did."""
    traded, before = volume > 0, np.append(state.volume, volume[:-1])
    logs = np.log(np.where(traded, volume, 1.0))
    earlier = np.log(np.where(before > 0, before, 1.0))
    usual = state.usual_log_volume
    means = [usual]
    for value, counts in zip(logs.tolist(), traded.tolist(), strict=True):
        if counts:
            usual = value if math.isnan(usual) else usual + _SLOW * (value - usual)
        means.append(usual)
    usuals = np.array(means)
    change = np.where(traded & (before > 0), logs - earlier, 0.0)
    busy = np.where(traded & ~np.isnan(usuals[:-1]), logs - usuals[:-1], 0.0)
    return np.arcsinh(change), np.arcsinh(busy), usuals


def _mean(
    values: NDArray[np.float64], start: float, weight: float, floor: float
) -> NDArray[np.float64]:
    """The exponential mean [N + 1] from before the first value on, never below ``floor``."""
    means = [start]
    for value in values.tolist():
        start += weight * (value - start)
        if start < floor:
            start = floor
        means.append(start)
    return np.array(means)


Mirror: TypeAlias = tuple[tuple[int, ...], tuple[float, ...]]
"""For each feature of a token the one that takes its place when up and down change roles, and its
sign there."""


def mirror_of(kind: str) -> Mirror:
    """How tokens of a kind look in a market turned upside down: every return with the other sign.

    Volatility, volume, time and funding stay. Raises ValueError for an unknown kind.
    """
    if kind == CANDLE_TOKENS:
        places = list(range(CANDLE_FEATURES))
        places[1], places[2] = 2, 1  # the high is a low
        signed = {0, 1, 2, 3, 15, 19, 20, 21, 22}
    elif kind == BOOK_TOKENS:
        side = 2 * BOOK_LEVELS
        places = [*range(side, 2 * side), *range(side), *range(2 * side, BOOK_FEATURES)]
        first = 2 * side
        places[first + 7], places[first + 8] = first + 8, first + 7  # bought is sold
        signed = {first + offset for offset in range(1, 7)}
    else:
        raise ValueError(f"tokens {kind!r} have no mirror")
    return tuple(places), tuple(-1.0 if at in signed else 1.0 for at in range(len(places)))


class CandleTokens:
    """One symbol's candles of one interval, with the funding rate known at their close."""

    __slots__ = ("_funding", "_state", "interval", "symbol", "volatility")

    def __init__(self, symbol: str, interval: str) -> None:
        self.symbol = symbol
        self.interval = interval
        self.volatility = 0.0
        """Of one bar's log return, as of the last candle."""
        interval_ns(interval)
        self._state = CandleState()
        self._funding = math.nan

    @property
    def close(self) -> float:
        """The last candle's close, 0.0 before the first."""
        return self._state.close

    def read(self, event: Event) -> Token | None:
        """The token that the event completes, if it does. A candle already seen gives none."""
        match event:
            case Candle() if (
                event.interval == self.interval and event.open_ts > self._state.open_ts
            ):
                return self._token(event)
            case Ticker() if event.funding_rate is not None:
                self._funding = float(event.funding_rate)
            case FundingRate():
                self._funding = float(event.rate)
            case _:
                pass
        return None

    def _token(self, candle: Candle) -> Token:
        bars = Bars(
            np.array([candle.open_ts]),
            np.array([float(candle.open)]),
            np.array([float(candle.high)]),
            np.array([float(candle.low)]),
            np.array([float(candle.close)]),
            np.array([float(candle.volume)]),
            np.array([self._funding]),
        )
        tokens, volatility, self._state = candle_tokens(bars, self.interval, self._state)
        self.volatility = float(volatility[-1])
        token: Token = tokens[-1]
        return token


class BookTokens:
    """One symbol's book updates, with the trade flow between them.

    An update of another ``depth`` is another stream and is ignored. A book that is unknown,
    one-sided or crossed gives no token; the next token says so in its gap feature.
    """

    __slots__ = ("_asks", "_bids", "_buys", "_exchange_ts", "_gap", "_levels", "_sells",
                 "_trades", "depth", "mid", "symbol")  # fmt: skip

    def __init__(self, symbol: str, depth: int) -> None:
        self.symbol = symbol
        self.depth = depth
        self.mid = 0.0
        self._levels = Levels()
        self._bids: list[Level] = []
        self._asks: list[Level] = []
        self._exchange_ts = 0
        self._gap = True
        self._buys = self._sells = 0.0  # taker notional since the last token
        self._trades = 0

    def gap(self) -> None:
        """Mark a hole in what was read: the next token compares itself with nothing."""
        self._gap = True

    def read(self, event: Event) -> Token | None:
        """The token that the event completes, if it does."""
        match event:
            case BookUpdate() if event.depth == self.depth:
                return self._update(event)
            case Trade() if not event.block:
                notional = event.price * _E12 * (event.qty * _E12)
                if event.side == "Buy":
                    self._buys += notional
                else:
                    self._sells += notional
                self._trades += 1
            case FeedDown():
                self._levels.forget()
                self._gap = True
            case _:
                pass
        return None

    def _update(self, update: BookUpdate) -> Token | None:
        self._levels.apply(update)
        bids = self._levels.bids.best(BOOK_LEVELS)
        asks = self._levels.asks.best(BOOK_LEVELS)
        if not bids or not asks or bids[0][0] > asks[0][0]:
            self._gap = True
            return None
        bid, bid_qty = bids[0][0] * _E12, bids[0][1] * _E12
        ask, ask_qty = asks[0][0] * _E12, asks[0][1] * _E12
        mid = (bid + ask) / 2
        away, size = _sides(bids, asks, mid)
        bid_size, ask_size = size[:BOOK_LEVELS], size[BOOK_LEVELS:]
        micro = (bid * ask_qty + ask * bid_qty) / (bid_qty + ask_qty)
        flow = 0.0 if self._gap else _order_flow(self._bids[0], self._asks[0], bids[0], asks[0])
        elapsed_ms = max(update.exchange_ts - self._exchange_ts, 0) / 1e6
        scalars = (
            math.asinh(math.log(ask / bid) / _BASIS_POINT),
            0.0 if self._gap else math.asinh(math.log(mid / self.mid) / _BASIS_POINT),
            math.asinh(math.log(micro / mid) / _BASIS_POINT),
            *(_imbalance(bid_size[:n].sum(), ask_size[:n].sum()) for n in (1, 5, BOOK_LEVELS)),
            math.copysign(_log_share(abs(flow) * mid / _NOTIONAL_UNIT), flow),
            _log_share(self._buys / _NOTIONAL_UNIT),
            _log_share(self._sells / _NOTIONAL_UNIT),
            _log_share(self._trades),
            0.0 if self._gap else _log_share(elapsed_ms),
            float(self._gap),
        )
        token = np.empty(BOOK_FEATURES, dtype=np.float32)
        logs = _LOG_SHARE * np.log1p(size)
        token[0:20], token[20:40] = away[:BOOK_LEVELS], logs[:BOOK_LEVELS]
        token[40:60], token[60:80] = away[BOOK_LEVELS:], logs[BOOK_LEVELS:]
        token[80:] = scalars
        self._bids, self._asks, self.mid = bids, asks, mid
        self._exchange_ts, self._gap = update.exchange_ts, False
        self._buys = self._sells = 0.0
        self._trades = 0
        return token


def _sides(
    bids: list[Level], asks: list[Level], mid: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of both sides, bids first [2 * BOOK_LEVELS]: asinh distance from mid in basis points, and
    notional in units; 0, 0 where no level is."""
    away, size = np.zeros(2 * BOOK_LEVELS), np.zeros(2 * BOOK_LEVELS)
    pairs = np.array(bids + asks, dtype=np.float64) * _E12
    prices = pairs[:, 0]
    moves = np.log(prices / mid)
    count = len(bids)
    np.negative(moves[:count], out=moves[:count])
    distances, notionals = np.arcsinh(moves / _BASIS_POINT), prices * pairs[:, 1] / _NOTIONAL_UNIT
    for first, part in ((0, slice(count)), (BOOK_LEVELS, slice(count, None))):
        end = first + len(distances[part])
        away[first:end], size[first:end] = distances[part], notionals[part]
    return away, size


def _order_flow(old_bid: Level, old_ask: Level, bid: Level, ask: Level) -> float:
    """Net quantity that came to the best bid less that to the best ask, in coins.

    Cont, Kukanov and Stoikov, The Price Impact of Order Book Events, 2014, equation (4).
    """
    flow = bid[1] * (bid[0] >= old_bid[0]) - old_bid[1] * (bid[0] <= old_bid[0])
    flow -= ask[1] * (ask[0] <= old_ask[0]) - old_ask[1] * (ask[0] >= old_ask[0])
    return flow * _E12


def _imbalance(bids: float, asks: float) -> float:
    return (bids - asks) / (bids + asks)


def _log_share(amount: float) -> float:
    return _LOG_SHARE * math.log1p(amount)
