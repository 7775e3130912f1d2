"""Archive files as one feed: the files of a series in a row, the series merged by exchange time.

However many files there are, one of each series is open at a time, and of each one event waits.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import structlog
from msgspec import Struct

from bot.core.events import Candle, Event, FundingRate, Instrument, Ticker
from bot.venue.archive_binance import continuous_diffs
from bot.venue.archive_book import continuous_book
from bot.venue.archive_kinds import Kind, Source, recognise_all
from bot.venue.archive_text import ArchiveError, Damage, Place
from bot.venue.archive_trades import with_candles, with_sequence

log = structlog.get_logger()

LATE_NS = 10**9
"""Repairing, an event stamped before its predecessor by no more keeps its place in the file."""
_ORDER: dict[Kind, int] = {
    "funding": 0, "marks": 1, "candles": 2, "trades": 3, "book": 4, "binance_book": 4,
}  # fmt: skip
"""At equal times. A book of a millisecond has that millisecond's trades in it."""
_RULES_NAME = "rules.json"

_Placed: TypeAlias = tuple[Place, Any]


class ArchiveOptions(Struct, frozen=True):
    """How archives become events.

    ``delay_ns`` is the modelled time from the exchange to the bot. ``repair`` goes on over damage.
    ``candles`` is the interval of bars to build from trades, "" for none. ``symbol``
    ("spot:BTCUSDT") is for files that do not name theirs.
    """

    delay_ns: int = 0
    repair: bool = False
    candles: str = ""
    symbol: str | None = None


class Archive:
    """The feed of some files and folders, for one reading.

    ``sources`` says what was found. ``damage.counts`` says after a reading what was repaired.
    """

    def __init__(self, paths: Sequence[Path], options: ArchiveOptions) -> None:
        """Raises ArchiveError where a path is missing or nothing that is read here."""
        self.options = options
        self.damage = Damage(repair=options.repair)
        self.sources = [source for path in paths for source in _sources(path, options.symbol)]

    def __iter__(self) -> Iterator[Event]:
        """In the order of exchange time. Raises ArchiveError for damage, unless repairing."""
        options, symbols = self.options, {source.symbol for source in self.sources}
        by_series: dict[tuple[str, str, str], list[Source]] = {}
        for source in sorted(self.sources, key=attrgetter("first_ns")):
            by_series.setdefault(source.series, []).append(source)
        ordered = sorted(by_series.values(), key=lambda files: _ORDER[files[0].kind])
        feeds = [_series(files, self.damage, options.delay_ns) for files in ordered]
        events: Iterator[Event] = heapq.merge(*feeds, key=attrgetter("exchange_ts"))
        events = with_sequence(events)
        if options.candles:
            events = with_candles(events, options.candles, options.delay_ns)
        first = next(events, None)
        if first is None:
            return
        yield from _rules(self.sources, symbols, first)
        yield first
        yield from events


# --- Finding ----------------------------------------------------------------------------------


def _sources(path: Path, symbol: str | None) -> Iterator[Source]:
    """A file named must be an archive; what else lies in a folder is left out."""
    if path.is_file():
        yield from recognise_all(path, symbol=symbol)
        return
    if not path.is_dir():
        raise ArchiveError(f"{path}: no such file or folder")
    found = 0
    for file in sorted(path.rglob("*")):
        if not file.is_file() or file.name.startswith(".") or file.name == _RULES_NAME:
            continue
        try:
            sources = recognise_all(file, symbol=symbol)
        except ArchiveError as error:
            log.warning("not read", error=str(error))
            continue
        found += 1
        yield from sources
    if not found:
        raise ArchiveError(f"{path}: holds no journal and no archive")


def _rules(sources: Iterable[Source], symbols: set[str], first: Event) -> Iterator[Instrument]:
    """The rules that a download left beside the files, or in a folder above them."""
    for source in sources:
        if source.symbol not in symbols:
            continue
        for folder in itertools.islice(source.path.absolute().parents, 2):
            file = folder / _RULES_NAME
            if not file.is_file():
                continue
            rules = read_rules(file)
            if rules.symbol == source.symbol:
                symbols.discard(source.symbol)
                yield msgspec.structs.replace(rules, ts=first.ts, exchange_ts=first.exchange_ts)


def read_rules(path: Path) -> Instrument:
    """What ``store.save_rules`` wrote. Raises ArchiveError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Instrument)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{path}: no rules of a symbol: {error}; download them again") from error


# --- One series -------------------------------------------------------------------------------


def _series(files: Sequence[Source], damage: Damage, delay_ns: int) -> Iterator[Event]:
    placed = _in_order(files, damage, delay_ns)
    match files[0].kind:
        case "book":
            return continuous_book(placed)
        case "binance_book":
            return continuous_diffs(placed)
        case "trades":
            return (event for _, event in placed)
        case "candles":
            return _continuous_bars(placed)
        case "marks" | "funding":
            return _once(placed)


def _in_order(files: Sequence[Source], damage: Damage, delay_ns: int) -> Iterator[_Placed]:
    """The files' events in a row, their times never falling.

    Repairing, what an earlier file has already covered is left out of a later one; an event that
    is a little late takes its predecessor's time, an older one is left out.
    """
    last_ns = covered_ns = 0
    for source in files:
        place = Place(source.path, damage)
        is_overlapping = False
        for event in source.read(place, delay_ns):
            stamp = event.exchange_ts
            if stamp < covered_ns:
                if not is_overlapping:
                    is_overlapping = True
                    place.report("overlap", f"begins at {stamp}, the file before ends {covered_ns}")
                continue
            if stamp < last_ns:
                place.report("unsorted", f"time {stamp} after {last_ns}")
                if last_ns - stamp > LATE_NS:
                    continue
                event = msgspec.structs.replace(event, ts=last_ns + delay_ns, exchange_ts=last_ns)  # noqa: PLW2901
            else:
                last_ns = stamp
            yield place, event
        covered_ns = last_ns


def _continuous_bars(placed: Iterable[_Placed]) -> Iterator[Candle]:
    """Each bar once; repairing, a hole stays a hole."""
    last: Candle | None = None
    for place, bar in placed:
        if last is not None and bar.open_ts != last.exchange_ts:
            what = f"a bar at {bar.open_ts // 10**6} ms, {last.exchange_ts // 10**6} was due"
            if bar.open_ts < last.exchange_ts:
                place.report("overlap", what)
                continue
            place.report("gap", what)
        last = bar
        yield bar


def _once(placed: Iterable[_Placed]) -> Iterator[Ticker | FundingRate]:
    last_ns = 0
    for place, event in placed:
        if event.exchange_ts == last_ns:
            place.report("overlap", f"time {last_ns} twice")
            continue
        last_ns = event.exchange_ts
        yield event


__all__ = ("Archive", "ArchiveError", "ArchiveOptions", "read_rules")
