"""Bybit's daily order-book files: NDJSON of v5 ``orderbook`` messages, as book events.

https://www.bybit.com/derivatives/en/history-data; a line has the shape of
https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec
from msgspec import Struct

from bot.core.events import BookUpdate, FeedDown, FeedUp
from bot.core.instrument import E12_OF_TEXT
from bot.venue.archive_text import Place, lines, require_symbol
from bot.venue.payloads import MS

HOLE_NS = 60 * 10**9
"""A book that says nothing for longer, and then comes back as a snapshot, was not known."""


class _Data(Struct, gc=False):
    s: str
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: int
    seq: int = 0


class _Message(Struct, gc=False):
    topic: str
    type: Literal["snapshot", "delta"]
    ts: int
    data: _Data
    cts: int = 0


_message = msgspec.json.Decoder(_Message).decode


def symbol_of(line: bytes) -> str | None:
    """The symbol's name if the line is an order-book message."""
    try:
        message = _message(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return message.data.s if message.topic.startswith("orderbook.") else None


def read_book(place: Place, symbol: str, delay_ns: int) -> Iterator[BookUpdate]:
    """Every message of one file. ``exchange_ts`` is ``cts``, in files without it ``ts``.

    An unreadable line is damage; left out, the gap in ``u`` that it makes is found behind it.
    """
    number = E12_OF_TEXT
    name = symbol.partition(":")[2]
    for line in lines(place):
        try:
            message = _message(line)
            data = message.data
            require_symbol(data.s, name)
            stamp = (message.cts or message.ts) * MS
            update = BookUpdate(
                stamp + delay_ns,
                stamp,
                symbol,
                int(message.topic.split(".")[1]),
                data.u,
                data.seq,
                message.type == "snapshot" or data.u == 1,
                [(number[price], number[qty]) for price, qty in data.b],
                [(number[price], number[qty]) for price, qty in data.a],
            )
        except (ValueError, IndexError) as error:  # msgspec's and NumberError are ValueErrors
            place.bad_row(line, error)
            continue
        yield update


def continuous_book(
    updates: Iterable[tuple[Place, BookUpdate]],
) -> Iterator[BookUpdate | FeedDown | FeedUp]:
    """The book with its gaps as events: what the live codec would have made of the same.

    A snapshot resets, also in the middle of a file. Repairing, a gap in ``u`` takes the book down
    until the next snapshot, and a message that was there already is left out.
    """
    last: BookUpdate | None = None
    is_live = False
    for place, update in updates:
        if update.snapshot:
            if is_live and last is not None and update.exchange_ts - last.exchange_ts > HOLE_NS:
                silence_s = (update.exchange_ts - last.exchange_ts) / 1e9
                place.report("gap", f"no book for {silence_s:.0f} s, up to {update.exchange_ts}")
                is_live = False
                yield _down(last, last.exchange_ts + HOLE_NS, "the archive has a hole")
            if not is_live:
                yield FeedUp(update.ts, update.symbol, update.exchange_ts)
            is_live = True
        elif not is_live:
            if last is None:
                place.report("gap", f"a delta (u {update.u}) before any snapshot")
            last = update
            continue
        elif last is not None and update.u != last.u + 1:
            what = f"u {update.u} after {last.u}"
            if update.u <= last.u:
                place.report("overlap", what)
                continue
            place.report("gap", what)
            is_live = False
            yield _down(update, update.exchange_ts, f"gap in u: {update.u} after {last.u}")
            continue
        last = update
        yield update


def _down(update: BookUpdate, stamp: int, reason: str) -> FeedDown:
    delay_ns = update.ts - update.exchange_ts
    return FeedDown(stamp + delay_ns, update.symbol, reason, stamp)
