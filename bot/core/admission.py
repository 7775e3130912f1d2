"""Whether the venue takes an order or an amendment: its rules, limits and margin, on arrival."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec.structs import replace

from bot.core import price_limits, stops
from bot.core.account import Account
from bot.core.events import E8, E12, Order
from bot.core.instrument import UNIT, to_decimal, to_e12, value_of
from bot.core.margin import most_value
from bot.core.orders import SymbolOrders
from bot.core.queue import Resting

MAX_ACTIVE_ORDERS = 500
"""Bybit's limit per linear symbol, and for all spot symbols together, https://bybit-exchange.github.io/docs/v5/order/create-order."""


class Admission:
    """The venue's door. ``market_slippage`` bounds a market order from the best price.

    ``beyond_limit`` is what happens to a futures price beyond its limit, and may be changed.
    """

    def __init__(
        self,
        account: Account,
        symbols: Mapping[str, SymbolOrders],
        market_slippage: E12,
        beyond_limit: Literal["move", "reject"],
    ) -> None:
        self._account = account
        self._symbols = symbols
        self._slippage = market_slippage
        self.beyond_limit = beyond_limit

    def within_limits(self, orders: SymbolOrders, order: Order) -> tuple[Order, str | None]:
        """The order, its price moved to the limit if it is beyond, or Bybit's code.

        Futures are moved by default, spot is always rejected.
        https://bybit-exchange.github.io/docs/v5/account/set-price-limit
        """
        listing = orders.listing
        if order.price is None or order.order_type == "Market" or listing.rules is None:
            return order, None
        if not listing.rules.price_limit_y:
            return order, None
        limit = price_limits.limit_of(
            listing.rules,
            order.side,
            mark=listing.mark,
            index=listing.index,
            premium=listing.premium.mean,
            last=listing.last_price,
        )
        price = to_e12(order.price)
        if limit is None or (price <= limit if order.side == "Buy" else price >= limit):
            return order, None
        if not listing.rules.is_linear:
            return order, "170193" if order.side == "Buy" else "170194"
        if self.beyond_limit == "reject":
            return order, "110003"
        return replace(order, price=to_decimal(limit)), None

    def refuse_conditional(
        self, orders: SymbolOrders, order: Order, *, is_new: bool = True
    ) -> str | None:
        """Bybit's code for a conditional order that it would not let wait, or None.

        Margin and reduce-only are judged when it is triggered.
        """
        rules = orders.listing.rules
        if rules is None:
            return "10029"
        reason = rules.refuse(order, 0)
        if reason is not None:
            return reason
        if order.stop_type is not None and not self._closes(order):
            return "110017"
        category = (
            [each for each in self._symbols.values() if not _is_linear(each)]
            if not rules.is_linear
            else [orders]
        )
        waiting = sum(
            each.order.stop_type is None for some in category for each in some.conditional()
        )
        return stops.refuse(orders.listing, order, waiting if is_new else 0)

    def _closes(self, order: Order) -> bool:
        held = self._account.qty(order.symbol)
        return held < 0 if order.side == "Buy" else held > 0

    def refuse(
        self, orders: SymbolOrders, order: Order, replaces: Resting | None = None
    ) -> str | None:
        """Bybit's code for an order that it would not take, or None.

        An amendment is judged as the order that it makes, in place of the one it ``replaces``.
        https://bybit-exchange.github.io/docs/v5/error
        """
        rules = orders.listing.rules
        if rules is None:
            return "10029"
        price_now = orders.listing.value_price if order.price is None else 0
        reason = rules.refuse(order, price_now)
        if reason is not None:
            return reason
        if replaces is None and self._is_full(orders, is_linear=rules.is_linear):
            return "110020" if rules.is_linear else "170810"
        if order.take_profit is not None or order.stop_loss is not None:
            reason = stops.refuse(orders.listing, replace(order, trigger_price=None), 0)
            if reason is not None:
                return reason
        held = self._account.qty(order.symbol)
        opposite = held < 0 if order.side == "Buy" else held > 0
        if order.reduce_only and not opposite:
            return "110017"
        qty = to_e12(order.qty)
        if replaces is not None:
            qty -= replaces.qty - replaces.leaves
        if not rules.is_linear and order.side == "Sell":
            offered = sum(each.leaves for each in orders.sells if each is not replaces)
            return "170131" if qty + offered > held else None
        adding = qty - min(qty, abs(held)) if opposite else qty
        if adding and self._is_over_tier(orders, order, adding, opposite=opposite):
            return "110090"
        if adding and not self._affordable(orders, order, adding, opposite, replaces):
            return "110007" if rules.is_linear else "170131"
        return None

    def limit(self, orders: SymbolOrders, order: Order) -> E12:
        """The worst price an order may trade at; a market order's is bounded from the best."""
        if order.price is not None:
            return to_e12(order.price)
        book = orders.listing.book
        if order.side == "Buy":
            return book.best_ask * (UNIT + self._slippage) // UNIT
        return book.best_bid * (UNIT - self._slippage) // UNIT

    def _is_full(self, orders: SymbolOrders, *, is_linear: bool) -> bool:
        if is_linear:
            return len(orders.buys) + len(orders.sells) >= MAX_ACTIVE_ORDERS
        spot = (each for each in self._symbols.values() if not _is_linear(each))
        return sum(len(each.buys) + len(each.sells) for each in spot) >= MAX_ACTIVE_ORDERS

    # --- margin ------------------------------------------------------------------------------

    def _is_over_tier(
        self, orders: SymbolOrders, order: Order, adding: E12, *, opposite: bool
    ) -> bool:
        """Whether the position would be worth more than the risk limit of the leverage allows."""
        most = most_value(self._account.leverage, orders.listing.tiers)
        if most is None:
            return False
        held = 0 if opposite else self._account.position(order.symbol).cost
        return held + self._value(orders, order, adding) > most

    def _affordable(
        self,
        orders: SymbolOrders,
        order: Order,
        qty: E12,
        opposite: bool,
        replaces: Resting | None,
    ) -> bool:
        """Whether what is free of the wallet covers the initial margin (spot: the whole value).

        Margin is isolated: an open profit opens nothing, an open loss is its own margin's.
        """
        account = self._account
        value = self._value(orders, order, qty)
        used = account.margin_used() + self._reserved(replaces)
        if orders.listing.symbol.startswith("spot:"):
            return account.wallet - used >= value
        if opposite:  # What turns a position frees the margin of what it closes.
            used -= account.margin_of(account.position(order.symbol).cost)
        return account.wallet - used >= account.margin_of(value)

    def _value(self, orders: SymbolOrders, order: Order, qty: E12) -> E8:
        """What ``qty`` will cost or fetch, at most: a sell fills at the market, if that is better.

        A market order is worth what it would take of the book now.
        """
        if order.price is not None:
            price = to_e12(order.price)
            if order.side == "Sell":
                price = max(price, orders.listing.value_price)
            return value_of(price, qty)
        value = 0
        for price, offered in orders.offers(order.side, self.limit(orders, order)):
            part = min(qty, offered)
            value += value_of(price, part)
            qty -= part
        return value

    def _reserved(self, replaces: Resting | None) -> E8:
        """What open orders hold: initial margin, or the whole value of a spot buy."""
        margined = paid = 0
        for orders in self._symbols.values():
            if not orders.buys and not orders.sells:
                continue
            is_spot = orders.listing.symbol.startswith("spot:")
            for resting in orders.buys if is_spot else (*orders.buys, *orders.sells):
                if resting is replaces or resting.order.reduce_only:
                    continue
                value = value_of(resting.price, resting.leaves)
                if is_spot:
                    paid += value
                else:
                    margined += value
        return paid + self._account.margin_of(margined)


def _is_linear(orders: SymbolOrders) -> bool:
    return orders.listing.symbol.startswith("linear:")
