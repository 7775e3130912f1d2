"""Raw recordings of Binance's USD-M futures WebSocket, as book and trade events.

A line is ``<local time> <json>``: a combined-stream frame, or the REST depth snapshot (it has
``lastUpdateId`` and no ``stream``). How a book is kept from both:
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/How-to-manage-a-local-order-book-correctly

Models may be trained on such books; a symbol is written as Bybit's linear one of the same name.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec
from msgspec import Struct

from bot.core.events import BookUpdate, FeedDown, FeedUp, Trade
from bot.core.instrument import E12_OF_TEXT
from bot.venue.archive_text import Place, lines
from bot.venue.payloads import MS

_AHEAD = 2_000
"""Messages that wait to be put in the order of the exchange's time: a snapshot comes late."""


class _Depth(Struct, gc=False):
    time: int = msgspec.field(name="T")
    first_u: int = msgspec.field(name="U")
    u: int
    previous_u: int = msgspec.field(name="pu")
    bids: list[tuple[str, str]] = msgspec.field(name="b")
    asks: list[tuple[str, str]] = msgspec.field(name="a")


class _Trade(Struct, gc=False):
    time: int = msgspec.field(name="T")
    id: int = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    qty: str = msgspec.field(name="q")
    is_sell: bool = msgspec.field(name="m")
    kind: str = msgspec.field(default="MARKET", name="X")


class _Snapshot(Struct, gc=False):
    last_u: int = msgspec.field(name="lastUpdateId")
    time: int = msgspec.field(name="T")
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class _Frame(Struct, gc=False):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    last_u: int = msgspec.field(default=0, name="lastUpdateId")


class Diff(Struct, gc=False, frozen=True):
    """A change of the book that follows the one with ``previous_u``; a snapshot follows none."""

    ts: int
    exchange_ts: int
    first_u: int
    previous_u: int
    update: BookUpdate


_E = TypeVar("_E", Trade, Diff)
_frame = msgspec.json.Decoder(_Frame).decode
_depth = msgspec.json.Decoder(_Depth).decode
_trade = msgspec.json.Decoder(_Trade).decode
_snapshot = msgspec.json.Decoder(_Snapshot).decode


def symbol_of(line: bytes) -> str | None:
    """The symbol's name if the line is of such a recording."""
    time, _, text = line.partition(b" ")
    if not time.isdigit():
        return None
    try:
        frame = _frame(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    name, _, topic = frame.stream.partition("@")
    return name.upper() if topic else None


def read_binance_trades(place: Place, symbol: str, delay_ns: int) -> Iterator[Trade]:
    """The market's trades. ``m`` says that the buyer was the maker, so the taker sold."""
    return _ordered(_trades(place, symbol, delay_ns))


def read_binance_book(place: Place, symbol: str, delay_ns: int) -> Iterator[Diff]:
    """Snapshots and diffs of one file."""
    return _ordered(_diffs(place, symbol, delay_ns))


def continuous_diffs(
    diffs: Iterable[tuple[Place, Diff]],
) -> Iterator[BookUpdate | FeedDown | FeedUp]:
    """The book from its first snapshot on, its gaps as events: a diff must follow the last one.

    After a snapshot the first diff is the one that reaches beyond it.
    """
    last_u, is_live, is_fresh = 0, False, False
    for place, diff in diffs:
        update = diff.update
        if update.snapshot:
            if is_live and update.u < last_u:
                continue  # an old picture of a book that is known
            if not is_live:
                yield FeedUp(update.ts, update.symbol, update.exchange_ts)
            last_u, is_live, is_fresh = update.u, True, True
            yield update
        elif not is_live or update.u <= last_u:
            continue
        elif diff.previous_u == last_u or (is_fresh and diff.first_u <= last_u + 1):
            last_u, is_fresh = update.u, False
            yield update
        else:
            place.report("gap", f"pu {diff.previous_u} after u {last_u}")
            is_live = False
            reason = f"gap: pu {diff.previous_u} after u {last_u}"
            yield FeedDown(update.ts, update.symbol, reason, update.exchange_ts)


def _trades(place: Place, symbol: str, delay_ns: int) -> Iterator[Trade]:
    number = E12_OF_TEXT
    for line in lines(place):
        try:
            frame = _frame(line.partition(b" ")[2])
            if not frame.stream.endswith("@trade"):
                continue
            trade = _trade(frame.data)
            if trade.kind != "MARKET":  # liquidations by the insurance fund cross no book
                continue
            stamp = trade.time * MS
            event = Trade(
                stamp + delay_ns, stamp, symbol, trade.id,
                "Sell" if trade.is_sell else "Buy", number[trade.price], number[trade.qty],
            )  # fmt: skip
        except ValueError as error:  # msgspec's and NumberError are ValueErrors
            place.bad_row(line, error)
            continue
        yield event


def _diffs(place: Place, symbol: str, delay_ns: int) -> Iterator[Diff]:
    number = E12_OF_TEXT
    for line in lines(place):
        text = line.partition(b" ")[2]
        try:
            frame = _frame(text)
            if frame.last_u:
                found = _snapshot(text)
                time, u, first_u, previous_u = found.time, found.last_u, 0, 0
                bids, asks = found.bids, found.asks
            elif "@depth" in frame.stream:
                diff = _depth(frame.data)
                time, u, first_u, previous_u = diff.time, diff.u, diff.first_u, diff.previous_u
                bids, asks = diff.bids, diff.asks
            else:
                continue
            stamp = time * MS
            update = BookUpdate(
                stamp + delay_ns, stamp, symbol, 0, u, u, bool(frame.last_u),
                [(number[price], number[qty]) for price, qty in bids],
                [(number[price], number[qty]) for price, qty in asks],
            )  # fmt: skip
        except ValueError as error:
            place.bad_row(line, error)
            continue
        yield Diff(update.ts, stamp, first_u, previous_u, update)


def _ordered(events: Iterable[_E]) -> Iterator[_E]:
    """By exchange time; equal times keep their order."""
    waiting: list[tuple[int, int, _E]] = []
    for count, event in enumerate(events):
        heapq.heappush(waiting, (event.exchange_ts, count, event))
        if len(waiting) > _AHEAD:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]
