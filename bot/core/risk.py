"""The last word before an order leaves: limits, daily and lasting stops, and a switch.

Every refusal carries a stable code from ``Reason``; ``docs/risk.md`` explains each. A cancel always
passes. While the state is ``reducing`` only orders that make a position smaller pass; ``halted``
lets nothing through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from msgspec import Struct

from bot.core.account import Account
from bot.core.events import (
    E8,
    E12,
    Amend,
    Cancel,
    Command,
    Decision,
    Fill,
    Liquidated,
    Order,
    Refusal,
    Side,
    Signal,
)
from bot.core.instrument import UNIT, to_e12, value_of
from bot.core.market import Listing, Market
from bot.core.results import Results, RiskLimits, over
from bot.core.strategy import Desk, OpenOrder

__all__ = ["Found", "Reason", "Risk", "RiskLimits", "Scope", "State"]

Reason: TypeAlias = Literal[
    "RISK_PAUSED",  # trading is paused (warm-up, or by command); reducing orders pass
    "RISK_HALTED",  # the kill switch is on
    "RISK_NO_PRICE",  # the book is down and no mark is known, or the symbol has no rules
    "RISK_QUANTITY",  # the quantity is zero, or an amended order is not known
    "RISK_ORDER_SIZE",  # one order is worth too much
    "RISK_POSITION",  # position and open orders together would be worth too much
    "RISK_TOTAL",  # all positions and open orders together would be worth too much
    "RISK_ORDER_RATE",  # too many orders in a second
    "RISK_OPEN_ORDERS",  # too many open orders
    "RISK_PRICE",  # the limit price is too far from the market
    "RISK_STALE_DATA",  # the symbol's feed has not been heard for too long
    "RISK_PREDICTION",  # a model's newest prediction for the symbol came too late, or not at all
    "RISK_DAILY_LOSS",  # the day's loss has reached its limit; reducing orders pass
    "RISK_DRAWDOWN",  # the fall from the highest equity has reached its limit, until `resume`
    "RISK_LOSSES",  # too many losing trades one after the other, until `resume` or the next day
]
State: TypeAlias = Literal["active", "reducing", "halted"]
Found: TypeAlias = tuple[Reason, str]

_ALWAYS_PASS = (Cancel, Signal)
_DAY_NS = 86_400 * 10**9
_SECOND_NS = 10**9


class Request(Struct, frozen=True, gc=False):
    """What an order or amendment asks for; ``reach`` is the position that it could lead to."""

    ts: int
    symbol: str
    side: Side
    qty: E12
    limit: E12 | None
    price: E12
    replaces: OpenOrder | None


class Scope:
    """Limits with what they are about: the whole account, or one strategy's part."""

    def __init__(self, limits: RiskLimits, desks: tuple[Desk, ...], results: Results) -> None:
        self.limits = limits
        self.desks = desks
        self.results = results
        self._sent_ns: deque[int] = deque()

    def sent(self, ts: int) -> None:
        self._sent_ns.append(ts)

    def too_fast(self, ts: int) -> Found | None:
        sent, most = self._sent_ns, self.limits.max_orders_per_s
        while sent and sent[0] <= ts - _SECOND_NS:
            sent.popleft()
        if len(sent) < most:
            return None
        return "RISK_ORDER_RATE", f"{len(sent)} in a second, limit {most}"

    def waiting(self, symbol: str, side: Side, replaces: OpenOrder | None) -> E12:
        """What open orders of this side may still add."""
        waiting = 0
        for desk in self.desks:
            for order in desk.orders.values():
                if order.side == side and order.symbol == symbol and not order.reduce_only:
                    waiting += 0 if order is replaces else order.leaves_e12
        return waiting

    def judge(self, request: Request, held: E12, market: Market) -> Found | None:
        """The limits that an order which may enlarge or turn a position can meet."""
        limits = self.limits
        value = value_of(request.price, request.qty)
        if value > limits.max_order_notional:
            return "RISK_ORDER_SIZE", over(value, limits.max_order_notional)
        waiting = self.waiting(request.symbol, request.side, request.replaces)
        against = -held if request.side == "Buy" else held
        exposure = value_of(request.price, abs(waiting + request.qty - against))
        if exposure > limits.max_position_notional:
            return "RISK_POSITION", over(exposure, limits.max_position_notional)
        if limits.max_total_notional:
            total = exposure + self._elsewhere(request.symbol, market)
            if total > limits.max_total_notional:
                return "RISK_TOTAL", over(total, limits.max_total_notional)
        found = self.results.judge(limits)
        if found is not None:
            return found
        if request.replaces is None:
            count = 0
            for desk in self.desks:
                count += len(desk.orders)
            if count >= limits.max_open_orders:
                return "RISK_OPEN_ORDERS", f"{count} open, limit {limits.max_open_orders}"
        return None

    def _elsewhere(self, symbol: str, market: Market) -> E8:
        """What positions and the larger side of the open orders in other symbols are worth."""
        total = 0
        symbols = {order.symbol for desk in self.desks for order in desk.orders.values()}
        for name in sorted(symbols.union(self.results.symbols()) - {symbol}):
            held, price = self.results.held(name), market.listing(name).value_price
            buys, sells = self.waiting(name, "Buy", None), self.waiting(name, "Sell", None)
            total += value_of(price, max(abs(held + buys), abs(held - sells)))
        return total


class Risk:
    """Judges decisions; changed by commands, by time, by results and by what it lets pass."""

    def __init__(
        self,
        limits: RiskLimits,
        market: Market,
        account: Account,
        desks: Mapping[str, Desk],
        of_strategy: Mapping[str, RiskLimits] = MappingProxyType({}),
    ) -> None:
        self.state: State = "active"
        self.day_end_ns = 0
        self._market = market
        self._account = account
        self._limits = limits
        self._desks = tuple(desks.values())
        self.total = Scope(limits, self._desks, Results(market, account))
        self._scopes = {
            name: Scope(each, (desks[name],), Results(market)) for name, each in of_strategy.items()
        }

    def start_day(self, ts: int) -> None:
        """A UTC day begins (by local time): the daily loss counts from here."""
        self.day_end_ns = (ts // _DAY_NS + 1) * _DAY_NS
        for scope in (self.total, *self._scopes.values()):
            scope.results.start_day()

    def hear(self, fill: Fill) -> None:
        """A fill changes what the limits on losses look at."""
        self.total.results.count(fill)
        scope = self._scopes.get(fill.strategy)
        if scope is not None:
            scope.results.fill(fill)

    def hear_liquidation(self, fact: Liquidated) -> None:
        for scope in (self.total, *self._scopes.values()):
            scope.results.liquidated(fact)

    def command(self, command: Command) -> None:
        """Pause, resume, stop, or the kill switch; only ``resume`` ends a pause, nothing a halt."""
        if command.name in ("halt", "flatten"):
            self.state = "halted"
        elif self.state != "halted" and command.name in ("pause", "stop"):
            self.state = "reducing"
        elif command.name == "resume":
            for scope in (self.total, *self._scopes.values()):
                scope.results.forgive()
            if self.state == "reducing":
                self.state = "active"

    def check(self, decision: Decision, strategy: str) -> Refusal | None:
        """None if the decision may go, else why not."""
        if isinstance(decision, _ALWAYS_PASS):
            return None
        scope = self._scopes.get(strategy)
        if isinstance(decision, Order):
            order_id, found = decision.id, self._order(decision, scope)
        else:
            order_id, found = decision.order_id, self._amend(decision, scope)
        if found is None:
            self.total.sent(decision.ts)
            if scope is not None:
                scope.sent(decision.ts)
            return None
        reason, detail = found
        return Refusal(decision.ts, order_id, strategy, decision.symbol, reason, detail)

    def _order(self, order: Order, scope: Scope | None) -> Found | None:
        price = to_e12(order.price) if order.price is not None else None
        if price is None and order.trigger_price is not None:
            price = to_e12(order.trigger_price)
        return self._judge(
            order.ts, order.symbol, order.side, to_e12(order.qty), price, order.reduce_only, None,
            scope,
        )  # fmt: skip

    def _amend(self, amend: Amend, scope: Scope | None) -> Found | None:
        known = next((d.orders[amend.order_id] for d in self._desks if amend.order_id in d.orders),
                     None)  # fmt: skip
        if known is None:
            return "RISK_QUANTITY", f"order {amend.order_id} is not open"
        qty = known.leaves_e12
        if amend.qty is not None:
            qty += to_e12(amend.qty) - known.qty_e12
        price = known.price_e12 if amend.price is None else to_e12(amend.price)
        reduce_only = known.reduce_only
        return self._judge(amend.ts, amend.symbol, known.side, qty, price, reduce_only, known,
                           scope)  # fmt: skip

    def _judge(
        self,
        ts: int,
        symbol: str,
        side: Side,
        qty: E12,
        limit: E12 | None,
        reduce_only: bool,
        replaces: OpenOrder | None,
        scope: Scope | None,
    ) -> Found | None:
        """The limits, most fundamental first."""
        if self.state == "halted":
            return "RISK_HALTED", "the kill switch is on"
        if qty <= 0:
            return "RISK_QUANTITY", "the quantity rounds to zero"
        listing = self._market.listing(symbol)
        price = limit or 0
        if not limit or side == "Sell":  # A sell fills at the market where that is better.
            price = max(price, listing.value_price)
        if not price or listing.rules is None:
            return "RISK_NO_PRICE", f"no price or no rules are known for {symbol}"
        too_fast = self.total.too_fast(ts) or (scope and scope.too_fast(ts))
        if too_fast:
            return too_fast
        held = self._account.qty(symbol)
        against = -held if side == "Buy" else held
        if reduce_only or (
            against > 0 and self.total.waiting(symbol, side, replaces) + qty <= against
        ):
            return None
        if self.state == "reducing":
            return "RISK_PAUSED", "trading is paused"
        request = Request(ts, symbol, side, qty, limit, price, replaces)
        found = self._unfit(request, listing) or self.total.judge(request, held, self._market)
        if found is None and scope is not None:
            return scope.judge(request, scope.results.held(symbol), self._market)
        return found

    def _unfit(self, request: Request, listing: Listing) -> Found | None:
        """Whether what the order was decided on, or its price, is out of touch with the market."""
        limits, now = self._limits, request.ts - self._market.offset_ns
        if limits.max_price_deviation and request.limit:
            market = listing.mid_e12 or listing.mark
            if abs(request.limit - market) * UNIT > market * limits.max_price_deviation:
                share = abs(request.limit - market) / market if market else 0
                most = limits.max_price_deviation / UNIT
                return "RISK_PRICE", f"{share:.2%} from the market, limit {most:.2%}"
        if limits.max_data_age_ns and now - listing.clock_ns > limits.max_data_age_ns:
            age_s = (now - listing.clock_ns) / 1e9
            return "RISK_STALE_DATA", f"{request.symbol} was last heard of {age_s:.1f} s ago"
        if limits.max_prediction_age:
            return self._late(request, listing)
        return None

    def _late(self, request: Request, listing: Listing) -> Found | None:
        """A model that has predicted the symbol and is silent, or behind, beyond its horizons."""
        most = self._limits.max_prediction_age
        for model, prediction in listing.predictions.items():
            if not prediction.horizons:
                continue
            horizon_ns = max(each.horizon_ns for each in prediction.horizons)
            age_ns = request.ts - prediction.read_ts
            if age_ns * UNIT > horizon_ns * most:
                return "RISK_PREDICTION", f"{model} read its last input {age_ns / 1e9:.1f} s ago"
        return None
