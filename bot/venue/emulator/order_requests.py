"""What a client may ask of its orders: bodies in, core's orders out, or Bybit's refusal.

The shape of a request is judged here; what depends on account and book is core's to judge.
https://bybit-exchange.github.io/docs/v5/order/create-order
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from bot.core.events import E12, OrderType, Side, TimeInForce
from bot.core.instrument import to_decimal
from bot.venue.emulator.codes import Refused
from bot.venue.emulator.conditional import Exits, Trigger, exits_of, trigger_of
from bot.venue.emulator.grid import exact, limit_price, positive, quantity
from bot.venue.emulator.listing import Listing
from bot.venue.emulator.market import Market, SymbolMarket
from bot.venue.emulator.mirror import DEPTH, lot_e12, tick_e12
from bot.venue.emulator.rest import CATEGORIES

Body: TypeAlias = Mapping[str, Any]

_LINK_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_NOT_EMULATED = ("tpLimitPrice", "slLimitPrice", "orderIv", "bboSideType", "mmp")
_SMP_TYPES = ("None", "CancelMaker", "CancelTaker", "CancelBoth")
_TIFS: dict[str, TimeInForce] = {"GTC": "GTC", "IOC": "IOC", "FOK": "FOK", "PostOnly": "PostOnly"}
_SLIPPAGE = {"TickSize": (Decimal(1), Decimal(10_000)), "Percent": (Decimal("0.01"), Decimal(10))}


class Wanted(Struct, frozen=True):
    """A create request that makes sense. ``price`` is None for a market order without a bound."""

    market: SymbolMarket
    side: Side
    order_type: OrderType
    tif: TimeInForce
    qty: E12
    price: E12 | None
    link_id: str
    reduce_only: bool
    smp_type: str
    asked_qty: str = ""
    market_unit: str = ""
    trigger: Trigger | None = None
    exits: Exits = Exits()


class Change(Struct, frozen=True):
    """An amend request; what is None stays."""

    price: Decimal | None
    qty: Decimal | None
    trigger: Decimal | None


def wanted(body: Body, market: Market) -> Wanted:
    """Read a create request. Raises Refused."""
    symbol = symbol_of(body, market)
    listing = symbol.listing
    spot = listing.category == "spot"
    for name in _NOT_EMULATED:
        if body.get(name) not in (None, "", "0", False):
            raise Refused(10001, f"params error: the local venue does not emulate {name}")
    if body.get("positionIdx", 0) not in (0, "0"):
        raise Refused(10001, "position idx not match position mode")
    side = _one_of(body, "side", ("Buy", "Sell"), 170117 if spot else 10001)
    order_type = _one_of(body, "orderType", ("Limit", "Market"), 170116 if spot else 10001)
    is_market = order_type == "Market"
    tif = _tif(body, is_market=is_market, spot=spot)
    link_id = str(body.get("orderLinkId") or "")
    if link_id and not _LINK_ID.fullmatch(link_id):
        raise Refused(10001, "OrderLinkId must be 1 to 36 of letters, digits, - and _")
    smp_type = str(body.get("smpType") or "None")
    if smp_type not in _SMP_TYPES:
        raise Refused(10001, "params error: smpType invalid")
    trigger = trigger_of(body, listing, Decimal(listing.price_plain(symbol.last)))
    unit = _market_unit(body, side) if spot and is_market else ""
    if trigger is not None and unit == "quoteCoin":
        raise Refused(10001, "params error: a conditional market order needs marketUnit=baseCoin")
    text = str(body.get("qty", ""))
    if unit == "quoteCoin":
        qty = base_for(symbol, positive(text, 170130), side)
    else:
        qty = quantity(listing, text)
    return Wanted(
        symbol,
        side,  # type: ignore[arg-type]
        order_type,  # type: ignore[arg-type]
        tif,
        qty,
        _bound(body, symbol, side) if is_market else limit_price(listing, body.get("price")),
        link_id,
        bool(body.get("reduceOnly")) and not spot,
        smp_type,
        text if unit == "quoteCoin" else "",
        unit,
        trigger,
        exits_of(body, listing),
    )


def change(body: Body, listing: Listing) -> Change:
    """Read an amend request. Raises Refused."""
    for name in ("takeProfit", "stopLoss"):
        if body.get(name) not in (None, ""):
            raise Refused(10001, f"params error: the local venue does not amend {name}")
    price, qty, trigger = body.get("price"), body.get("qty"), body.get("triggerPrice")
    if all(each in (None, "") for each in (price, qty, trigger)):
        raise Refused(10001, "params error: nothing to amend")
    return Change(
        None if price in (None, "") else to_decimal(limit_price(listing, price)),
        None if qty in (None, "") else to_decimal(quantity(listing, str(qty))),
        None if trigger in (None, "") else to_decimal(limit_price(listing, trigger)),
    )


def category_of(body: Body) -> str:
    category = str(body.get("category", ""))
    if category not in CATEGORIES:
        raise Refused(10001, "params error: Category is illegal")
    return category


def symbol_of(body: Body, market: Market) -> SymbolMarket:
    """The symbol that a request names. Raises Refused."""
    category = category_of(body)
    symbol = market.symbols.get(f"{category}:{body.get('symbol', '')}")
    if symbol is None:
        if category == "spot":
            raise Refused(170121)
        raise Refused(10001, f"params error: symbol invalid {body.get('symbol', '')}")
    return symbol


def base_for(market: SymbolMarket, quote: Decimal, side: str) -> E12:
    """What ``quote`` coins would now buy or fetch, in whole lots. Raises Refused with 170140."""
    listing = market.listing
    tick, lot = tick_e12(listing), lot_e12(listing)
    book = market.book.asks if side == "Buy" else market.book.bids
    left = exact(quote) or 0
    lots = 0
    for ticks, offered in book.top(DEPTH).items():
        price = ticks * tick
        part = min(offered, left * 10**12 // (price * lot))
        lots += part
        left -= part * lot * price // 10**12
        if part < offered:
            break
    if not lots:
        raise Refused(170140)
    return lots * lot


def _tif(body: Body, *, is_market: bool, spot: bool) -> TimeInForce:
    if is_market:  # Bybit takes any and executes it as IOC
        return "IOC"
    text = str(body.get("timeInForce") or "GTC")
    tif = _TIFS.get(text)
    if tif is None:
        raise Refused(170115) if spot else Refused(10001, f"timeInForce {text} invalid")
    return tif


def _market_unit(body: Body, side: str) -> Literal["baseCoin", "quoteCoin"]:
    """A spot market order buys for an amount of quote coins unless told otherwise."""
    default = "quoteCoin" if side == "Buy" else "baseCoin"
    match body.get("marketUnit") or default:
        case "baseCoin":
            return "baseCoin"
        case "quoteCoin":
            return "quoteCoin"
        case _:
            raise Refused(10001, "params error: marketUnit invalid")


def _bound(body: Body, market: SymbolMarket, side: str) -> E12 | None:
    """The worst price that ``slippageTolerance`` allows; None: core's own bound."""
    kind = body.get("slippageToleranceType")
    if not kind:
        return None
    if kind not in _SLIPPAGE:
        raise Refused(10001, "params error: slippageToleranceType invalid")
    least, most = _SLIPPAGE[str(kind)]
    tolerance = positive(str(body.get("slippageTolerance", "")), 10001)
    if not least <= tolerance <= most:
        raise Refused(10001, f"params error: slippageTolerance from {least} to {most}")
    best = market.book.asks.best() if side == "Buy" else market.book.bids.best()
    share = tolerance if kind == "TickSize" else best * tolerance / 100
    ticks = best + int(share) if side == "Buy" else max(1, best - int(share))
    return ticks * tick_e12(market.listing)


def _one_of(body: Body, name: str, allowed: tuple[str, ...], code: int) -> str:
    text = str(body.get(name, ""))
    if text not in allowed:
        raise Refused(code, f"{name[0].upper()}{name[1:]} invalid" if code == 10001 else "")
    return text
