"""The last word before an order leaves: limits, a daily stop, and a switch.

Every refusal carries a stable code from ``Reason``. A cancel always passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal, TypeAlias

from msgspec import Struct

from bot.core.account import Account
from bot.core.events import E8, E12, Amend, Cancel, Command, Decision, Order, Refusal, Side, Signal
from bot.core.instrument import amount, to_e12, value_of
from bot.core.market import Market
from bot.core.strategy import Desk, OpenOrder

Reason: TypeAlias = Literal[
    "RISK_PAUSED",  # trading is paused (warm-up, or by command); reducing orders pass
    "RISK_HALTED",  # the kill switch is on
    "RISK_NO_PRICE",  # the book is down and no mark is known, or the symbol has no rules
    "RISK_QUANTITY",  # the quantity is zero, or an amended order is not known
    "RISK_ORDER_SIZE",  # one order is worth too much
    "RISK_POSITION",  # position and open orders together would be worth too much
    "RISK_ORDER_RATE",  # too many orders in a second
    "RISK_OPEN_ORDERS",  # too many open orders
    "RISK_DAILY_LOSS",  # the day's loss has reached its limit; reducing orders pass
]
State: TypeAlias = Literal["active", "paused", "halted"]

_ALWAYS_PASS = (Cancel, Signal)
_DAY_NS = 86_400 * 10**9
_SECOND_NS = 10**9


class RiskLimits(Struct, frozen=True):
    """Amounts are in USDT, in units of 1e-8."""

    max_position_notional: E8
    max_order_notional: E8
    max_daily_loss: E8
    max_orders_per_s: int
    max_open_orders: int


class Risk:
    """Judges decisions; changed by commands, by time, and by what it lets pass."""

    def __init__(
        self, limits: RiskLimits, market: Market, account: Account, desks: Iterable[Desk]
    ) -> None:
        self.state: State = "active"
        self.day_end_ns = 0
        self._limits = limits
        self._market = market
        self._account = account
        self._desks = tuple(desks)
        self._sent_ns: deque[int] = deque()
        self._day_equity: E8 = 0

    def start_day(self, ts: int) -> None:
        """A UTC day begins (by local time): the daily loss counts from here."""
        self.day_end_ns = (ts // _DAY_NS + 1) * _DAY_NS
        self._day_equity = self._account.equity()

    def command(self, command: Command) -> None:
        """Pause, resume, stop, or the kill switch; only ``resume`` ends a pause, nothing a halt."""
        if command.name in ("halt", "flatten"):
            self.state = "halted"
        elif self.state != "halted" and command.name in ("pause", "stop"):
            self.state = "paused"
        elif self.state == "paused" and command.name == "resume":
            self.state = "active"

    def check(self, decision: Decision, strategy: str) -> Refusal | None:
        """None if the decision may go, else why not."""
        if isinstance(decision, _ALWAYS_PASS):
            return None
        if isinstance(decision, Order):
            order_id, found = decision.id, self._order(decision)
        else:
            order_id, found = decision.order_id, self._amend(decision)
        if found is None:
            self._sent_ns.append(decision.ts)
            return None
        reason, detail = found
        return Refusal(decision.ts, order_id, strategy, decision.symbol, reason, detail)

    def _order(self, order: Order) -> tuple[Reason, str] | None:
        price = to_e12(order.price) if order.price is not None else None
        return self._judge(
            order.ts, order.symbol, order.side, to_e12(order.qty), price, order.reduce_only, None
        )

    def _amend(self, amend: Amend) -> tuple[Reason, str] | None:
        known = next((d.orders[amend.order_id] for d in self._desks if amend.order_id in d.orders),
                     None)  # fmt: skip
        if known is None:
            return "RISK_QUANTITY", f"order {amend.order_id} is not open"
        qty = known.leaves_e12
        if amend.qty is not None:
            qty += to_e12(amend.qty) - known.qty_e12
        price = known.price_e12 if amend.price is None else to_e12(amend.price)
        reduce_only = known.reduce_only
        return self._judge(amend.ts, amend.symbol, known.side, qty, price, reduce_only, known)

    def _judge(
        self,
        ts: int,
        symbol: str,
        side: Side,
        qty: E12,
        limit: E12 | None,
        reduce_only: bool,
        replaces: OpenOrder | None,
    ) -> tuple[Reason, str] | None:
        """The limits, most fundamental first."""
        if self.state == "halted":
            return "RISK_HALTED", "the kill switch is on"
        if qty <= 0:
            return "RISK_QUANTITY", "the quantity rounds to zero"
        listing = self._market.listing(symbol)
        price_now = listing.value_price
        price = limit or price_now
        if side == "Sell" and price_now > price:
            price = price_now  # It fills at the market where that is better than its limit.
        if not price or listing.rules is None:
            return "RISK_NO_PRICE", f"no price or no rules are known for {symbol}"
        too_fast = self._too_fast(ts)
        if too_fast is not None:
            return too_fast
        held = self._account.qty(symbol)
        waiting = self._waiting(symbol, side, replaces)
        against = -held if side == "Buy" else held
        if reduce_only or waiting + qty <= against:
            return None
        reach = abs(waiting + qty - against)
        return self._judge_growth(price, qty, reach, is_new=replaces is None)

    def _judge_growth(
        self, price: E12, qty: E12, reach: E12, *, is_new: bool
    ) -> tuple[Reason, str] | None:
        """Limits that only an order that may enlarge or turn the position can meet."""
        limits = self._limits
        if self.state == "paused":
            return "RISK_PAUSED", "trading is paused"
        value = value_of(price, qty)
        if value > limits.max_order_notional:
            return "RISK_ORDER_SIZE", _over(value, limits.max_order_notional)
        exposure = value_of(price, reach)
        if exposure > limits.max_position_notional:
            return "RISK_POSITION", _over(exposure, limits.max_position_notional)
        loss = self._day_equity - self._account.equity()
        if loss >= limits.max_daily_loss:
            return "RISK_DAILY_LOSS", _over(loss, limits.max_daily_loss)
        count = sum(len(desk.orders) for desk in self._desks)
        if is_new and count >= limits.max_open_orders:
            return "RISK_OPEN_ORDERS", f"{count} open, limit {limits.max_open_orders}"
        return None

    def _too_fast(self, ts: int) -> tuple[Reason, str] | None:
        sent = self._sent_ns
        while sent and sent[0] <= ts - _SECOND_NS:
            sent.popleft()
        if len(sent) < self._limits.max_orders_per_s:
            return None
        return "RISK_ORDER_RATE", f"{len(sent)} in a second, limit {self._limits.max_orders_per_s}"

    def _waiting(self, symbol: str, side: Side, replaces: OpenOrder | None) -> E12:
        """What our open orders of this side may still add."""
        return sum(
            order.leaves_e12
            for desk in self._desks
            for order in desk.orders.values()
            if order.symbol == symbol
            and order.side == side
            and not order.reduce_only
            and order is not replaces
        )


def _over(value: E8, limit: E8) -> str:
    return f"{amount(value):.2f} USDT, limit {amount(limit):.2f}"
