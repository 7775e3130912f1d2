"""How far from the mark an order's price may be, and what happens to one beyond.

A futures price is moved to the limit unless the account wants it refused; a spot price is always
refused. https://bybit-exchange.github.io/docs/v5/account/set-price-limit
"""

from __future__ import annotations

from fractions import Fraction

from bot.core.events import E12
from bot.venue.emulator.codes import Refused
from bot.venue.emulator.market import SymbolMarket
from bot.venue.emulator.mirror import tick_e12

# As instruments-info tells them: (X, Y).
_LINEAR = (Fraction(1, 100), Fraction(2, 100))
_SPOT = (Fraction(5, 1000), Fraction(1, 100))


def within_limits(market: SymbolMarket, side: str, price: E12, *, moves: bool) -> E12:
    """``price``, or where it is moved to. Raises Refused with 110003, 170193 or 170194."""
    limit = highest_buy(market) if side == "Buy" else lowest_sell(market)
    beyond = price > limit if side == "Buy" else price < limit
    if not beyond:
        return price
    if market.listing.category == "spot":
        raise Refused(170193 if side == "Buy" else 170194)
    if not moves:
        raise Refused(110003)
    return limit


def highest_buy(market: SymbolMarket) -> E12:
    """Futures: min(mark (1 + Y), max(index, mark (1 + X) + premium)), at a tick below."""
    mark, index, premium, (x, y) = _terms(market)
    bound = mark * (1 + y)
    if market.listing.category == "linear":
        bound = min(bound, max(index, mark * (1 + x) + max(Fraction(0), premium)))
    tick = tick_e12(market.listing)
    return int(bound) // tick * tick


def lowest_sell(market: SymbolMarket) -> E12:
    """The mirror image, at a tick above."""
    mark, index, premium, (x, y) = _terms(market)
    bound = mark * (1 - y)
    if market.listing.category == "linear":
        bound = max(bound, min(index, mark * (1 - x) + min(Fraction(0), premium)))
    tick = tick_e12(market.listing)
    return -(-int(bound) // tick) * tick


def _terms(market: SymbolMarket) -> tuple[Fraction, Fraction, Fraction, tuple[Fraction, Fraction]]:
    """Mark, index, and the premium of the middle over the mark, in E12 (Bybit: its 30 s mean).

    Spot has no mark: its last price stands in.
    """
    listing = market.listing
    unit = 10**12
    if listing.category == "spot":
        last = Fraction(market.last * tick_e12(listing))
        return last, last, Fraction(0), _SPOT
    mark = Fraction(market.funding.mark) * unit
    index = Fraction(market.index) * unit
    return mark, index, Fraction(market.mid()) * unit - mark, _LINEAR
