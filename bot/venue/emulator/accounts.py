"""A client's account at the venue: core's exchange and account, and the records that it makes.

Orders are judged and matched by ``bot.core`` alone; what came of them is buffered as pushes,
which leave with the next step of the market, after the acknowledgement of the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bot.core.account import Account
from bot.core.events import (
    E8,
    E12,
    Amend,
    Cancel,
    Event,
    Fact,
    Order,
    Rejected,
    StopType,
)
from bot.core.exchange import Exchange
from bot.core.instrument import to_decimal
from bot.core.market import Market
from bot.core.matching import FillPolicy
from bot.core.orders import OrderIds
from bot.venue.emulator.codes import TEXTS, Refused
from bot.venue.emulator.conditional import Exit, exit_words
from bot.venue.emulator.market import Market as SyntheticMarket
from bot.venue.emulator.outcomes import Changes, Outcomes
from bot.venue.emulator.records import (
    Fields,
    OrderRecord,
    order_pushed,
    position_fields,
    position_pushed,
)
from bot.venue.emulator.wallet import wallet_fields


class Push(Struct, frozen=True):
    """One message for the account's sockets; ``category`` is "" where a topic has none."""

    topic: str
    category: str
    data: list[Fields]


class TradingAccount:
    """One API key's. The core market is shared by all accounts and moved by their owner."""

    def __init__(
        self,
        key: str,
        market: Market,
        synthetic: SyntheticMarket,
        usdt: E8,
        leverage: E12,
        ids: OrderIds,
    ) -> None:
        self.key = key
        self.core = Account(market, usdt, leverage)
        self._outcomes = Outcomes(key, market, synthetic)
        self.orders = self._outcomes.orders
        self.closed = self._outcomes.closed
        self.executions = self._outcomes.executions
        self._market = market
        self._synthetic = synthetic
        self._exchange = Exchange(market, self.core, FillPolicy(), ids)
        self._pushes: list[Push] = []
        self._cancels: list[Cancel] = []

    def moves_prices(self, moves: bool) -> None:
        """Whether a futures price beyond its limit is moved there, Bybit's default, or refused."""
        self._exchange.admission.beyond_limit = "move" if moves else "reject"

    # --- requests ------------------------------------------------------------------------------

    def place(self, record: OrderRecord, ts: int) -> None:
        """Let an order in. Raises Refused with Bybit's code if core does not take it."""
        facts: list[Fact] = []
        self.orders[record.order.id] = record
        self._exchange.submit(record.order, ts, facts)
        refused = _refusal(facts, record.order.id)
        if refused is not None:
            del self.orders[record.order.id]
            raise refused
        self._tell(facts)

    def place_exit(self, symbol: str, kind: StopType, wanted: Exit, order_id: int, ts: int) -> None:
        """Let an exit of the position wait, in place of the one of its kind. Raises Refused."""
        held = self.core.qty(symbol)
        order = Order(
            ts, order_id, self.key, symbol, "Sell" if held > 0 else "Buy", "Market", "IOC",
            to_decimal(abs(held)), reduce_only=True, trigger_price=wanted.price,
            trigger_by=wanted.by,
            trigger_direction="rise" if (held > 0) == (kind == "TakeProfit") else "fall",
            stop_type=kind,
        )  # fmt: skip
        self.place(self._outcomes.exit_record(order), ts)

    def amend(self, amend: Amend, ts: int) -> None:
        """Change an open order. Raises Refused."""
        facts: list[Fact] = []
        self._exchange.submit(amend, ts, facts)
        refused = _refusal(facts, amend.order_id)
        if refused is not None:
            raise refused
        if amend.trigger_price is not None:
            record = self.orders[amend.order_id]
            record.order = replace(record.order, trigger_price=amend.trigger_price)
        self._tell(facts)

    def stops_self_match(self, record: OrderRecord) -> bool:
        """Cancel own orders that ``record`` would meet, as its ``smpType`` says.

        Returns whether the order itself must not go in, either.
        https://bybit-exchange.github.io/docs/v5/smp
        """
        if record.smp_type == "None" or not record.is_resting:
            return False
        met = [resting for resting in self.orders.values() if _meet(record, resting)]
        if record.smp_type in ("CancelMaker", "CancelBoth"):
            for resting in met:
                resting.cancel_type, resting.reject_reason = "CancelBySmp", "EC_BySelfMatch"
                self.cancel(resting, record.order.ts)
        return bool(met) and record.smp_type != "CancelMaker"

    def refuse_self_match(self, record: OrderRecord) -> None:
        """The order is taken and cancelled in the same breath."""
        record.status = "Cancelled"
        record.cancel_type, record.reject_reason = "CancelBySmp", "EC_BySelfMatch"
        self.closed.appendleft(record)
        category = record.listing.category
        self._pushes.append(Push("order", category, [order_pushed(record)]))

    def cancel(self, record: OrderRecord, ts: int) -> None:
        """Ask for a cancel; the market may be faster, until its next step."""
        record.is_cancelling = True
        self._cancels.append(Cancel(ts, record.order.id, record.listing.symbol))

    # --- the market moves ----------------------------------------------------------------------

    def before(self, event: Event, facts: list[Fact]) -> None:
        """What is due before the market takes in ``event``, as in core's engine."""
        self._exchange.before(event, facts)

    def after(self, event: Event, facts: list[Fact]) -> None:
        """Resting orders against ``event``, and what came of it."""
        self._exchange.after(event, facts)
        if facts:
            self._tell(facts)

    def end_step(self, ts: int) -> None:
        """Cancels asked for since the last step meet the market as it is now."""
        cancels, self._cancels = self._cancels, []
        for cancel in cancels:
            facts: list[Fact] = []
            self._exchange.submit(cancel, ts, facts)
            self._tell(facts)

    def pushes(self) -> list[Push]:
        """What is to be told since the last call."""
        pushes, self._pushes = self._pushes, []
        return pushes

    # --- what is told --------------------------------------------------------------------------

    def _tell(self, facts: Sequence[Fact]) -> None:
        self._pushes += self._told(self._outcomes.take(facts))

    def _told(self, changes: Changes) -> Iterator[Push]:
        """Bybit's order of topics is not fixed; ours is."""
        for topic, entries in (("execution", changes.executions), ("order", changes.orders)):
            for category in ("linear", "spot"):
                data = [fields for fields in entries if fields["category"] == category]
                if data:
                    yield Push(topic, category, data)
        if changes.positions:
            positions = [position_pushed(self.position(symbol)) for symbol in changes.positions]
            yield Push("position", "linear", positions)
        if changes.wallet:
            yield Push("wallet", "", [self.wallet()])

    # --- what there is -------------------------------------------------------------------------

    def position(self, symbol: str) -> Fields:
        market = self._synthetic.symbols[symbol]
        updated_ms = self._outcomes.touched_ms.get(symbol, 0)
        fields = position_fields(market, self.core, self.core.position(symbol), updated_ms)
        exits = [record.order for record in self.exits(symbol)]
        return fields | exit_words(exits, market.listing)

    def exits(self, symbol: str) -> list[OrderRecord]:
        """What waits to close the position of ``symbol``."""
        return [
            record
            for record in self.orders.values()
            if record.order.symbol == symbol
            and record.order.stop_type is not None
            and record.status == "Untriggered"
        ]

    def wallet(self) -> Fields:
        resting = [record for record in self.orders.values() if record.is_resting]
        return wallet_fields(self.core, self._market, resting)

    def find(self, order_id: str, link_id: str) -> OrderRecord | None:
        """An order, open or closed, by either id; the order id counts first."""
        for record in (*self.orders.values(), *self.closed):
            if record.order_id == order_id if order_id else record.link_id == link_id:
                return record
        return None


def _meet(taker: OrderRecord, resting: OrderRecord) -> bool:
    """Whether two orders of one account would trade with each other."""
    if taker.listing != resting.listing or taker.order.side == resting.order.side:
        return False
    if not resting.is_resting:
        return False
    if not taker.price:
        return True
    buys = taker.order.side == "Buy"
    return taker.price >= resting.price if buys else taker.price <= resting.price


def _refusal(facts: Sequence[Any], order_id: int) -> Refused | None:
    for fact in facts:
        if type(fact) is Rejected and fact.order_id == order_id:
            code = int(fact.reason)
            text = TEXTS[code]
            if fact.request == "amend" and code == 110001:
                text = "order not exists or too late to replace"
            return Refused(code, text)
    return None
