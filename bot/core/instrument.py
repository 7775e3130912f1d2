"""Exact numbers, and a venue's rules for one symbol.

Every rounding of the project happens in this file. Nothing here knows of orders' lives.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from bot.core import native
from bot.core.events import E8, E12, Instrument, Order

UNIT = 10**12
"""One coin, or a price of one, in E12."""
_E24_PER_E8 = 10**16


class NumberError(ValueError):
    """A text is not a plain, non-negative decimal number with at most 12 decimals."""


@lru_cache(maxsize=65_536)
def to_e12(number: Decimal) -> E12:
    """The exact E12 value of a decimal. Raises NumberError if it has more than 12 decimals."""
    numerator, denominator = number.as_integer_ratio()
    value, rest = divmod(numerator * UNIT, denominator)
    if rest:
        raise NumberError(f"{number} has more than 12 decimals")
    return value


def parse_e12(text: str) -> E12:
    """Parse what Bybit writes in books and trades ("65114.20"); exact, no sign, no exponent."""
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit()) or not whole or len(digits) > 40:
        raise NumberError(f"not a plain decimal number: {text[:50]!r}")
    if len(fraction) > 12:
        if fraction[12:].strip("0"):
            raise NumberError(f"{text} has more than 12 decimals")
        fraction = fraction[:12]
    return int(whole + fraction.ljust(12, "0"))


class _ParsedNumbers(dict[str, E12]):
    """Texts already parsed. Prices and sizes repeat, so a lookup serves most of a feed."""

    _MAX = 200_000

    def __missing__(self, text: str) -> E12:
        if len(self) >= self._MAX:
            self.clear()
        value = self[text] = parse_e12(text)
        return value


E12_OF_TEXT = _ParsedNumbers()


@lru_cache(maxsize=65_536)
def to_decimal(value: E12) -> Decimal:
    """The decimal of an E12 value, without trailing zeros (100, not 1E+2)."""
    sign = "-" if value < 0 else ""
    whole, fraction = divmod(abs(value), UNIT)
    if not fraction:
        return Decimal(f"{sign}{whole}")
    return Decimal(f"{sign}{whole}.{fraction:012d}".rstrip("0"))


def amount(value: E8) -> Decimal:
    """The decimal of a coin amount, without trailing zeros."""
    return to_decimal(value * 10_000)


def to_e8(number: Decimal) -> E8:
    """A coin amount from outside (a deposit), rounded half-even to 1e-8."""
    numerator, denominator = number.as_integer_ratio()
    return div_half_even(numerator * 10**8, denominator)


def div_half_even(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` rounded half to even, for a positive denominator."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def exact_value(price: E12, qty: E12) -> E8:
    """``price * qty`` in the quote coin, rounded half to even."""
    return div_half_even(price * qty, _E24_PER_E8)


value_of = native.value_of or exact_value
"""``exact_value``, in C where that was built: every order is judged by a dozen of them."""


def fee_of(price: E12, qty: E12, rate: E12) -> E8:
    """``price * qty * rate``, rounded once."""
    return div_half_even(price * qty * rate, _E24_PER_E8 * UNIT)


class Rules:
    """An ``Instrument`` in integers: rounding to the grid and the venue's validation."""

    __slots__ = ("instrument", "is_linear", "max_limit_qty", "max_market_qty", "min_notional",
                 "min_qty", "price_limit_x", "price_limit_y", "qty_step", "tick_size",
                 )  # fmt: skip

    def __init__(self, instrument: Instrument) -> None:
        if instrument.tick_size <= 0 or instrument.qty_step <= 0:
            raise NumberError(f"{instrument.symbol}: tick size and quantity step must be positive")
        self.instrument = instrument
        self.is_linear = instrument.symbol.startswith("linear:")
        self.tick_size = to_e12(instrument.tick_size)
        self.qty_step = to_e12(instrument.qty_step)
        self.min_qty = to_e12(instrument.min_qty)
        self.min_notional = to_e12(instrument.min_notional) * UNIT
        self.max_limit_qty = to_e12(instrument.max_limit_qty)
        self.max_market_qty = to_e12(instrument.max_market_qty)
        self.price_limit_x = to_e12(instrument.price_limit_x)
        self.price_limit_y = to_e12(instrument.price_limit_y)

    def price(self, number: float) -> Decimal:
        """The nearest price on the tick grid."""
        tick = self.tick_size
        return to_decimal(round(number * UNIT / tick) * tick)

    def qty(self, number: float) -> Decimal:
        """The largest quantity on the step grid that is not above ``number``.

        A quantity within a billionth of a step below a grid point counts as that point: 0.3 coins
        computed as 0.1 + 0.2 or 0.7 - 0.4 is three steps of 0.1.
        """
        step = self.qty_step
        return to_decimal(int(number * UNIT / step + 1e-9) * step)

    def refuse(self, order: Order, price_now: E12) -> str | None:
        """Bybit's code for an order that breaks the symbol's rules, or None.

        A market order's value is judged at ``price_now``, where that is known (not 0).
        https://bybit-exchange.github.io/docs/v5/error
        """
        qty = to_e12(order.qty)
        if qty <= 0 or qty % self.qty_step or qty < self.min_qty:
            return "10001" if self.is_linear else "170136"
        most = self.max_market_qty if order.price is None else self.max_limit_qty
        if most and qty > most:
            return "10001" if self.is_linear else "170135"
        price = price_now if order.price is None else to_e12(order.price)
        if order.price is not None and (price <= 0 or price % self.tick_size):
            return "10001" if self.is_linear else "170134"
        if price and price * qty < self.min_notional and not order.reduce_only:
            return "110094" if self.is_linear else "170140"
        return None
