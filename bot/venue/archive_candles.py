"""Files of bars and funding rates as events: candle tables, REST answers, MetaTrader's klines.

A candle table has the columns ``ts_ms,open,high,low,close,volume`` and perhaps ``turnover``;
``ts_ms`` is when the bar opens. A table without volumes is one of mark prices. Times are UTC but
in the MetaTrader files (https://public.bybit.com/kline_for_metatrader4/), which have UTC+3.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from bot.core.events import Candle, FundingRate, Ticker
from bot.venue.answers import MalformedAnswer, interval_ns, interval_of, parse_bars
from bot.venue.archive_text import ArchiveError, Place, columns, lines
from bot.venue.archive_trades import ns_of_ms

CANDLE_COLUMNS = ("ts_ms", "open", "high", "low", "close", "volume")
FUNDING_COLUMNS = ("ts_ms", "funding_rate")
METATRADER_ROW = re.compile(rb"\d{4}\.\d\d\.\d\d \d\d:\d\d,")
_METATRADER_ZONE = timezone(timedelta(hours=3))
_ANSWERS_MAX_BYTES = 256 << 20
_ROWS_LOOKED_AT = 100
_ZERO = Decimal(0)

Cells: TypeAlias = tuple[int, tuple[Decimal, ...]]
"""When a bar opens, in ns, and its open, high, low, close, volume and turnover."""


class Answer(Struct):
    """A REST answer to /v5/market/kline, whole or only its ``result``."""

    result: dict[str, Any] = {}
    entries: list[Any] | None = msgspec.field(default=None, name="list")
    category: str = ""
    symbol: str = ""

    @property
    def bars(self) -> dict[str, Any]:
        if self.entries is None:
            return self.result
        return {"list": self.entries, "category": self.category, "symbol": self.symbol}


_answer = msgspec.json.Decoder(Answer)


# --- Readers ----------------------------------------------------------------------------------


def read_candles(place: Place, symbol: str, interval: str, delay_ns: int) -> Iterator[Candle]:
    """A candle table's bars. A turnover that the file does not have is 0."""
    length_ns = interval_ns(interval)
    for open_ts, (opened, high, low, close, volume, turnover) in _table_rows(place):
        stamp = open_ts + length_ns
        yield Candle(
            stamp + delay_ns, stamp, symbol, interval, open_ts,
            opened, high, low, close, volume, turnover,
        )  # fmt: skip


def read_marks(place: Place, symbol: str, interval: str, delay_ns: int) -> Iterator[Ticker]:
    """A mark-price table: at the end of each bar, the mark is its close."""
    length_ns = interval_ns(interval)
    for open_ts, cells in _table_rows(place):
        stamp = open_ts + length_ns
        yield Ticker(stamp + delay_ns, stamp, symbol, mark=cells[3])


def read_metatrader(place: Place, symbol: str, interval: str, delay_ns: int) -> Iterator[Candle]:
    """A MetaTrader kline file: no header, minutes of UTC+3; it has no turnover."""
    length_ns = interval_ns(interval)
    for line in lines(place):
        try:
            open_ts, (opened, high, low, close, volume, _) = _metatrader_cells(line)
        except (ValueError, ArithmeticError) as error:
            place.bad_row(line, error)
            continue
        stamp = open_ts + length_ns
        yield Candle(
            stamp + delay_ns, stamp, symbol, interval, open_ts,
            opened, high, low, close, volume, _ZERO,
        )  # fmt: skip


def read_answers(place: Place, symbol: str, interval: str, delay_ns: int) -> Iterator[Candle]:
    """REST kline answers, one a line or one over all lines, oldest bar first.

    The answers of one symbol may overlap and come in any order, as paging makes them.
    """
    bars: dict[int, Candle] = {}
    for answer in answers_of(place):
        try:
            parsed = parse_bars(symbol, interval, answer.bars)
        except MalformedAnswer as error:
            place.report("bad row", str(error))
            continue
        bars.update((bar.open_ts, bar) for bar in parsed)
    for _, bar in sorted(bars.items()):
        yield msgspec.structs.replace(bar, ts=bar.exchange_ts + delay_ns)


def read_funding(place: Place, symbol: str, delay_ns: int) -> Iterator[FundingRate]:
    """A table of settled funding rates."""
    cells: Callable[[bytes], list[str]] | None = None
    for line in lines(place):
        if cells is None:
            cells = columns(place, line, FUNDING_COLUMNS)
            continue
        try:
            time, text = cells(line)
            stamp, rate = ns_of_ms(time), _finite(text)
        except (ValueError, ArithmeticError) as error:
            place.bad_row(line, error)
            continue
        yield FundingRate(stamp + delay_ns, stamp, symbol, rate, stamp)


# --- What a file holds ------------------------------------------------------------------------


def answers_of(place: Place) -> Iterator[Answer]:
    """The answers of a file. Raises ArchiveError for one that is too long to be read at once."""
    whole: list[bytes] = []
    size = 0
    for line in lines(place):
        if not whole:
            try:
                yield _answer.decode(line)
                continue
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                if place.line > 1:
                    place.bad_row(line, _as_value_error(error))
                    continue
        whole.append(line)
        size += len(line)
        if size > _ANSWERS_MAX_BYTES:
            raise ArchiveError(f"{place.path}: over {_ANSWERS_MAX_BYTES} bytes of one JSON value")
    if whole:
        place.line = 1
        text = b"\n".join(whole)
        try:
            yield _answer.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            place.bad_row(text, _as_value_error(error))


def spacing_of(stamps: Iterable[int]) -> str | None:
    """Bybit's name for the smallest step between the first bars; None if there is none."""
    first = list(itertools.islice(stamps, _ROWS_LOOKED_AT))
    steps = [after - before for before, after in itertools.pairwise(sorted(set(first)))]
    return interval_of(min(steps)) if steps else None


def has_no_volume(place: Place) -> bool:
    """Whether the first row's volume is empty. A market that does not trade writes 0."""
    sheet = lines(place)
    header, row = next(sheet, b""), next(sheet, b"")
    try:
        return not columns(place, header, ("volume", "volume"))(row)[0]
    except ValueError:
        return False


def table_stamps(place: Place) -> Iterator[int]:
    return (open_ts for open_ts, _ in _table_rows(place))


def metatrader_stamps(place: Place) -> Iterator[int]:
    for line in lines(place):
        try:
            yield _metatrader_cells(line)[0]
        except (ValueError, ArithmeticError) as error:
            place.bad_row(line, error)


def answer_stamps(place: Place) -> Iterator[int]:
    for answer in answers_of(place):
        for row in answer.bars.get("list", []):
            try:
                yield ns_of_ms(str(row[0]))
            except (ValueError, ArithmeticError, LookupError, TypeError) as error:
                place.report("bad row", f"{error!r} in {row!r:.120}")


def _table_rows(place: Place) -> Iterator[Cells]:
    cells: Callable[[bytes], list[str]] | None = None
    for line in lines(place):
        if cells is None:
            has_turnover = b"turnover" in line.lower()
            wanted = CANDLE_COLUMNS + (("turnover",) if has_turnover else ())
            cells = columns(place, line, wanted)
            continue
        try:
            time, *numbers = cells(line)
            row = _bar(numbers)
            open_ts = ns_of_ms(time)
        except (ValueError, ArithmeticError) as error:
            place.bad_row(line, error)
            continue
        yield open_ts, row


def _metatrader_cells(line: bytes) -> Cells:
    time, *numbers = line.decode().split(",")
    if len(numbers) != 5:
        raise ValueError(f"{len(numbers) + 1} columns, not 6,")
    local = datetime.strptime(time, "%Y.%m.%d %H:%M").replace(tzinfo=_METATRADER_ZONE)
    return int(local.astimezone(UTC).timestamp()) * 10**9, _bar(numbers)


def _bar(texts: list[str]) -> tuple[Decimal, ...]:
    """Raises ValueError for a bar that cannot have been traded."""
    opened, high, low, close = (_finite(text) for text in texts[:4])
    volume, turnover = (_finite(text) if text else _ZERO for text in (*texts[4:], "", "")[:2])
    if not 0 < low <= min(opened, close) <= max(opened, close) <= high:
        raise ValueError(f"open, high, low, close {', '.join(texts[:4])} do not fit each other")
    if volume < 0 or turnover < 0:
        raise ValueError(f"volume or turnover {', '.join(texts[4:])} is negative")
    return opened, high, low, close, volume, turnover


def _finite(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(f"{text!r} is not a finite number")
    return number


def _as_value_error(error: Exception) -> ValueError:
    return ValueError(f"not an answer of Bybit's: {error}")
