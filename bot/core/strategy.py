"""What a strategy is, and all that it can see.

A strategy sees the market as the bot has received it, and its own orders as the venue has
answered. Prices and quantities are floats here; ``View`` puts orders on the venue's grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

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
    Liquidated,
    Order,
    Prediction,
    Rejected,
    Side,
    Signal,
    StopType,
    Ticker,
    TimeInForce,
    TriggerBy,
    Triggered,
)
from bot.core.instrument import UNIT, Rules, to_decimal, to_e12
from bot.core.market import Market
from bot.core.orders import OrderIds

Seen: TypeAlias = Event | Answer | Liquidated
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


class OpenOrder(Struct, gc=False):
    """An order that may still fill, as far as the strategy knows."""

    id: int
    symbol: str
    side: Side
    price_e12: E12
    qty_e12: E12
    leaves_e12: E12
    tag: str
    reduce_only: bool = False
    trigger_e12: E12 = 0
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
    def trigger(self) -> float:
        """The price that a conditional order waits for; 0 for any other, or once it is reached."""
        return self.trigger_e12 / UNIT

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
                0 if decision.trigger_price is None else to_e12(decision.trigger_price),
            )  # fmt: skip
        elif type(decision) is Cancel or type(decision) is Amend:
            order = self.orders.get(decision.order_id)
            if order is None:
                return
            if type(decision) is Cancel:
                order.is_cancelling = True
            else:
                order.is_amending = True

    def hear(self, answer: Answer) -> bool:
        """An answer of the venue, or of risk; returns whether nothing more will come of the order.

        A filled order is over once a change that came too late has been answered.
        """
        order = self.orders.get(answer.order_id)
        if type(answer) is Fill:
            return self._filled(answer, order)
        if order is None:
            return True
        if type(answer) is Accepted:
            _accepted(answer, order)
        elif type(answer) is Cancelled or (type(answer) is Rejected and answer.request == "order"):
            del self.orders[answer.order_id]
            return True
        elif type(answer) is Triggered:
            order.trigger_e12 = 0
        elif type(answer) is Rejected:
            if answer.request == "cancel":
                order.is_cancelling = False
            else:
                order.is_amending = False
        return False

    def _filled(self, fill: Fill, order: OpenOrder | None) -> bool:
        signed = _received(fill) if fill.side == "Buy" else -to_e12(fill.qty)
        self.positions[fill.symbol] = self.positions.get(fill.symbol, 0) + signed
        assert order is not None, f"a fill of order {fill.order_id}, which is over"
        order.leaves_e12 = to_e12(fill.leaves)
        if order.leaves_e12:
            return False
        del self.orders[fill.order_id]
        return not order.is_changing


def _accepted(answer: Accepted, order: OpenOrder) -> None:
    filled = order.qty_e12 - order.leaves_e12
    order.is_amending = order.is_amending and not order.is_accepted
    order.is_accepted = True
    order.qty_e12 = to_e12(answer.qty)
    order.leaves_e12 = order.qty_e12 - filled
    if answer.price is not None:
        order.price_e12 = to_e12(answer.price)


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
        rate = self._market.listing(symbol).taker_rate
        assert rate is not None, f"no fees are known for {symbol}"
        return rate / UNIT

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
        take_profit: float | None = None,
        stop_loss: float | None = None,
    ) -> Order:
        """A limit order at the nearest tick, quantity rounded down to the step.

        Once it fills, the position is closed at the market when the last price reaches
        ``take_profit`` or ``stop_loss``.
        """
        rules = self._rules(symbol)
        order = Order(
            self.ts, self._ids.next(), self.name, symbol, side, "Limit", tif, rules.qty(qty),
            rules.price(price), reduce_only, tag,
        )  # fmt: skip
        return _with_exits(order, rules, take_profit, stop_loss)

    def market(
        self,
        symbol: str,
        side: Side,
        qty: float,
        *,
        reduce_only: bool = False,
        tag: str = "",
        take_profit: float | None = None,
        stop_loss: float | None = None,
    ) -> Order:
        """A market order, quantity rounded down to the step; exits as of a limit order."""
        rules = self._rules(symbol)
        order = Order(
            self.ts, self._ids.next(), self.name, symbol, side, "Market", "IOC", rules.qty(qty),
            None, reduce_only, tag,
        )  # fmt: skip
        return _with_exits(order, rules, take_profit, stop_loss)

    def stop(
        self,
        symbol: str,
        side: Side,
        qty: float,
        trigger: float,
        *,
        price: float | None = None,
        by: TriggerBy = "last",
        reduce_only: bool = False,
        tag: str = "",
    ) -> Order:
        """An order that waits at the venue for ``trigger``: at the market, or at ``price``.

        It waits for a rise if the price watched is below ``trigger`` now, else for a fall.
        """
        rules = self._rules(symbol)
        return Order(
            self.ts, self._ids.next(), self.name, symbol, side,
            "Market" if price is None else "Limit", "IOC" if price is None else "GTC",
            rules.qty(qty), None if price is None else rules.price(price), reduce_only, tag,
            rules.price(trigger), by, self._direction(symbol, by, trigger),
        )  # fmt: skip

    def exit(
        self, symbol: str, kind: StopType, trigger: float, *, by: TriggerBy = "last"
    ) -> Order | None:
        """Close the account's whole position at the market when ``trigger`` is reached.

        It takes the place of the exit of this kind before it; None where nothing is held.
        """
        rules, held = self._rules(symbol), self._account.qty(symbol)
        if not held:
            return None
        return Order(
            self.ts, self._ids.next(), self.name, symbol, "Sell" if held > 0 else "Buy", "Market",
            "IOC", to_decimal(abs(held)), None, reduce_only=True, tag=kind,
            trigger_price=rules.price(trigger), trigger_by=by,
            trigger_direction="rise" if (held > 0) == (kind == "TakeProfit") else "fall",
            stop_type=kind,
        )  # fmt: skip

    def _direction(self, symbol: str, by: TriggerBy, trigger: float) -> Literal["rise", "fall"]:
        listing = self._market.listing(symbol)
        watched = {"last": listing.last_price, "mark": listing.mark, "index": listing.index}[by]
        return "rise" if trigger * UNIT > (watched or listing.mid_e12) else "fall"

    def amend(
        self,
        order: OpenOrder,
        *,
        qty: float | None = None,
        price: float | None = None,
        trigger: float | None = None,
    ) -> Amend:
        """Change an open order; ``qty`` is the new total quantity."""
        rules = self._rules(order.symbol)
        return Amend(
            self.ts,
            order.id,
            order.symbol,
            None if price is None else rules.price(price),
            None if qty is None else rules.qty(qty),
            None if trigger is None else rules.price(trigger),
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


def _with_exits(
    order: Order, rules: Rules, take_profit: float | None, stop_loss: float | None
) -> Order:
    if take_profit is None and stop_loss is None:
        return order
    return replace(
        order,
        take_profit=None if take_profit is None else rules.price(take_profit),
        stop_loss=None if stop_loss is None else rules.price(stop_loss),
    )
