"""What an archive file is, told from its content: its kind, symbol, interval and first time.

A name only helps where the content is silent: spot files and candle tables name no symbol.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from bot.venue import archive_binance, archive_book, archive_candles, archive_trades
from bot.venue.answers import interval_of
from bot.venue.archive_text import ArchiveError, Place, Unreported, head, lines
from bot.venue.topics import CATEGORIES

Kind: TypeAlias = Literal["book", "binance_book", "trades", "candles", "marks", "funding"]
_NAME = re.compile(
    r"(?<![A-Z0-9])([A-Z0-9]{1,20}(?:USDT|USDC|USDE|USD|EUR|BRL|TRY|BTC|ETH|SOL|PERP))(?![A-Z])"
)
_FOLDER_NAME = re.compile(r"[A-Z0-9]{2,30}")


class Source(Struct, frozen=True):
    """One file, what it speaks of, and how it is read: ``read(place, delay_ns)``.

    ``first_ns`` is the exchange time of its first event, 0 where it has none.
    """

    path: Path
    kind: Kind
    symbol: str
    read: Callable[[Place, int], Iterator[Any]]
    interval: str = ""
    first_ns: int = 0
    venue: str = "bybit"

    @property
    def series(self) -> tuple[str, str, str]:
        """Files of one series continue each other."""
        return self.kind, self.symbol, self.interval


def recognise(path: Path, *, symbol: str | None = None) -> Source:
    """Say what the file is. ``symbol`` ("spot:BTCUSDT") wins over what the name says.

    Raises ArchiveError for what is none of Bybit's archives, or whose symbol or interval nothing
    tells.
    """
    if symbol is not None and symbol.partition(":")[0] not in CATEGORIES:
        raise ArchiveError(f"symbol {symbol!r}: give linear:NAME or spot:NAME")
    line = head(path)
    source = _source(path, line, symbol)
    if source is None:
        shown = line[:80].decode("utf-8", "replace")
        raise ArchiveError(
            f"{path}: no archive of order books, trades, candles or funding: it begins {shown!r}"
        )
    first = next(source.read(Place(path, Unreported()), 0), None)
    return source if first is None else _starting(source, first.exchange_ts)


def recognise_all(path: Path, *, symbol: str | None = None) -> list[Source]:
    """As ``recognise``, for a file that may speak of more than one thing."""
    source = recognise(path, symbol=symbol)
    if source.kind != "binance_book":
        return [source]
    read = archive_binance.read_binance_trades
    trades = _of(path, "trades", source.symbol, read)
    return [source, msgspec.structs.replace(trades, first_ns=source.first_ns, venue="binance")]


def _source(path: Path, line: bytes, symbol: str | None) -> Source | None:
    if line.startswith(b"{"):
        name = archive_book.symbol_of(line)
        if name is not None:
            symbol = symbol or f"{_category(path, 'linear')}:{name}"
            return _of(path, "book", symbol, archive_book.read_book)
        return _answers(path, symbol)
    if (name := archive_binance.symbol_of(line)) is not None:
        read = archive_binance.read_binance_book
        book = _of(path, "binance_book", symbol or f"linear:{name}", read)
        return msgspec.structs.replace(book, venue="binance")
    names = {name.strip() for name in line.decode("utf-8", "replace").lower().split(",")}
    if names.issuperset(archive_trades.LINEAR_COLUMNS):
        symbol = symbol or f"linear:{_symbol_of_row(path, line)}"
        return _of(path, "trades", symbol, archive_trades.read_linear_trades)
    if names.issuperset(archive_trades.SPOT_COLUMNS):
        symbol = symbol or _symbol(path, "spot")
        return _of(path, "trades", symbol, archive_trades.read_spot_trades)
    if names.issuperset(archive_candles.CANDLE_COLUMNS):
        return _table(path, symbol or _symbol(path, "linear"))
    if names.issuperset(archive_candles.FUNDING_COLUMNS):
        symbol = symbol or _symbol(path, "linear")
        return _of(path, "funding", symbol, archive_candles.read_funding)
    if archive_candles.METATRADER_ROW.match(line):
        stamps = archive_candles.metatrader_stamps(Place(path, Unreported()))
        interval = _interval(path, stamps)
        symbol = symbol or _symbol(path, "linear")
        return _of(path, "candles", symbol, archive_candles.read_metatrader, interval)
    return None


def _table(path: Path, symbol: str) -> Source:
    interval = _interval(path, archive_candles.table_stamps(Place(path, Unreported())))
    if archive_candles.has_no_volume(Place(path, Unreported())):
        return _of(path, "marks", symbol, archive_candles.read_marks, interval)
    return _of(path, "candles", symbol, archive_candles.read_candles, interval)


def _answers(path: Path, symbol: str | None) -> Source | None:
    place = Place(path, Unreported())
    answer = next(archive_candles.answers_of(place), None)
    if answer is None or "list" not in answer.bars:
        return None
    named, category = answer.bars.get("symbol"), answer.bars.get("category")
    if symbol is None:
        known = f"{category or _category(path, 'linear')}:{named}" if named else None
        symbol = known or _symbol(path, "linear")
    interval = _interval(path, archive_candles.answer_stamps(Place(path, Unreported())))
    return _of(path, "candles", symbol, archive_candles.read_answers, interval)


def _of(
    path: Path, kind: Kind, symbol: str, reader: Callable[..., Iterator[Any]], interval: str = ""
) -> Source:
    known = (symbol, interval) if interval else (symbol,)
    return Source(path, kind, symbol, lambda place, delay: reader(place, *known, delay), interval)


def _starting(source: Source, first_ns: int) -> Source:
    return msgspec.structs.replace(source, first_ns=first_ns)


# --- What names tell --------------------------------------------------------------------------


def _symbol(path: Path, category: str) -> str:
    """The symbol of the file's name, else of a folder ``<category>/<SYMBOL>`` above it."""
    category = _category(path, category)
    found = _NAME.search(path.name)
    if found is not None:
        return f"{category}:{found[1]}"
    for folder, name in itertools.pairwise(path.parts):
        if folder in CATEGORIES and _FOLDER_NAME.fullmatch(name):
            return f"{folder}:{name}"
    raise ArchiveError(f"{path}: nothing names its symbol; give --symbol linear:NAME or spot:NAME")


def _category(path: Path, default: str) -> str:
    """``linear`` or ``spot`` at the start of the name, or a folder of that name above it."""
    prefix = path.name.partition("_")[0]
    for part in (prefix, *reversed(path.parts[:-1])):
        if part in CATEGORIES:
            return part
    return default


def _symbol_of_row(path: Path, header: bytes) -> str:
    """The symbol that the first row names, in a file that has a column for it."""
    column = header.decode().lower().split(",").index("symbol")
    rows = lines(Place(path, Unreported()))
    for line in itertools.islice(rows, 1, 2):
        cells = line.decode("utf-8", "replace").split(",")
        if column < len(cells) and _FOLDER_NAME.fullmatch(cells[column]):
            return cells[column]
    return _symbol(path, "linear").partition(":")[2]


def _interval(path: Path, stamps: Iterator[int]) -> str:
    """From the smallest step of its bars; a single bar leaves only the name to ask."""
    found = archive_candles.spacing_of(stamps) or _interval_of_name(path)
    if found is None:
        raise ArchiveError(
            f"{path}: its bars are of no interval of Bybit's (1, 3, 5, 15, 30, 60, 120, 240, 360, "
            "720, D, W)"
        )
    return found


def _interval_of_name(path: Path) -> str | None:
    """``5`` of ``BTCUSDT_5_2024-01-01...``, of ``5.csv.gz`` and of ``..._5m...``."""
    for found in re.finditer(r"(?:^|_)(\d{1,3}|D|W)(m|h|d)?(?=[_.]|$)", path.name):
        number, unit = found[1], found[2]
        if number in "DW":
            return number
        minutes = int(number) * {"h": 60, "d": 1_440}.get(unit, 1)
        name = interval_of(minutes * 60 * 10**9)
        if name is not None:
            return name
    return None
