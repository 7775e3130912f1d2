"""Bars as the few exact events from which the paper exchange gives a bar's fills.

There is one exchange and it knows nothing of bars. What a bar promises is made into books and
trades that lead it to exactly these fills:

* A decision is made on a close. Its order needs some time, however little, and so meets the
  **next open**: a market order fills there, plus or minus half the spread.
* A limit order fills only if the bar trades **strictly through** its price, whole, at its price.
  A print one unit (1e-12) short of the extreme passes every price beyond it and touches none at it.

A bar from O to C, with exchange stamps: a print and a book at the open, 1 ns behind O (every
symbol's close at O has been seen by then); at the end the extremes, low and high; a print and a
book at the close; at C the candle itself. Sizes are without limit: a bar says nothing of them. The
prints at open and close have none: they say where the price was, and fill nobody.
``bar_path`` adds what orders that wait for a price meet between the extremes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from heapq import heappop, heappush

from bot.core.events import (
    E12,
    BookUpdate,
    Candle,
    Event,
    FeedDown,
    FeedUp,
    Instrument,
    Side,
    Trade,
)
from bot.core.instrument import UNIT, to_e12

UNLIMITED: E12 = 10**12 * UNIT
_MS = 1_000_000
_DEPTH = 0
"""All levels are shown: there is one."""
_EXTREMES, _CLOSE = 2 * _MS, 1 * _MS
"""How long before the bar's end each is told."""
SEQ_STEP = 1 << 12
"""From one event's ``seq`` to the next: room for what is put between."""
_MIN_NOTIONAL = Decimal(5)
_MAX_LEVERAGE = Decimal(100)
_QUOTES = ("USDT", "USDC", "USD", "EUR", "BTC", "ETH")


class CandleMarket:
    """The events of ``source`` with the bars of some markets expanded.

    ``spread`` is a fraction of the price, in E12; half of it lies on each side, at least one unit.
    ``source`` is in the order of exchange time; so is what comes out. A bar that does not come is
    a ``FeedDown`` at the end of the last, until one opens again.
    """

    def __init__(
        self, source: Iterable[Event], markets: dict[str, tuple[str, int]], *, spread: E12
    ) -> None:
        """``markets``: symbol to the interval's name and its length in ns."""
        self._source = source
        self._bars = {
            symbol: _Bars(symbol, interval, length_ns, spread)
            for symbol, (interval, length_ns) in markets.items()
        }
        self._longest_ns = max((length_ns for _, length_ns in markets.values()), default=0)

    def __iter__(self) -> Iterator[Event]:
        waiting: list[tuple[int, int, list[Event]]] = []
        number = last_ns = 0
        for event in self._source:
            stamp = event.exchange_ts
            made = self._missed(stamp) if stamp > last_ns else []
            last_ns = stamp
            made += self._expanded(event)
            for together in made:
                number += 1
                heappush(waiting, (together[0].exchange_ts, number, together))
            # a later bar may begin as early as this, and no earlier
            safe_ns = stamp - self._longest_ns
            while waiting and waiting[0][0] <= safe_ns:
                yield from heappop(waiting)[2]
        while waiting:
            yield from heappop(waiting)[2]

    def _missed(self, stamp: int) -> list[list[Event]]:
        """Time has come to ``stamp``: which bars should have ended before, and have not?"""
        return [[bars.missed()] for bars in self._bars.values() if bars.are_missing(stamp)]

    def _expanded(self, event: Event) -> list[list[Event]]:
        """What the event stands for, in lists of one exchange time each."""
        if type(event) is not Candle:
            return [[event]]
        bars = self._bars.get(event.symbol)
        return [[event]] if bars is None or event.interval != bars.interval else bars.expand(event)


class _Bars:
    """One symbol's bars as events."""

    def __init__(self, symbol: str, interval: str, length_ns: int, spread: E12) -> None:
        self.interval = interval
        self._symbol = symbol
        self._length_ns = length_ns
        self._spread = spread
        self._seq = 0
        self._end_ns = 0
        self._delay_ns = 0
        self._is_live = False

    def are_missing(self, stamp: int) -> bool:
        return self._is_live and stamp > self._end_ns + self._length_ns

    def missed(self) -> FeedDown:
        self._is_live = False
        lost = self._end_ns + 2
        return FeedDown(lost + self._delay_ns, self._symbol, "a bar is missing", lost)

    def expand(self, bar: Candle) -> list[list[Event]]:
        """The bar's events, in lists of one exchange time each."""
        delay_ns = self._delay_ns = bar.ts - bar.exchange_ts
        opened, closed = bar.open_ts + 1, bar.exchange_ts
        made: list[list[Event]] = []
        if not self._is_live:
            self._is_live = True
            made.append([FeedUp(opened + delay_ns, self._symbol, opened)])
        self._end_ns = closed
        made.append(self._quote(opened, delay_ns, to_e12(bar.open)))
        low, high = to_e12(bar.low), to_e12(bar.high)
        if low < high:
            stamp = closed - _EXTREMES
            made.append([
                self._print(stamp, delay_ns, "Sell", low + 1, UNLIMITED),
                self._print(stamp, delay_ns, "Buy", high - 1, UNLIMITED),
            ])  # fmt: skip
        made.append(self._quote(closed - _CLOSE, delay_ns, to_e12(bar.close)))
        made.append([bar])
        return made

    def _quote(self, stamp: int, delay_ns: int, price: E12) -> list[Event]:
        """A print and the book around it."""
        told = self._print(stamp, delay_ns, "Sell", price, 0)
        self._seq += SEQ_STEP
        ts, seq = stamp + delay_ns, self._seq
        return [told, book_around(price, self._spread, self._symbol, ts, stamp, seq)]

    def _print(self, stamp: int, delay_ns: int, side: Side, price: E12, qty: E12) -> Trade:
        self._seq += SEQ_STEP
        return Trade(stamp + delay_ns, stamp, self._symbol, self._seq, side, price, qty)


def book_around(
    price: E12, spread: E12, symbol: str, ts: int, exchange_ts: int, seq: int
) -> BookUpdate:
    """A whole book of one level a side; ``spread`` is a fraction of the price, in E12."""
    half = max(1, price * spread // (2 * UNIT))
    bids, asks = [(price - half, UNLIMITED)], [(price + half, UNLIMITED)]
    return BookUpdate(ts, exchange_ts, symbol, _DEPTH, seq, seq, True, bids, asks)


def guessed_rules(bars: Sequence[Candle]) -> Instrument:
    """Rules for a symbol whose own are not there: the grid on which its bars are written.

    The tick and the lot are the last decimal place that any price or volume of ``bars`` uses.
    """
    first = bars[0]
    prices = [price for bar in bars for price in (bar.open, bar.high, bar.low, bar.close)]
    category, _, name = first.symbol.partition(":")
    quote = next((quote for quote in _QUOTES if name.endswith(quote)), "USDT")
    step = _place(bar.volume for bar in bars)
    return Instrument(
        ts=0,
        exchange_ts=0,
        symbol=first.symbol,
        base=name.removesuffix(quote),
        quote=quote,
        tick_size=_place(prices),
        qty_step=step,
        min_qty=step,
        min_notional=_MIN_NOTIONAL,
        max_leverage=_MAX_LEVERAGE if category == "linear" else Decimal(1),
    )


def _place(numbers: Iterable[Decimal]) -> Decimal:
    """The last decimal place in use, at most 12: 0.001 for 3.25 and 1.125."""
    places = (-int(number.normalize().as_tuple().exponent) for number in numbers)
    return Decimal(1).scaleb(-min(12, max(0, *places, 0)))
