"""Conditional orders and the exits of a position: what a client may ask for, and in which words.

https://bybit-exchange.github.io/docs/v5/order/create-order, .../position/trading-stop
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from bot.core.events import Order, StopType, TriggerBy
from bot.core.instrument import to_decimal, to_e12
from bot.venue.emulator.codes import Refused
from bot.venue.emulator.grid import limit_price, price_text
from bot.venue.emulator.listing import Listing

Body: TypeAlias = Mapping[str, Any]
Direction: TypeAlias = Literal["rise", "fall"]

_BY: Final[dict[str, TriggerBy]] = {"LastPrice": "last", "MarkPrice": "mark", "IndexPrice": "index"}
_TEXT_OF_BY: Final = {by: text for text, by in _BY.items()}
_DIRECTIONS: Final[dict[str, Direction]] = {"1": "rise", "2": "fall"}
_MADE_BY: Final = {"TakeProfit": "CreateByTakeProfit", "StopLoss": "CreateByStopLoss"}
_NOTHING: Final = (None, "", "0", 0)


class Trigger(Struct, frozen=True):
    """The price that an order waits for."""

    price: Decimal
    by: TriggerBy
    direction: Direction


class Exit(Struct, frozen=True):
    """The price at which a position is to be closed, watched on ``by``."""

    price: Decimal
    by: TriggerBy


class Exits(Struct, frozen=True):
    """What a request says of a position's exits; what is None is not spoken of."""

    profit: Exit | None = None
    loss: Exit | None = None

    def named(self) -> list[tuple[StopType, Exit]]:
        pairs: tuple[tuple[StopType, Exit | None], ...] = (
            ("TakeProfit", self.profit), ("StopLoss", self.loss),
        )  # fmt: skip
        return [(kind, exit_) for kind, exit_ in pairs if exit_ is not None]


def trigger_of(body: Body, listing: Listing, last: Decimal) -> Trigger | None:
    """What a create request waits for; None for one that meets the book. Raises Refused.

    A spot order says so with its ``orderFilter`` and waits for the last price to come from where
    it is now; a futures order names the price and the direction.
    """
    spot = listing.category == "spot"
    kind = body.get("orderFilter") or "Order"
    if kind not in ("Order", "StopOrder"):
        raise Refused(10001, f"params error: the local venue does not emulate orderFilter={kind}")
    if body.get("triggerPrice") in _NOTHING:
        if kind == "StopOrder":
            raise Refused(10001, "params error: triggerPrice is required")
        return None
    if spot and kind == "Order":
        raise Refused(10001, "params error: triggerPrice needs orderFilter=StopOrder")
    price = to_decimal(limit_price(listing, body["triggerPrice"]))
    if spot:
        return Trigger(price, "last", "rise" if price > last else "fall")
    direction = _DIRECTIONS.get(str(body.get("triggerDirection", "")))
    if direction is None:
        raise Refused(10001, "TriggerDirection invalid")
    return Trigger(price, _watched(body, "triggerBy"), direction)


def exits_of(body: Body, listing: Listing) -> Exits:
    """The exits that a create or trading-stop request names. Raises Refused."""
    if body.get("tpslMode") not in (None, "", "Full"):
        raise Refused(10001, "params error: the local venue emulates tpslMode=Full only")
    for name in ("tpOrderType", "slOrderType"):
        if body.get(name) not in (None, "", "Market"):
            raise Refused(10001, f"params error: {name} must be Market in tpslMode=Full")
    return Exits(
        _exit(body, "takeProfit", "tpTriggerBy", listing),
        _exit(body, "stopLoss", "slTriggerBy", listing),
    )


def cleared(body: Body) -> list[StopType]:
    """The exits that a trading-stop request takes away: those whose price is 0."""
    pairs: tuple[tuple[StopType, str], ...] = (
        ("TakeProfit", "takeProfit"),
        ("StopLoss", "stopLoss"),
    )
    return [kind for kind, name in pairs if body.get(name) in ("0", 0)]


def order_words(order: Order, listing: Listing) -> dict[str, Any]:
    """An order's trigger and exits as REST and the stream tell them."""
    trigger, profit, loss = (
        "" if price is None else price_text(listing, to_e12(price))
        for price in (order.trigger_price, order.take_profit, order.stop_loss)
    )
    return {
        "stopOrderType": stop_order_type(order),
        "triggerPrice": trigger,
        "triggerDirection": {"rise": 1, "fall": 2}.get(order.trigger_direction or "", 0),
        "triggerBy": _TEXT_OF_BY[order.trigger_by or "last"] if trigger else "",
        "takeProfit": profit,
        "stopLoss": loss,
        "tpTriggerBy": _TEXT_OF_BY[order.take_profit_by or "last"] if profit else "",
        "slTriggerBy": _TEXT_OF_BY[order.stop_loss_by or "last"] if loss else "",
        "tpslMode": "Full" if profit or loss or order.stop_type else "",
        "closeOnTrigger": order.stop_type is not None,
    }


def stop_order_type(order: Order) -> str:
    """ "" for an order that waits for nothing."""
    return order.stop_type or ("Stop" if order.trigger_price is not None else "")


def create_type(order: Order) -> str:
    """Who made a futures order, and for what."""
    if order.stop_type is not None:
        return _MADE_BY[order.stop_type]
    return "CreateByUser" if order.trigger_price is None else "CreateByStopOrder"


def exit_words(exits: Iterable[Order], listing: Listing) -> dict[str, str]:
    """A position's exits as REST and the stream tell them."""
    found = {"takeProfit": "", "stopLoss": ""}
    for order in exits:
        assert order.trigger_price is not None
        name = "takeProfit" if order.stop_type == "TakeProfit" else "stopLoss"
        found[name] = price_text(listing, to_e12(order.trigger_price))
    return found


def _exit(body: Body, name: str, by: str, listing: Listing) -> Exit | None:
    if body.get(name) in _NOTHING:
        return None
    if listing.category == "spot":
        raise Refused(10001, f"params error: the local venue does not emulate {name} on spot")
    return Exit(to_decimal(limit_price(listing, body[name])), _watched(body, by))


def _watched(body: Body, name: str) -> TriggerBy:
    by = _BY.get(str(body.get(name) or "LastPrice"))
    if by is None:
        raise Refused(10001, f"params error: {name} invalid")
    return by
