"""What Bybit's public frames hold: their shapes, their decoders, and their numbers.

Whatever cannot be read raises one of ``UNREADABLE``; nothing here remembers anything.

https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook and the pages beside it.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from bot.core.events import Side
from bot.core.instrument import NumberError, to_e12

MS = 1_000_000
"""Nanoseconds in a millisecond."""
Milliseconds: TypeAlias = Annotated[int, Meta(ge=0, le=(2**63 - 1) // MS - 1)]
"""A stamp since 1970; beyond this its nanoseconds would not fit into a database's integer."""
Counter64: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NumberError)
"""What reading can raise; RecursionError for brackets nested without end."""


class Envelope(Struct, gc=False):
    """What every frame has in common, market data and answers alike."""

    topic: str = ""
    type: str = ""
    ts: Milliseconds = 0
    cts: Milliseconds = 0
    data: Raw = Raw(b"null")
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""


class Book(Struct, gc=False):
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: Counter64
    seq: Counter64


class PublicTrade(Struct, gc=False):
    T: Milliseconds
    S: Side
    v: str
    p: str
    seq: Counter64 = 0
    BT: bool = False
    RPI: bool = False


class Tickers(Struct, gc=False, rename="camel"):
    last_price: str = ""
    mark_price: str = ""
    index_price: str = ""
    funding_rate: str = ""
    next_funding_time: str = ""
    open_interest: str = ""


class Kline(Struct, gc=False):
    start: Milliseconds
    end: Milliseconds
    interval: str
    open: str
    close: str
    high: str
    low: str
    volume: str
    turnover: str
    confirm: bool


envelope = msgspec.json.Decoder(Envelope).decode
book = msgspec.json.Decoder(Book).decode
trades = msgspec.json.Decoder(list[PublicTrade]).decode
tickers = msgspec.json.Decoder(Tickers).decode
klines = msgspec.json.Decoder(list[Kline]).decode


# --- Numbers of the rarer topics; books and trades take instrument.E12_OF_TEXT ------------------

_PLAIN = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")


def _plain(text: str) -> Decimal:
    """What Bybit writes: no exponent, no NaN. "1e999999" is a Decimal that breaks arithmetic."""
    if not _PLAIN.fullmatch(text):
        raise NumberError(f"not a plain decimal number: {text[:50]!r}")
    return Decimal(text)


def rate(text: str) -> Decimal:
    """A number of either sign that core takes: at most 12 decimals. Raises NumberError."""
    number = _plain(text)
    to_e12(number)
    return number


def volume(text: str) -> Decimal:
    """Zero or more; Bybit may write a turnover with more than 12 decimals. Raises NumberError."""
    number = _plain(text)
    if number < 0:
        raise NumberError(f"less than 0: {text[:50]}")
    return number


def price(text: str) -> Decimal:
    """More than zero. Raises NumberError."""
    number = rate(text)
    if number <= 0:
        raise NumberError(f"not a price: {text[:50]}")
    return number


def price_or_none(text: str) -> Decimal | None:
    """Bybit writes "" or "0" where there is no price. Raises NumberError."""
    return price(text) if text.strip("0.") else None


def stamp_or_none(text: str) -> int | None:
    """Milliseconds as text, "" or "0" where there are none, in ns. Raises NumberError."""
    stamp_ns = int(volume(text) * MS) if text else 0
    if stamp_ns >= 2**63:
        raise NumberError(f"not a time in milliseconds: {text[:50]}")
    return stamp_ns or None
