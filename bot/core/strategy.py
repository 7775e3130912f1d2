"""What a strategy is, and all that it can see.

A strategy sees the market as the bot has received it, and its own orders as the venue has
answered. Prices and quantities are floats here; ``View`` puts orders on the venue's grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from bot.core.account import Account
from bot.core.book import Book
from bot.core.errors import PlainError
from bot.core.events import (
    E12,
    Accepted,
    Amend,
    Answer,
    Cancel,
    Cancelled,
    Candle,
    Decision,
    Event,
    Fill,
    Order,
    Prediction,
    Rejected,
    Side,
    Signal,
    Ticker,
    TimeInForce,
)
from bot.core.instrument import UNIT, Rules, to_e12
from bot.core.market import Market

Seen: TypeAlias = Event | Answer
"""What ``on_event`` is called with."""


class Strategy(Protocol):
    """One file, one class. ``state`` is its whole memory and must be serializable by msgspec.

    The constructor is called with ``symbols`` and the ``params`` of config.yaml as keywords.
    """

    state: Any

    def on_event(self, event: Seen, view: View) -> Iterable[Decision] | None:
        """Answer an event with decisions, in order. Must not block, and must not read a clock."""
        ...


class UnknownRules(PlainError, LookupError):
    """A strategy asks for a symbol whose tick and lot the input has not told."""


class OpenOrder(Struct):
    """An order that may still fill, as far as the strategy knows."""

    id: int
    symbol: str
    side: Side
    price_e12: E12
    qty_e12: E12
    leaves_e12: E12
    tag: str
    reduce_only: bool = False
    is_accepted: bool = False
    is_amending: bool = False
    is_cancelling: bool = False

    @property
    def is_changing(self) -> bool:
        """An amendment or a cancel is on its way."""
        return self.is_amending or self.is_cancelling

    @property
    def price(self) -> float:
        """The limit price; 0 for a market order."""
        return self.price_e12 / UNIT

    @property
    def leaves(self) -> float:
        """The quantity not yet filled."""
        return self.leaves_e12 / UNIT


class Desk(Struct):
    """What one strategy has: its open orders and its own part of the positions."""

    orders: dict[int, OpenOrder] = {}
    positions: dict[str, E12] = {}

    def sent(self, decision: Decision) -> None:
        """A decision has passed risk and is on its way."""
        if type(decision) is Order:
            price = 0 if decision.price is None else to_e12(decision.price)
            qty = to_e12(decision.qty)
            self.orders[decision.id] = OpenOrder(
                decision.id, decision.symbol, decision.side, price, qty, qty, decision.tag,
                decision.reduce_only,
            )  # fmt: skip
        elif type(decision) is Cancel or type(decision) is Amend:
            order = self.orders.get(decision.order_id)
            if order is None:
                return
            if type(decision) is Cancel:
                order.is_cancelling = True
            else:
                order.is_amending = True

    def hear(self, answer: Answer) -> None:
        """An answer of the venue, or of risk."""
        order = self.orders.get(answer.order_id)
        if type(answer) is Fill:
            signed = _received(answer) if answer.side == "Buy" else -to_e12(answer.qty)
            self.positions[answer.symbol] = self.positions.get(answer.symbol, 0) + signed
            assert order is not None, f"a fill of order {answer.order_id}, which is over"
            order.leaves_e12 = to_e12(answer.leaves)
            if not order.leaves_e12:
                del self.orders[answer.order_id]
        elif order is None:
            return
        elif type(answer) is Accepted:
            filled = order.qty_e12 - order.leaves_e12
            order.is_amending = order.is_amending and not order.is_accepted
            order.is_accepted = True
            order.qty_e12 = to_e12(answer.qty)
            order.leaves_e12 = order.qty_e12 - filled
            if answer.price is not None:
                order.price_e12 = to_e12(answer.price)
        elif type(answer) is Cancelled or (type(answer) is Rejected and answer.request == "order"):
            del self.orders[answer.order_id]
        elif type(answer) is Rejected:
            if answer.request == "cancel":
                order.is_cancelling = False
            else:
                order.is_amending = False


def _received(bought: Fill) -> E12:
    """A spot buy pays its fee in the coin, so less comes in than was bought."""
    is_spot = bought.symbol.startswith("spot:")
    return to_e12(bought.qty - bought.fee if is_spot else bought.qty)


class View:
    """A strategy's window on the market, its desk, and its means to decide."""

    __slots__ = ("_account", "_ids", "_market", "desk", "name", "symbols", "ts")

    def __init__(
        self, name: str, symbols: tuple[str, ...], market: Market, account: Account, ids: OrderIds
    ) -> None:
        self.name = name
        self.symbols = symbols
        self.desk = Desk()
        self.ts = 0
        self._market = market
        self._account = account
        self._ids = ids

    # --- the market ------------------------------------------------------------------------

    def book(self, symbol: str) -> Book | None:
        """The visible book (exact integers, units of 1e-12), or None while it is not trusted."""
        listing = self._market.listings.get(symbol)
        return listing.book if listing is not None and listing.is_live else None

    def bid(self, symbol: str) -> float | None:
        """The best bid, or None while the book is empty or not trusted."""
        book = self.book(symbol)
        return book.best_bid / UNIT if book is not None and book.best_bid else None

    def ask(self, symbol: str) -> float | None:
        """The best ask, or None while the book is empty or not trusted."""
        book = self.book(symbol)
        return book.best_ask / UNIT if book is not None and book.best_ask else None

    def mid(self, symbol: str) -> float | None:
        """The middle of the book, or None while it is empty or not trusted."""
        return self._market.mid(symbol)

    def tick_size(self, symbol: str) -> float:
        """The smallest price step."""
        return self._rules(symbol).tick_size / UNIT

    def taker_rate(self, symbol: str) -> float:
        """The fee rate of taking liquidity."""
        return float(self._market.fees[symbol.partition(":")[0]].taker_rate)

    def ticker(self, symbol: str) -> Ticker | None:
        return self._market.listing(symbol).ticker

    def candle(self, symbol: str) -> Candle | None:
        """The last closed bar."""
        return self._market.listing(symbol).candle

    def prediction(self, symbol: str, model: str) -> Prediction | None:
        """The newest prediction of ``model`` for ``symbol``."""
        return self._market.listing(symbol).predictions.get(model)

    # --- what we have ----------------------------------------------------------------------

    def position(self, symbol: str) -> float:
        """This strategy's own signed position in coins, from the fills it has heard of."""
        return self.desk.positions.get(symbol, 0) / UNIT

    def orders(self, symbol: str) -> list[OpenOrder]:
        """This strategy's orders that may still fill, oldest first."""
        return [order for order in self.desk.orders.values() if order.symbol == symbol]

    def equity(self) -> float:
        """The account's equity in USDT."""
        return self._account.equity() / 1e8

    # --- decisions -------------------------------------------------------------------------

    def limit(
        self,
        symbol: str,
        side: Side,
        qty: float,
        price: float,
        *,
        tif: TimeInForce = "GTC",
        reduce_only: bool = False,
        tag: str = "",
    ) -> Order:
        """A limit order at the nearest tick, quantity rounded down to the step."""
        rules = self._rules(symbol)
        return Order(
            self.ts, self._ids.next(), self.name, symbol, side, "Limit", tif, rules.qty(qty),
            rules.price(price), reduce_only, tag,
        )  # fmt: skip

    def market(
        self, symbol: str, side: Side, qty: float, *, reduce_only: bool = False, tag: str = ""
    ) -> Order:
        """A market order, quantity rounded down to the step."""
        qty_on_grid = self._rules(symbol).qty(qty)
        return Order(
            self.ts, self._ids.next(), self.name, symbol, side, "Market", "IOC", qty_on_grid,
            None, reduce_only, tag,
        )  # fmt: skip

    def amend(
        self, order: OpenOrder, *, qty: float | None = None, price: float | None = None
    ) -> Amend:
        """Change an open order; ``qty`` is the new total quantity."""
        rules = self._rules(order.symbol)
        return Amend(
            self.ts,
            order.id,
            order.symbol,
            None if price is None else rules.price(price),
            None if qty is None else rules.qty(qty),
        )

    def cancel(self, order: OpenOrder) -> Cancel:
        return Cancel(self.ts, order.id, order.symbol)

    def signal(self, symbol: str, target: float, reason: str) -> Signal:
        """Put on record what position is wanted and why."""
        return Signal(self.ts, self.name, symbol, target, reason)

    def _rules(self, symbol: str) -> Rules:
        rules = self._market.listing(symbol).rules
        if rules is None:
            raise UnknownRules(
                f"no instrument rules are known for {symbol}: record the venue's instruments-info "
                "with it, or trade nothing (`strategies: []`)"
            )
        return rules


class OrderIds:
    """Order ids are a counter, so that a replay gives the same ones."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        self.last += 1
        return self.last
