"""A client's account at the venue: core's exchange and account, and the records that it makes.

Orders are judged and matched by ``bot.core`` alone; what came of them is buffered as pushes,
which leave with the next step of the market, after the acknowledgement of the request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bot.core.account import Account
from bot.core.events import (
    E8,
    E12,
    Accepted,
    Amend,
    Cancel,
    Cancelled,
    Event,
    Fact,
    Fill,
    FundingPaid,
    Liquidated,
    Order,
    Rejected,
    StopType,
    Triggered,
)
from bot.core.exchange import Exchange
from bot.core.instrument import to_decimal, to_e12, value_of
from bot.core.market import Market
from bot.core.matching import FillPolicy
from bot.core.orders import OrderIds
from bot.venue.emulator.codes import TEXTS, Refused
from bot.venue.emulator.conditional import Exit, exit_words
from bot.venue.emulator.market import Market as SyntheticMarket
from bot.venue.emulator.records import (
    Fields,
    OrderRecord,
    execution,
    funding_execution,
    liquidation_execution,
    order_pushed,
    position_fields,
    position_pushed,
    stable_id,
)
from bot.venue.emulator.wallet import wallet_fields

CLOSED_KEPT = 1000
EXECUTIONS_KEPT = 5000
_MS = 1_000_000


class Push(Struct, frozen=True):
    """One message for the account's sockets; ``category`` is "" where a topic has none."""

    topic: str
    category: str
    data: list[Fields]


class Changes(Struct):
    """What one batch of facts did, in the order in which each topic tells it."""

    executions: list[Fields] = []
    orders: list[Fields] = []
    positions: dict[str, None] = {}
    wallet: bool = False


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
        self.orders: dict[int, OrderRecord] = {}
        self.closed: deque[OrderRecord] = deque(maxlen=CLOSED_KEPT)
        self.executions: deque[Fields] = deque(maxlen=EXECUTIONS_KEPT)
        self.touched_ms: dict[str, int] = {}
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
        self._take(facts)

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
        self.place(self._exit_record(order), ts)

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
        self._take(facts)

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
            self._take(facts)

    def end_step(self, ts: int) -> None:
        """Cancels asked for since the last step meet the market as it is now."""
        cancels, self._cancels = self._cancels, []
        for cancel in cancels:
            facts: list[Fact] = []
            self._exchange.submit(cancel, ts, facts)
            self._take(facts)

    def pushes(self) -> list[Push]:
        """What is to be told since the last call."""
        pushes, self._pushes = self._pushes, []
        return pushes

    # --- facts to records ----------------------------------------------------------------------

    def _take(self, facts: Sequence[Fact]) -> None:
        changes = Changes()
        for fact in facts:
            match fact:
                case Order():
                    self._made(fact, changes)
                case Accepted():
                    self._accepted(fact, changes)
                case Triggered():
                    self._triggered(fact, changes)
                case Fill():
                    self._filled(fact, changes)
                case Cancelled():
                    self._cancelled(fact, changes)
                case Rejected(request="order"):
                    self._refused(fact, changes)
                case Rejected():
                    self._cancel_too_late(fact, changes)
                case FundingPaid():
                    self._funded(fact, changes)
                case Liquidated():
                    self._liquidated(fact, changes)
                case _:
                    raise AssertionError(f"core's exchange made {fact!r}")
        self._pushes += self._told(changes)

    def _made(self, order: Order, changes: Changes) -> None:
        """The venue made an exit of a position."""
        self.orders[order.id] = self._exit_record(order)
        changes.positions[order.symbol] = None

    def _exit_record(self, order: Order) -> OrderRecord:
        market = self._synthetic.symbols[order.symbol]
        created_ms = order.ts // _MS
        order_id = stable_id(market.listing, self.key, order.id)
        return OrderRecord(
            order, order_id, "", market.listing, 0, to_e12(order.qty), created_ms, created_ms,
            status="Untriggered", last_price=market.listing.price(market.last),
        )  # fmt: skip

    def _triggered(self, fact: Triggered, changes: Changes) -> None:
        record = self.orders[fact.order_id]
        record.status = "Triggered"
        self._changed(record, fact.exchange_ts, changes)

    def _refused(self, fact: Rejected, changes: Changes) -> None:
        """An order whose trigger has come does not go in."""
        record = self.orders[fact.order_id]
        record.status, record.reject_reason = "Rejected", "EC_Others"
        self._changed(record, fact.exchange_ts, changes)

    def _accepted(self, fact: Accepted, changes: Changes) -> None:
        record = self.orders[fact.order_id]
        if record.status == "Triggered":
            record.status = "New"
        record.qty = to_e12(fact.qty)
        if fact.price is not None and record.order.order_type == "Limit":
            record.price = to_e12(fact.price)
        self._changed(record, fact.exchange_ts, changes)

    def _filled(self, fact: Fill, changes: Changes) -> None:
        record = self.orders[fact.order_id]
        qty = to_e12(fact.qty)
        record.filled += qty
        record.value += value_of(to_e12(fact.price), qty)
        paid = record.fees.get(fact.fee_coin, Decimal(0))
        record.fees = record.fees | {fact.fee_coin: paid + fact.fee}
        record.closed_pnl += fact.realized_pnl
        record.status = "PartiallyFilled" if record.qty > record.filled else "Filled"
        fees = self._market.fees[record.listing.category]
        rate = fees.maker_rate if fact.maker else fees.taker_rate
        market = self._synthetic.symbols[fact.symbol]
        told = execution(record, fact, market, rate)
        self.executions.appendleft(told)
        changes.executions.append(told)
        self._changed(record, fact.exchange_ts, changes)
        self.touched_ms[fact.symbol] = fact.exchange_ts // _MS
        if record.listing.category == "linear":
            changes.positions[fact.symbol] = None
        changes.wallet = True

    def _cancelled(self, fact: Cancelled, changes: Changes) -> None:
        record = self.orders[fact.order_id]
        partly_spot = record.listing.category == "spot" and record.filled
        if record.status == "Untriggered":
            record.status = "Deactivated"
        else:
            record.status = "PartiallyFilledCanceled" if partly_spot else "Cancelled"
        if fact.reason == "EC_PerCancelRequest":
            if record.cancel_type != "CancelBySmp":
                record.cancel_type, record.reject_reason = "CancelByUser", fact.reason
        elif fact.reason.startswith("EC_"):
            record.reject_reason = fact.reason
        else:
            record.cancel_type = fact.reason
        self._changed(record, fact.exchange_ts, changes)

    def _cancel_too_late(self, fact: Rejected, changes: Changes) -> None:
        """The order was executed while its cancel was under way: Bybit tells of it twice."""
        record = next((each for each in self.closed if each.order.id == fact.order_id), None)
        if record is not None and record.status == "Filled":
            told = order_pushed(record)
            told |= {
                "cancelType": "CancelByUser",
                "rejectReason": "EC_OrigClOrdIDDoesNotExist",
                "updatedTime": str(fact.exchange_ts // _MS),
            }
            changes.orders.append(told)

    def _funded(self, fact: FundingPaid, changes: Changes) -> None:
        market = self._synthetic.symbols[fact.symbol]
        told = funding_execution(market.listing, fact, market.seq)
        self.executions.appendleft(told)
        changes.executions.append(told)
        changes.positions[fact.symbol] = None
        changes.wallet = True

    def _liquidated(self, fact: Liquidated, changes: Changes) -> None:
        market = self._synthetic.symbols[fact.symbol]
        told = liquidation_execution(market.listing, fact, market.seq)
        self.executions.appendleft(told)
        changes.executions.append(told)
        changes.positions[fact.symbol] = None
        changes.wallet = True

    def _changed(self, record: OrderRecord, exchange_ts: int, changes: Changes) -> None:
        record.updated_ms = max(record.created_ms, exchange_ts // _MS)
        changes.orders.append(order_pushed(record))
        changes.wallet |= record.order.order_type == "Limit"  # it holds or frees margin
        if record.order.stop_type is not None:
            changes.positions[record.order.symbol] = None
        if not record.is_open:
            del self.orders[record.order.id]
            self.closed.appendleft(record)

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
        updated_ms = self.touched_ms.get(symbol, 0)
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
