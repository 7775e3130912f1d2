"""The local store of history: a folder a symbol, a table a series, replaced as a whole.

``<folder>/<category>/<SYMBOL>/<interval>.csv.gz`` holds candles, ``funding.csv.gz`` settled
rates, ``rules.json`` the venue's rules, ``trades/`` and ``orderbook/`` Bybit's daily files. A
table is CSV in gzip members, oldest row first; docs/data.md describes it. Every table is an
archive that ``archive_feed`` reads.
"""

from __future__ import annotations

import gzip
import os
import shutil
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from bot.core.events import Candle, FundingRate, Instrument
from bot.venue.answers import interval_ns
from bot.venue.archive_candles import FUNDING_COLUMNS, read_candles, read_funding
from bot.venue.archive_text import ArchiveError, Damage, Place, columns, lines
from bot.venue.payloads import MS
from bot.venue.topics import CATEGORIES

DEFAULT_FOLDER = Path("data/store")
TABLE_COLUMNS = ("ts_ms", "open", "high", "low", "close", "volume", "turnover")


class Span(Struct, frozen=True):
    """A stretch of time in ns, its end not included, and how many rows are missing in it."""

    start_ts: int
    end_ts: int
    missing: int = 0


class Store:
    """Where everything of a symbol ("linear:BTCUSDT") lies under ``folder``."""

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self.folder = folder

    def folder_of(self, symbol: str) -> Path:
        """Raises ArchiveError for a symbol that is not written ``category:NAME``."""
        category, _, name = symbol.partition(":")
        if category not in CATEGORIES or not (name.isascii() and name.isalnum()):
            raise ArchiveError(f"symbol {symbol!r}: give linear:NAME or spot:NAME")
        return self.folder / category / name

    def candle_table(self, symbol: str, interval: str) -> Table:
        """Raises ArchiveError for a damaged table, ValueError for an unknown interval."""
        interval_ns(interval)
        return Table(self.folder_of(symbol) / f"{interval}.csv.gz", TABLE_COLUMNS)

    def funding_table(self, symbol: str) -> Table:
        """Raises ArchiveError for a damaged table."""
        return Table(self.folder_of(symbol) / "funding.csv.gz", FUNDING_COLUMNS)

    def candles(self, symbol: str, interval: str) -> Iterator[Candle]:
        """The stored bars, oldest first; none where nothing is stored. Raises ArchiveError."""
        path = self.folder_of(symbol) / f"{interval}.csv.gz"
        if not path.exists():
            return iter(())
        return read_candles(Place(path, Damage()), symbol, interval, 0)

    def funding(self, symbol: str) -> Iterator[FundingRate]:
        """The stored rates, oldest first; none where nothing is stored. Raises ArchiveError."""
        path = self.folder_of(symbol) / "funding.csv.gz"
        if not path.exists():
            return iter(())
        return read_funding(Place(path, Damage()), symbol, 0)

    def save_rules(self, rules: Instrument) -> Path:
        """Keep the rules where a replay of the symbol's files finds them."""
        path = self.folder_of(rules.symbol) / "rules.json"
        text = msgspec.json.format(msgspec.json.encode(rules), indent=2)
        _replace(path, text + b"\n")
        return path


class Table:
    """One table: rows by their time, each once. ``add`` is all or nothing, whatever happens.

    ``stamps`` are the rows' times in ms, oldest first.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Raises ArchiveError where the file is damaged or is another table."""
        self.path = path
        self._header = ",".join(names).encode() + b"\n"
        self.stamps = array("q", self._stored_stamps() if path.exists() else ())

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def last_ts(self) -> int | None:
        """The newest row's time in ns."""
        return self.stamps[-1] * MS if self.stamps else None

    def add(self, rows: Iterable[tuple[int, str]]) -> int:
        """Add rows (time in ns, the row's text without its time); returns how many were new.

        A row whose time is there already is left as it is. Raises OSError from the disk; then
        the table is what it was.
        """
        have = set(self.stamps) if self.stamps else set()
        new = {ts // MS: text for ts, text in rows if ts // MS not in have}
        if not new:
            return 0
        stamps = sorted(new)
        text = b"".join(b"%d,%b\n" % (stamp, new[stamp].encode()) for stamp in stamps)
        if not self.stamps:
            _replace(self.path, _member(self._header + text))
        elif stamps[0] > self.stamps[-1]:
            _replace(self.path, _member(text), behind=self.path)
        else:
            _replace(self.path, _member(self._header + self._merged(stamps, new)))
        self.stamps = array("q", sorted([*self.stamps, *stamps]))
        return len(new)

    def holes(self, start_ts: int, end_ts: int, step_ns: int) -> list[Span]:
        """Where rows are missing that should be there every ``step_ns`` from ``start_ts`` on."""
        step, due, end = step_ns // MS, start_ts // MS, end_ts // MS
        found: list[Span] = []
        for stamp in self.stamps[bisect_left(self.stamps, due) :]:
            if stamp >= end:
                break
            if stamp > due:
                found.append(Span(due * MS, stamp * MS, (stamp - due) // step))
            due = stamp + step
        if due < end:
            found.append(Span(due * MS, end * MS, -(-(end - due) // step)))
        return found

    def _stored_stamps(self) -> Iterator[int]:
        last = -1
        for stamp, _ in self._rows():
            if stamp <= last:
                raise ArchiveError(f"{self.path}: ts_ms {stamp} after {last}; delete the table")
            last = stamp
            yield stamp

    def _rows(self) -> Iterator[tuple[int, bytes]]:
        place = Place(self.path, Damage())
        rows = lines(place)
        header = next(rows, b"")
        columns(place, header, self._header.decode().strip().split(","))
        for line in rows:
            stamp, _, text = line.partition(b",")
            if not stamp.isdigit():
                raise ArchiveError(f"{place}: ts_ms is {stamp[:40]!r}; delete the table")
            yield int(stamp), text

    def _merged(self, stamps: Sequence[int], new: dict[int, str]) -> bytes:
        rows = [*self._rows(), *((stamp, new[stamp].encode()) for stamp in stamps)]
        return b"".join(b"%d,%b\n" % row for row in sorted(rows))


def candle_row(bar: Candle) -> tuple[int, str]:
    """A bar as its table has it."""
    numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.turnover)
    return bar.open_ts, ",".join(f"{number:f}" for number in numbers)


def funding_row(rate: FundingRate) -> tuple[int, str]:
    """A settled rate as its table has it."""
    return rate.funding_ts, f"{rate.rate:f}"


def _member(text: bytes) -> bytes:
    return gzip.compress(text, 6, mtime=0)


def _replace(path: Path, data: bytes, behind: Path | None = None) -> None:
    """Write ``data``, behind a copy of a file or alone, and put it in the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        if behind is not None:
            shutil.copyfile(behind, draft)
        with draft.open("ab" if behind is not None else "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
