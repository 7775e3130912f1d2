"""What the local venue lists: each symbol's grid, its number texts, its character.

Prices are integer ticks and quantities integer lots everywhere else in the emulator; the only
texts are made here. Nothing here knows of books, time or sockets.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

from bot.core.errors import PlainError

DEFAULT_SYMBOLS = ("linear:BTCUSDT", "linear:ETHUSDT", "spot:BTCUSDT", "spot:ETHUSDT")
_SYMBOL = re.compile(r"(linear|spot):([A-Z0-9]{1,26})(USDT)")


class VenueError(PlainError):
    """The local venue cannot be set up as asked; the text says what and the way out."""


class Coin(Struct, frozen=True):
    """How one coin trades; sizes in USDT. ``vol`` is a log return's deviation per sqrt(s)."""

    price: float
    touch_usdt: float
    trade_usdt: float
    vol: float
    open_interest_usdt: float


class Listing(Struct, frozen=True):
    """One symbol. A tick is ``tick * 10**-price_scale``, a lot ``10**-qty_scale``."""

    category: str
    name: str
    base: str
    quote: str
    price_scale: int
    tick: int
    qty_scale: int
    coin: Coin
    funding_minutes: int = 480

    @property
    def symbol(self) -> str:
        return f"{self.category}:{self.name}"

    @property
    def tick_size(self) -> float:
        return float(self.tick / 10**self.price_scale)

    @property
    def lot_size(self) -> float:
        return float(1 / 10**self.qty_scale)

    def price(self, ticks: int) -> str:
        """Futures write every decimal of the price scale ("65114.20"), spot none too many."""
        if self.category == "spot":
            return plain(ticks * self.tick, self.price_scale)
        return fixed(ticks * self.tick, self.price_scale)

    def price_plain(self, ticks: int) -> str:
        """A price as klines write it ("65114.2")."""
        return plain(ticks * self.tick, self.price_scale)

    def qty(self, lots: int) -> str:
        """A quantity; a level's deletion is "0" in both categories."""
        if not lots:
            return "0"
        if self.category == "spot":
            return plain(lots, self.qty_scale)
        return fixed(lots, self.qty_scale)

    def qty_plain(self, lots: int) -> str:
        return plain(lots, self.qty_scale)

    def turnover_plain(self, ticks_times_lots: int) -> str:
        """The exact value of a sum of ``ticks * lots``."""
        return plain(ticks_times_lots * self.tick, self.price_scale + self.qty_scale)

    def turnover(self, ticks_times_lots: int) -> float:
        return float(ticks_times_lots * self.tick / 10 ** (self.price_scale + self.qty_scale))

    def lots_for(self, usdt: float) -> int:
        """About that much money at the coin's reference price, at least a lot."""
        return max(1, round(usdt / self.coin.price / self.lot_size))


def fixed(value: int, scale: int) -> str:
    """``value * 10**-scale`` with all ``scale`` decimals."""
    return _fixed(value, scale)


def plain(value: int, scale: int) -> str:
    """``value * 10**-scale`` without trailing zeros."""
    return _plain(value, scale)


@lru_cache(maxsize=1 << 16)
def _fixed(value: int, scale: int) -> str:
    if not scale:
        return str(value)
    whole, fraction = divmod(abs(value), 10**scale)
    return f"{'-' if value < 0 else ''}{whole}.{fraction:0{scale}d}"


@lru_cache(maxsize=1 << 16)
def _plain(value: int, scale: int) -> str:
    text = _fixed(value, scale)
    return text.rstrip("0").rstrip(".") if scale else text


# Grids as Bybit had them in August 2026: (price scale, tick, quantity scale), linear then spot.
_GRIDS = {
    "BTC": ((2, 10, 3), (1, 1, 6)),
    "ETH": ((2, 1, 2), (2, 1, 5)),
    "SOL": ((3, 10, 1), (2, 1, 4)),
    "XRP": ((4, 1, 1), (4, 1, 2)),
    "DOGE": ((5, 1, 0), (5, 1, 1)),
}
_COINS = {
    "BTC": Coin(65_000.0, 300_000.0, 12_000.0, 2.2e-5, 3.9e9),
    "ETH": Coin(1_920.0, 200_000.0, 9_000.0, 2.8e-5, 1.6e9),
    "SOL": Coin(77.0, 90_000.0, 4_000.0, 3.4e-5, 5e8),
    "XRP": Coin(1.1, 60_000.0, 3_000.0, 3.4e-5, 3e8),
    "DOGE": Coin(0.0705, 25_000.0, 1_500.0, 3.6e-5, 1e8),
}
_SPOT_SHARE = 0.2  # spot is thinner and trades less


def listing_of(symbol: str) -> Listing:
    """The listing of ``category:XXXUSDT``. Raises VenueError for any other text."""
    match = _SYMBOL.fullmatch(symbol)
    if match is None:
        raise VenueError(f"cannot list {symbol!r}: write linear:XXXUSDT or spot:XXXUSDT")
    category, base, quote = match.groups()
    coin = _COINS.get(base) or _unknown_coin(base)
    linear, spot = _GRIDS.get(base) or _unknown_grids(coin.price)
    price_scale, tick, qty_scale = linear if category == "linear" else spot
    if category == "spot":
        coin = Coin(
            coin.price,
            coin.touch_usdt * _SPOT_SHARE,
            coin.trade_usdt * _SPOT_SHARE,
            coin.vol,
            0.0,
        )
    return Listing(category, base + quote, base, quote, price_scale, tick, qty_scale, coin)


def listings_of(symbols: Iterable[str]) -> tuple[Listing, ...]:
    """Raises VenueError for none, for a bad one and for one named twice."""
    names = tuple(symbols)
    if not names:
        raise VenueError("no symbols to list: name at least one, for example linear:BTCUSDT")
    for name in names:
        if names.count(name) > 1:
            raise VenueError(f"{name} is listed twice")
    return tuple(listing_of(name) for name in names)


def _unknown_coin(base: str) -> Coin:
    """A character drawn from the name, so that it is the same in every run and process."""
    draw = zlib.crc32(base.encode()) / 2**32
    return Coin(float(f"{10 ** (4 * draw - 2):.3g}"), 20_000.0, 1_200.0, 4e-5, 5e7)


def _unknown_grids(price: float) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    magnitude = math.floor(math.log10(price))
    price_scale, qty_scale = max(0, 4 - magnitude), max(0, magnitude + 1)
    return (price_scale, 1, qty_scale), (price_scale, 1, qty_scale + 2)
