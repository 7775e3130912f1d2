"""A recorded market through the path of one message into a ledger: inputs in, facts out.

What is recorded, and how it becomes inputs, is chosen elsewhere (``bot/backtest.py``).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct, field

from bot.core.engine import Engine
from bot.core.events import Event, Fact, Fill, Input, Order, Tick
from bot.core.instrument import amount, to_decimal, to_e12, value_of
from bot.ledger.writer import LedgerWriter
from bot.research.metrics import daily, returns_of, sharpe_of_a_day
from bot.run import Run

TURN_EVERY = 256
"""Inputs taken before the loop looks at its other tasks."""
COMMIT_STEPS = 2_000
"""Steps with rows that wait before a commit, which goes on beside the stepping."""
MOST_PENDING = 50_000
"""Steps that may wait for the database before the stepping does."""
_POINTS = 600
_DAY_NS = 86_400 * 10**9


class Stop(Struct):
    """Set ``reason`` to end a run after the input in hand; what it has done by then is kept."""

    reason: str = ""


class Progress(Struct):
    """Where a run is: inputs taken, and the market time of the last, in ns."""

    inputs: int = 0
    ts: int = 0


async def step_through(
    inputs: Iterable[Input],
    run: Run,
    writer: LedgerWriter,
    *,
    stop: Stop,
    progress: Callable[[Progress], None] | None = None,
) -> None:
    """Take every input and commit what follows, until the end or ``stop``.

    Whatever ends it, the facts made so far are in the ledger. Raises LedgerError, and what the
    inputs raise.
    """
    committing: asyncio.Future[int] | None = None
    try:
        for number, item in enumerate(inputs, 1):
            run.take(item)
            if number % TURN_EVERY:
                continue
            await _turns(writer.pending)
            if progress is not None:
                progress(Progress(number, item.ts))
            if stop.reason:
                break
            if writer.pending > MOST_PENDING and committing is not None:
                await committing
            if writer.pending >= COMMIT_STEPS and (committing is None or committing.done()):
                if committing is not None:
                    committing.result()
                committing = asyncio.ensure_future(writer.commit(None))
        run.finish()
    finally:
        if committing is not None:
            await committing
        await writer.commit(None)


async def _turns(pending: int) -> None:
    """Let the loop's other tasks go on, the longer the more steps wait for the database.

    A commit makes rows for a millisecond a turn. Were its share of the time the same however far
    behind it is, it would fall behind for good, and stepping would have to stop until it is done.
    """
    for _ in range(1 + pending // COMMIT_STEPS):
        await asyncio.sleep(0)


class Track(Struct):
    """Watches a run for what the ledger's rows do not hold: the market's prices, and slippage.

    ``slippage`` is what fills cost against the middle of the book at their decision, in E8: paid
    is positive. ``prices`` and ``days`` are (ts in ns, price) of each symbol: at most some
    hundred over the whole run, and the last of every UTC day. Nothing is looked at before
    ``start_ts``: that is history.
    """

    engine: Engine
    start_ts: int = 0
    first_ts: int = 0
    last_ts: int = 0
    fills: int = 0
    prices: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    days: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    slippage: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    equity: list[tuple[int, float]] = field(default_factory=list)
    _mids: dict[int, int] = field(default_factory=dict)
    _every_ns: int = 10**9
    _due_ns: int = 0

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None:
        del position
        if facts:
            self._count(facts)
        if type(event) is Tick and event.ts > self.start_ts:
            self._look(event.ts)

    def _count(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if type(fact) is Order:
                mid = self.engine.market.listing(fact.symbol).mid_e12
                if mid:
                    self._mids[fact.id] = mid
            elif type(fact) is Fill:
                mid = self._mids.get(fact.order_id, 0)
                if mid:
                    worse = (
                        to_e12(fact.price) - mid
                        if fact.side == "Buy"
                        else (mid - to_e12(fact.price))
                    )
                    self.slippage[fact.symbol] += value_of(worse, to_e12(fact.qty))
                if not fact.leaves:
                    self._mids.pop(fact.order_id, None)

    def _look(self, ts: int) -> None:
        self.first_ts, self.last_ts = self.first_ts or ts, ts
        is_due = ts >= self._due_ns
        _keep_day(self.equity, (ts, self.engine.account.equity() / 1e8))
        for symbol, listing in self.engine.market.listings.items():
            price = listing.value_price
            if not price:
                continue
            point = (ts, price / 1e12)
            _keep_day(self.days[symbol], point)
            if is_due:
                self.prices[symbol].append(point)
        if is_due:
            self._due_ns = ts + self._every_ns
            if any(len(points) > _POINTS for points in self.prices.values()):
                points = max(self.prices.values(), key=len)
                self._every_ns = 2 * (points[-1][0] - points[-2][0])
                for points in self.prices.values():
                    del points[1::2]

    def summary(self, deposit: float) -> dict[str, Any]:
        """As a run's summary keeps it; the account began with ``deposit``."""
        returns = returns_of([value for _, value in daily(self.equity, deposit)], deposit)
        return {
            "sharpe_of_a_day": sharpe_of_a_day(returns),
            "start_ts": self.start_ts,
            "first_ts": self.first_ts,
            "last_ts": self.last_ts,
            "prices": dict(self.prices),
            "days": dict(self.days),
            "slippage": {symbol: amount(paid) for symbol, paid in self.slippage.items()},
            "open": self._open_positions(),
        }

    def _open_positions(self) -> dict[str, dict[str, Decimal]]:
        account = self.engine.account
        return {
            symbol: {
                "qty": to_decimal(position.qty),
                "unrealized_pnl": amount(account.unrealized(symbol)),
            }
            for symbol, position in account.positions.items()
            if position.qty
        }


def _keep_day(days: list[tuple[int, float]], point: tuple[int, float]) -> None:
    """The last point of each UTC day; one at midnight ends the day before."""
    if days and (days[-1][0] - 1) // _DAY_NS == (point[0] - 1) // _DAY_NS:
        days[-1] = point
    else:
        days.append(point)
