"""The one piece of shared test code: short words for books, trades, orders, and an engine to act.

Times are in ms and count for both clocks; a book is "100.0x5 99.9x7", price x quantity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from bot.core.engine import Engine
from bot.core.events import (
    Accepted,
    Amend,
    BookUpdate,
    Cancel,
    Cancelled,
    Command,
    Decision,
    Event,
    Fact,
    FeedDown,
    Fees,
    Fill,
    Horizon,
    Instrument,
    Order,
    Prediction,
    Refusal,
    Rejected,
    Tick,
    Ticker,
    Trade,
)
from bot.core.instrument import to_e8, to_e12
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
from bot.core.risk import RiskLimits
from bot.core.strategy import Seen, View

MS = 1_000_000
LINEAR = "linear:BTCUSDT"
SPOT = "spot:BTCUSDT"
NO_LIMITS = RiskLimits(10**30, 10**30, 10**30, 10**9, 10**9)
MAKER, TAKER = Decimal("0.0002"), Decimal("0.00055")
TOUCH = ("100.0x100 99.9x500", "100.1x100 100.2x500")
"""The book that most tests start from."""


def e12(number: object) -> int:
    return to_e12(Decimal(str(number)))


def levels(text: str) -> list[tuple[int, int]]:
    """ "100.0x5 99.9x7" as levels."""
    pairs = (word.split("x") for word in text.split())
    return [(e12(price), e12(qty)) for price, qty in pairs]


def book(
    t: float,
    bids: str = "",
    asks: str = "",
    *,
    snapshot: bool = False,
    seq: int = 1,
    depth: int = 0,
    symbol: str = LINEAR,
) -> BookUpdate:
    ts = round(t * MS)
    return BookUpdate(ts, ts, symbol, depth, seq, seq, snapshot, levels(bids), levels(asks))


def trade(
    t: float,
    side: Any,
    price: object,
    qty: object,
    *,
    seq: int = 1,
    symbol: str = LINEAR,
    **is_a: bool,
) -> Trade:
    ts = round(t * MS)
    return Trade(ts, ts, symbol, seq, side, e12(price), e12(qty), **is_a)


def rules(symbol: str = LINEAR, **limits: object) -> Instrument:
    """Tick 0.1, step 1, minimum notional 5, unless told otherwise."""
    given = {"tick_size": "0.1", "qty_step": "1", "min_qty": "1", "min_notional": "5"} | limits
    numbers: Any = {name: Decimal(str(value)) for name, value in given.items()}
    return Instrument(0, 0, symbol, "BTC", "USDT", **numbers)


def fees(symbol: str = LINEAR, maker: Decimal = MAKER, taker: Decimal = TAKER) -> Fees:
    return Fees(0, symbol.partition(":")[0], maker, taker)


def prediction(
    t: float, expected: float, *, model: str = "predictor", symbol: str = LINEAR
) -> Prediction:
    ts = round(t * MS)
    horizon = Horizon(60 * 10**9, expected, 0.5 + (expected > 0) * 0.1, 0.5)
    return Prediction(ts, symbol, model, 0, ts, ts, 100.0, (horizon,))


class Script:
    """A strategy that says on a tick what it was told to say, and notes down what it hears."""

    def __init__(self, on_event: Callable[[Seen, View], Iterable[Decision] | None] | None = None):
        self.state = None
        self.lines: list[Decision] = []
        self.heard: list[tuple[float, Seen]] = []
        self._also = on_event

    def on_event(self, event: Seen, view: View) -> Iterable[Decision] | None:
        self.heard.append((view.ts / MS, event))
        if type(event) is Tick and self.lines:
            said, self.lines = self.lines, []
            return said
        return None if self._also is None else self._also(event, view)

    def answers(self, *kinds: type) -> list[tuple[float, str]]:
        """(local ms, kind) of the answers heard, or of those of some kinds only."""
        answers = (Accepted, Rejected, Fill, Cancelled, Refusal)
        return [
            (t, type(event).__name__)
            for t, event in self.heard
            if type(event) in (kinds or answers)
        ]


class Paper:
    """An engine on one symbol with a scripted strategy; ``facts`` is all that came of it."""

    def __init__(
        self,
        *,
        symbol: str = LINEAR,
        start: tuple[str, str] | None = TOUCH,
        depth: int = 0,
        usdt: object = 1_000_000,
        leverage: object = 10,
        latency_ms: float = 0,
        response_ms: float = 0,
        limits: RiskLimits = NO_LIMITS,
        instrument: Instrument | None = None,
        script: Script | None = None,
        **policy: Any,
    ) -> None:
        self.symbol = symbol
        self.script = script or Script()
        self.facts: list[Fact] = []
        self.seq = 0
        self.engine = Engine(
            [("script", (symbol,), self.script)],
            usdt=to_e8(Decimal(str(usdt))),
            leverage=e12(leverage),
            policy=FillPolicy(
                order_latency=Latency(round(latency_ms * MS)),
                response_latency=Latency(round(response_ms * MS)),
                **policy,
            ),
            limits=limits,
        )
        self.account = self.engine.account
        self.view = self.engine.desked[0].view
        self.step(instrument or rules(symbol))
        self.step(fees(symbol))
        if start is not None:
            self.book(0, *start, snapshot=True, depth=depth)

    # --- what happens -----------------------------------------------------------------------

    def step(self, event: Event) -> list[Fact]:
        made = self.engine.step(event)
        self.facts += made
        return made

    def book(self, t: float, bids: str = "", asks: str = "", **how: Any) -> list[Fact]:
        how["seq"] = self._next_seq(how.get("seq"))
        return self.step(book(t, bids, asks, symbol=self.symbol, **how))

    def trade(self, t: float, side: str, price: object, qty: object, **how: Any) -> list[Fact]:
        how["seq"] = self._next_seq(how.get("seq"))
        return self.step(trade(t, side, price, qty, symbol=self.symbol, **how))

    def tick(self, t: float) -> list[Fact]:
        return self.step(Tick(round(t * MS), round(t * MS)))

    def gap(self, t: float) -> list[Fact]:
        return self.step(FeedDown(round(t * MS), self.symbol, "gap"))

    def command(self, t: float, name: Any) -> list[Fact]:
        return self.step(Command(round(t * MS), name, "test"))

    def ticker(self, t: float, **fields: object) -> list[Fact]:
        """``due`` is the next funding time in ms, ``rate`` and ``mark`` are decimals."""
        due: Any = fields.get("due")
        rate, mark = (
            None if fields.get(name) is None else Decimal(str(fields[name]))
            for name in ("rate", "mark")
        )
        ts = round(t * MS)
        due_ns = None if due is None else round(due * MS)
        return self.step(
            Ticker(ts, ts, self.symbol, mark=mark, funding_rate=rate, next_funding_ts=due_ns)
        )

    def finish(self) -> list[Fact]:
        made = self.engine.finish()
        self.facts += made
        return made

    def _next_seq(self, seq: int | None) -> int:
        """Without a ``seq``, later than all before."""
        seq = self.seq + 1 if seq is None else seq
        self.seq = max(self.seq, seq)
        return seq

    # --- what the strategy does -----------------------------------------------------------------

    def say(self, t: float, *decisions: Decision) -> list[Fact]:
        self.script.lines = list(decisions)
        return self.tick(t)

    def send(self, t: float, request: Order | Amend | Cancel) -> None:
        """Past the strategy and its risk, straight to the venue, as a command would."""
        self.engine._ts = round(t * MS)
        self.engine._order_directly(request, self.facts)

    def order(
        self,
        t: float,
        side: Any,
        qty: object,
        price: object = None,
        tif: Any = "GTC",
        *,
        reduce_only: bool = False,
    ) -> Order:
        kind: Any = "Market" if price is None else "Limit"
        tif = "IOC" if price is None and tif == "GTC" else tif
        limit = None if price is None else Decimal(str(price))
        return Order(
            round(t * MS), self.engine.ids.next(), "script", self.symbol, side, kind, tif,
            Decimal(str(qty)), limit, reduce_only,
        )  # fmt: skip

    def place(
        self, t: float, side: Any, qty: object, price: object = None, *a: Any, **k: Any
    ) -> int:
        """Send an order; returns its id."""
        order = self.order(t, side, qty, price, *a, **k)
        self.say(t, order)
        return order.id

    def amend(
        self, t: float, order_id: int, *, qty: object = None, price: object = None
    ) -> list[Fact]:
        new_price, new_qty = (None if x is None else Decimal(str(x)) for x in (price, qty))
        return self.say(t, Amend(round(t * MS), order_id, self.symbol, new_price, new_qty))

    def cancel(self, t: float, order_id: int) -> list[Fact]:
        return self.say(t, Cancel(round(t * MS), order_id, self.symbol))

    # --- what came of it -----------------------------------------------------------------------

    def fills(self) -> list[tuple[float, int, str, str, str]]:
        """(exchange ms, order id, price, quantity, cause) of every fill."""
        return [
            (f.exchange_ts / MS, f.order_id, str(f.price), str(f.qty), f.cause)
            for f in self.facts
            if type(f) is Fill
        ]

    def filled(self) -> list[tuple[float, str]]:
        """(exchange ms, quantity) of every fill."""
        return [(t, qty) for t, _, _, qty, _ in self.fills()]

    def ends(self) -> list[tuple[str, float, int, str]]:
        """(kind, exchange ms, order id, reason) of every rejection and cancellation."""
        return [
            (type(f).__name__, f.exchange_ts / MS, f.order_id, f.reason)
            for f in self.facts
            if type(f) in (Rejected, Cancelled)
        ]

    def made(self, kind: type) -> list[Any]:
        return [fact for fact in self.facts if type(fact) is kind]

    def resting(self, order_id: int) -> Any:
        found = self.engine.exchange._symbols[self.symbol].find(order_id)
        assert found is not None, f"order {order_id} does not rest"
        return found

    def ahead(self, order_id: int) -> float | None:
        """The queue ahead of a resting order, in coins."""
        ahead = self.resting(order_id).ahead
        return None if ahead is None else ahead / 10**12
