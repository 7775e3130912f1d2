"""A live run as those outside may see it: counted while it steps, pictured when somebody asks.

``Observer`` watches the run. It only reads, and makes a picture at most every ``PICTURE_EVERY_S``,
however many ask.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal

from bot.core.book import Book
from bot.core.engine import Engine
from bot.core.events import BookUpdate, Event, Fact, FeedDown, FeedUp, Order, Prediction, Trade
from bot.core.histogram import LatencyHistogram
from bot.core.instrument import UNIT, amount, div_half_even, to_decimal
from bot.core.market import Listing
from bot.core.orders import SymbolOrders
from bot.core.queue import Resting
from bot.inbox import Inbox
from bot.ledger.writer import LedgerWriter
from bot.operate import state
from bot.operate.lag import watch_lag
from bot.run import Run
from bot.venue.stream import MarketStream

PICTURE_EVERY_S = 0.2
SHOWN_LEVELS = 50
SHOWN_ORDERS = 200
COLUMN_EVERY_S = 2.0
COLUMNS = 300
"""Columns of the depth map that are kept: ten minutes."""


class Observer:
    """A watcher of ``run``; ``inference`` tells of the models' thread, where there is one."""

    def __init__(
        self,
        run: Run,
        inbox: Inbox,
        writer: LedgerWriter,
        streams: Sequence[MarketStream],
        *,
        symbols: tuple[str, ...],
        instance: str,
        started_ts: int,
        models: tuple[str, ...] = (),
    ) -> None:
        self.loop_lag, self.own_lag = LatencyHistogram(), LatencyHistogram()
        self._began_s = (0.0, 0.0)
        self.feed_latency = LatencyHistogram()
        self.inference: Callable[[], state.Inference] | None = None
        self._run, self._inbox, self._writer, self._streams = run, inbox, writer, streams
        self._symbols, self._instance, self._models = symbols, instance, models
        self._started_ts = started_ts
        self._heard: dict[str, int] = {}
        self._down = set(symbols)
        self._expected: dict[tuple[str, str], Prediction] = {}
        self._columns: dict[str, deque[bytes]] = {s: deque(maxlen=COLUMNS) for s in symbols}
        self._pictures: dict[str | None, tuple[int, state.State]] = {}

    # --- while it steps ---------------------------------------------------------------------

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None:
        """Note what happened; called after every step."""
        del position, facts
        if isinstance(event, BookUpdate | Trade):
            self._heard[event.symbol] = event.ts
            late_ns = event.ts - self._run.engine.market.offset_ns - event.exchange_ts
            self.feed_latency.add(late_ns)
        elif isinstance(event, Prediction):
            self._expected[event.symbol, event.model] = event
        elif isinstance(event, FeedDown):
            self._down.add(event.symbol)
        elif isinstance(event, FeedUp):
            self._down.discard(event.symbol)

    async def watch(self) -> None:
        """Measure the loop and keep the depth of every book, until cancelled."""
        self._began_s = time.monotonic(), time.process_time()
        async with asyncio.TaskGroup() as group:
            group.create_task(watch_lag(self.loop_lag, self.own_lag))
            group.create_task(self._keep_columns())

    async def _keep_columns(self) -> None:
        while True:
            for symbol in self._symbols:
                listing = self._run.engine.market.listings.get(symbol)
                if listing is not None and listing.is_live:
                    self._columns[symbol].append(_column(listing.book, self._inbox.now()))
                await asyncio.sleep(0)
            await asyncio.sleep(COLUMN_EVERY_S)

    @property
    def cores(self) -> float:
        """Processors that this process has used since ``watch`` began, all its threads together."""
        wall_s, cpu_s = self._began_s
        return (time.process_time() - cpu_s) / max(time.monotonic() - wall_s, 1e-3)

    # --- when somebody asks -------------------------------------------------------------------

    def depth(self, symbol: str) -> bytes:
        """The columns of a symbol's depth map, oldest first, as little-endian float64: time in ms,
        bids, asks, then (price, quantity) of each. Empty for a symbol that is not traded."""
        return b"".join(self._columns.get(symbol, ()))

    def picture(self, symbol: str | None = None) -> state.State:
        """How the run stands, with the book of ``symbol``; not older than PICTURE_EVERY_S."""
        if symbol not in self._columns:
            symbol = None
        now = self._inbox.now()
        taken_ts, picture = self._pictures.get(symbol, (0, None))
        if picture is None or now - taken_ts >= PICTURE_EVERY_S * 1e9:
            picture = self._take(now, symbol)
            self._pictures[symbol] = now, picture
        return picture

    def _take(self, now: int, symbol: str | None) -> state.State:
        run, writer = self._run, self._writer
        engine = run.engine
        return state.State(
            run=writer.run_id,
            instance=self._instance,
            mode="paper",
            status="running",
            is_live=True,
            ts=now,
            started_ts=self._started_ts,
            trading=engine.risk.state,
            symbols=list(self._symbols),
            models=list(self._models),
            untrained=sorted(run.untrained),
            position=run.position,
            facts=run.counts["facts"],
            committed_facts=writer.committed_facts,
            counts={
                name: run.counts[name] for name in ("orders", "fills", "gaps", "predictions")
            } | {"frames": run.frames, "skipped": run.skipped, "events": run.events},
            money=_money(engine),
            holdings=_holdings(engine),
            orders=_orders(engine, self._symbols),
            open_gaps=sorted(self._down),
            quotes=[self._quote(name, now) for name in self._symbols],
            expectations=[_expectation(each) for each in self._expected.values()],
            feeds=[_feed(stream) for stream in self._streams],
            feed_latency=latency(self.feed_latency),
            loop_lag=latency(self.loop_lag),
            queues=self._queues(),
            inference=None if self.inference is None else self.inference(),
            book=None if symbol is None else _book(engine, symbol),
        )  # fmt: skip

    def _queues(self) -> state.Queues:
        inbox = self._inbox
        return state.Queues(len(inbox), inbox.longest, self._writer.pending)

    def _quote(self, symbol: str, now: int) -> state.Quote:
        listing = self._run.engine.market.listing(symbol)
        book, ticker = listing.book, listing.ticker
        heard = self._heard.get(symbol)
        return state.Quote(
            symbol=symbol,
            is_live=listing.is_live,
            bid=_price(book.best_bid if listing.is_live else 0),
            ask=_price(book.best_ask if listing.is_live else 0),
            last=_price(listing.last_price),
            mark=_price(listing.mark),
            funding_rate=_text(None if ticker is None else ticker.funding_rate),
            next_funding_ts=None if ticker is None else ticker.next_funding_ts,
            heard_ago_ns=None if heard is None else now - heard,
        )


def latency(histogram: LatencyHistogram) -> state.Latency:
    """A histogram as it may be shown."""
    return state.Latency(
        histogram.quantile(0.5), histogram.quantile(0.99), histogram.total, histogram.buckets()
    )


# --- the parts ------------------------------------------------------------------------------


def _text(number: Decimal | None) -> str | None:
    return None if number is None else f"{number:f}"


def _price(value: int) -> str | None:
    return f"{to_decimal(value):f}" if value else None


def _coins(value: int) -> str:
    return f"{to_decimal(value):f}"


def _usdt(value: int) -> str:
    return f"{amount(value):f}"


def _money(engine: Engine) -> state.Money:
    account = engine.account
    realized, fees, funding = account.realized, account.fees, account.funding
    unrealized = sum(account.unrealized(symbol) for symbol in account.positions)
    return state.Money(
        realized_pnl=_usdt(realized),
        fees=_usdt(fees),
        funding=_usdt(funding),
        net_pnl=_usdt(realized - fees - funding),
        unrealized_pnl=_usdt(unrealized),
        equity=_usdt(account.equity()),
        wallet=_usdt(account.wallet),
    )


def _holdings(engine: Engine) -> list[state.Holding]:
    account = engine.account
    return [
        state.Holding(
            symbol=symbol,
            position=_coins(held.qty),
            average_entry=_coins(div_half_even(held.cost * 10**16, abs(held.qty)))
            if held.qty
            else None,
            realized_pnl=_usdt(held.realized),
            fees=_usdt(held.fees),
            funding=_usdt(held.funding),
            price=_price(engine.market.listing(symbol).value_price),
            unrealized_pnl=_usdt(account.unrealized(symbol)),
        )
        for symbol, held in sorted(account.positions.items())
    ]


def _orders(engine: Engine, symbols: Sequence[str]) -> list[state.OpenOrder]:
    """Resting orders, best first, then those on their way; at most SHOWN_ORDERS."""
    found: list[state.OpenOrder] = []
    for symbol in symbols:
        orders = engine.exchange.orders_of(symbol)
        if orders is not None and len(found) < SHOWN_ORDERS:
            found += [_resting(each) for each in (*orders.buys, *orders.sells)]
            found += _travelling(orders)
    return found[:SHOWN_ORDERS]


def _resting(resting: Resting) -> state.OpenOrder:
    order, ahead, arrival = resting.order, resting.ahead, resting.ahead_at_arrival
    return state.OpenOrder(
        order_id=order.id,
        ts=order.ts,
        strategy=order.strategy,
        symbol=order.symbol,
        side=order.side,
        price=_coins(resting.price),
        qty=_coins(resting.qty),
        leaves=_coins(resting.leaves),
        state="resting",
        ahead=None if ahead is None else _coins(ahead),
        ahead_at_arrival=None if arrival is None else _coins(arrival),
        displayed=_coins(resting.displayed),
    )


def _travelling(orders: SymbolOrders) -> list[state.OpenOrder]:
    return [
        state.OpenOrder(
            order_id=request.id,
            ts=request.ts,
            strategy=request.strategy,
            symbol=request.symbol,
            side=request.side,
            price=_text(request.price),
            qty=f"{request.qty:f}",
            leaves=f"{request.qty:f}",
            state="travelling",
        )
        for _, _, request in orders.pending
        if isinstance(request, Order)
    ]


def _expectation(prediction: Prediction) -> state.Expectation:
    return state.Expectation(
        symbol=prediction.symbol,
        model=prediction.model,
        read_ts=prediction.read_ts,
        price=prediction.price,
        trained=prediction.trained,
        rebuilt=prediction.rebuilt,
        horizons=[
            (each.horizon_ns, each.expected_return, each.up_probability, each.quantiles)
            for each in prediction.horizons
        ],
    )


def _feed(stream: MarketStream) -> state.Feed:
    counters = stream.counters
    return state.Feed(
        conn=stream.conn,
        state=stream.state,
        frames=counters.frames,
        bytes=counters.bytes,
        connects=counters.connects,
        disconnects=counters.disconnects,
        resubscribes=counters.resubscribes,
        refused=counters.refused,
    )


def _book(engine: Engine, symbol: str) -> state.Book | None:
    listing: Listing | None = engine.market.listings.get(symbol)
    if listing is None or not listing.is_live:
        return None
    book = listing.book
    bids, asks = (
        [(price / UNIT, qty / UNIT) for price, qty in book.top(side, SHOWN_LEVELS)]
        for side in ("Buy", "Sell")
    )
    return state.Book(symbol, listing.clock_ns, bids, asks)


def _column(book: Book, now: int) -> bytes:
    bids, asks = book.top("Buy", SHOWN_LEVELS), book.top("Sell", SHOWN_LEVELS)
    numbers = array("d", (now // 1_000_000, len(bids), len(asks)))
    for price, qty in (*bids, *asks):
        numbers.append(price / UNIT)
        numbers.append(qty / UNIT)
    return numbers.tobytes()
