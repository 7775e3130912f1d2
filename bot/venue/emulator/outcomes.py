"""What came of an account's orders: core's facts into the records that its owner is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

from bot.core.events import (
    Accepted,
    Cancelled,
    Fact,
    Fill,
    FundingPaid,
    Liquidated,
    Order,
    Rejected,
    Triggered,
)
from bot.core.instrument import to_e12, value_of
from bot.core.market import Market
from bot.venue.emulator.market import Market as SyntheticMarket
from bot.venue.emulator.records import (
    Fields,
    OrderRecord,
    execution,
    funding_execution,
    liquidation_execution,
    order_pushed,
    stable_id,
)

CLOSED_KEPT = 1000
EXECUTIONS_KEPT = 5000
_MS = 1_000_000


class Changes(Struct):
    """What one batch of facts did, in the order in which each topic tells it."""

    executions: list[Fields] = []
    orders: list[Fields] = []
    positions: dict[str, None] = {}
    wallet: bool = False


class Outcomes:
    """One account's orders, open and closed, and executions."""

    def __init__(self, key: str, market: Market, synthetic: SyntheticMarket) -> None:
        self.orders: dict[int, OrderRecord] = {}
        self.closed: deque[OrderRecord] = deque(maxlen=CLOSED_KEPT)
        self.executions: deque[Fields] = deque(maxlen=EXECUTIONS_KEPT)
        self.touched_ms: dict[str, int] = {}
        self._key = key
        self._market = market
        self._synthetic = synthetic

    def take(self, facts: Sequence[Fact]) -> Changes:
        """Bring the records up to date; returns what is to be told."""
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
        return changes

    def exit_record(self, order: Order) -> OrderRecord:
        """A new exit of a position."""
        market = self._synthetic.symbols[order.symbol]
        created_ms = order.ts // _MS
        order_id = stable_id(market.listing, self._key, order.id)
        return OrderRecord(
            order, order_id, "", market.listing, 0, to_e12(order.qty), created_ms, created_ms,
            status="Untriggered", last_price=market.listing.price(market.last),
        )  # fmt: skip

    def _made(self, order: Order, changes: Changes) -> None:
        """The venue made an exit of a position."""
        self.orders[order.id] = self.exit_record(order)
        changes.positions[order.symbol] = None

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
