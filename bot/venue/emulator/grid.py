"""A listing's grids: the prices and quantities that a client writes, as core counts them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from bot.core.events import E12
from bot.core.instrument import NumberError, to_e12
from bot.venue.emulator.codes import Refused
from bot.venue.emulator.listing import Listing
from bot.venue.emulator.mirror import lot_e12, tick_e12


def quantity(listing: Listing, text: str) -> E12:
    """A quantity on the lot grid; core judges its size."""
    spot = listing.category == "spot"
    qty = positive(text, 170130 if spot else 10001, "Qty invalid")
    value = exact(qty)
    if value is None or value % lot_e12(listing):
        raise Refused(170137) if spot else Refused(10001, "Qty invalid")
    return value


def limit_price(listing: Listing, given: Any) -> E12:
    """A price on the tick grid."""
    spot = listing.category == "spot"
    price = positive(str(given or ""), 170130 if spot else 10001, "Price invalid")
    value = exact(price)
    if value is None or value % tick_e12(listing):
        raise Refused(170134) if spot else Refused(10001, "Price invalid")
    return value


def price_text(listing: Listing, price: E12) -> str:
    """A price on the tick grid; 0 is a market order's."""
    return listing.price(price // tick_e12(listing)) if price else "0"


def qty_text(listing: Listing, qty: E12) -> str:
    return listing.qty(qty // lot_e12(listing))


def positive(text: str, code: int, message: str = "") -> Decimal:
    """A positive finite number of a sane length."""
    try:
        value = Decimal(text) if len(text) <= 40 else Decimal("NaN")
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value <= 0 or value >= 10**15:
        raise Refused(code, message)
    return value


def exact(value: Decimal) -> E12 | None:
    try:
        return to_e12(value)
    except NumberError:
        return None
