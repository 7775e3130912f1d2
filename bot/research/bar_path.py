"""A bar's way past the orders that wait for a price: the worst one that the bar allows.

A bar tells where the price has been, not when. So each trigger within its range is met at its own
price, and what loses comes first: of a stop and a target that one bar touches, the stop. A bar that
opens beyond a trigger meets it at its open.

The exchange is asked what waits, and the bar's events get a print and a book at each trigger's
price; by its usual rule a triggered order meets the first book that shows the print.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from bot.core.engine import Engine
from bot.core.events import E12, Event, Input, Prediction, Trade
from bot.core.instrument import to_e12
from bot.research.candle_market import SEQ_STEP, book_around


class WorstPaths:
    """Inputs in, inputs out; ``engine`` must have stepped each before the next is asked for.

    ``symbols`` are those whose bars are the market; ``spread`` is that of their books, in E12.
    """

    def __init__(
        self, inputs: Iterable[Input], engine: Engine, symbols: frozenset[str], spread: E12
    ) -> None:
        self._inputs = inputs
        self._engine = engine
        self._symbols = symbols
        self._spread = spread
        self._exchanges = (engine.exchange, *(each.exchange for each in engine.shadows))
        self._places: list[int] = []
        self._shifts: list[int] = []

    def __iter__(self) -> Iterator[Input]:
        low: Trade | None = None
        for number, item in enumerate(self._inputs):
            if type(item) is Prediction:
                yield self._moved(item)
            elif type(item) is Trade and item.qty and item.symbol in self._symbols:
                if low is None:
                    low = item
                    continue
                yield from self._counted(number, low, item)
                low = None
            else:
                yield item

    def _counted(self, number: int, low: Trade, high: Trade) -> Iterator[Event]:
        """The extremes with what is met on their way; ``number`` is the place of the second."""
        made = 0
        for event in self._way(low, high):
            made += 1
            yield event
        if made > 2:
            self._places.append(number)
            self._shifts.append((self._shifts[-1] if self._shifts else 0) + made - 2)

    def _moved(self, said: Prediction) -> Prediction:
        """A prediction whose read position counts the inputs that were put in before it."""
        place = bisect_right(self._places, said.read_position)
        if not place:
            return said
        return replace(said, read_position=said.read_position + self._shifts[place - 1])

    def _way(self, low: Trade, high: Trade) -> Iterator[Event]:
        symbol = low.symbol
        if self._waits(symbol):
            yield from self._met(low, high, low.seq - SEQ_STEP)
        yield low
        if self._waits(symbol):
            yield from self._met(low, high, low.seq)
        yield high
        if self._waits(symbol):
            yield from self._met(low, high, high.seq)

    def _met(self, low: Trade, high: Trade, seq: int) -> Iterator[Event]:
        """A print and a book at the price of each trigger in the range, as long as one waits."""
        mid = self._engine.market.listing(low.symbol).mid_e12
        done: set[int] = set()
        while True:
            waiting = [
                each for each in self._waiting(low.symbol)
                if low.price - 1 <= each.price <= high.price + 1 and each.id not in done
            ]  # fmt: skip
            if not waiting:
                return
            next_ = min(waiting, key=lambda each: (each.is_target, abs(each.price - mid)))
            done.add(next_.id)
            seq, mid = seq + 1, next_.price
            yield replace(low, seq=seq, price=mid, qty=0)
            yield book_around(mid, self._spread, low.symbol, low.ts, low.exchange_ts, seq)

    def _waits(self, symbol: str) -> bool:
        """Whether anything waits for a price: mostly nothing does."""
        for exchange in self._exchanges:
            orders = exchange.orders_of(symbol)
            if orders is not None and (orders.stops or orders.triggered):
                return True
        return False

    def _waiting(self, symbol: str) -> Iterator[_Trigger]:
        """What waits for its price, and what an extreme has triggered and waits for a book."""
        for exchange in self._exchanges:
            orders = exchange.orders_of(symbol)
            if orders is not None:
                for resting in orders.conditional():
                    order = resting.order
                    by = order.trigger_by or "last"
                    if by == "last" and order.trigger_price is not None:
                        rises = order.trigger_direction == "rise"
                        is_target = (order.side == "Sell") == rises
                        yield _Trigger(order.id, to_e12(order.trigger_price), is_target)


class _Trigger(Struct, frozen=True):
    """``is_target``: a sale on a rise or a purchase on a fall takes a profit, or a bargain."""

    id: int
    price: E12
    is_target: bool
