"""Whether the venue takes an order or an amendment: its rules, limits and margin, on arrival."""

from __future__ import annotations

from collections.abc import Mapping

from bot.core.account import Account
from bot.core.events import E8, E12, Order
from bot.core.instrument import UNIT, to_e12, value_of
from bot.core.orders import SymbolOrders
from bot.core.queue import Resting

MAX_ACTIVE_ORDERS = 500
"""Bybit's limit per symbol, https://bybit-exchange.github.io/docs/v5/order/create-order."""


class Admission:
    """The venue's door. ``market_slippage`` bounds a market order from the best price."""

    def __init__(
        self, account: Account, symbols: Mapping[str, SymbolOrders], market_slippage: E12
    ) -> None:
        self._account = account
        self._symbols = symbols
        self._slippage = market_slippage

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
        if replaces is None and len(orders.buys) + len(orders.sells) >= MAX_ACTIVE_ORDERS:
            return "110020" if rules.is_linear else "170810"
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

    # --- margin ------------------------------------------------------------------------------

    def _affordable(
        self,
        orders: SymbolOrders,
        order: Order,
        qty: E12,
        opposite: bool,
        replaces: Resting | None,
    ) -> bool:
        """Whether free equity covers the initial margin (spot: the whole value)."""
        account = self._account
        value = self._value(orders, order, qty)
        used = account.margin_used() + self._reserved(replaces)
        if orders.listing.symbol.startswith("spot:"):
            return account.wallet - used >= value
        if opposite:  # What turns a position frees the margin of what it closes.
            used -= account.margin_of(account.position(order.symbol).cost)
        return account.equity() - used >= account.margin_of(value)

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
