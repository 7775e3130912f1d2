"""What a backtest reads: files, symbols, bars or books, made into inputs with their settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import structlog
from msgspec import Struct

from bot import build
from bot.config import Settings
from bot.config_trade import StrategyUse
from bot.core.errors import PlainError
from bot.core.events import Candle, Event, Input, Instrument, Trade
from bot.core.instrument import to_e12
from bot.replay import ReplayOptions, open_recording
from bot.research.candle_market import CandleMarket, guessed_rules
from bot.research.timing import between, with_ticks
from bot.venue.answers import interval_ns
from bot.venue.archive_feed import Archive, ArchiveOptions
from bot.venue.store import Store

log = structlog.get_logger()

Predictions: TypeAlias = Literal["recorded", "chunked", "none"]
_TICK_NS = 10**9
_LOOK_AHEAD_BARS = 400
_EVER = 1 << 62


class BacktestError(PlainError):
    """A backtest cannot be made of this; the text says of what, why, and what to do."""


class BacktestOptions(Struct, frozen=True):
    """What the command line adds to the settings. Times are in ns, UTC.

    Without ``paths`` the store's tables of the configured symbols and interval are read.
    """

    paths: tuple[Path, ...] = ()
    store: Path = Path("data/store")
    symbols: tuple[str, ...] = ()
    start_ns: int | None = None
    end_ns: int | None = None
    predictions: Predictions | None = None
    archive: ArchiveOptions = ArchiveOptions()


class Market(Struct):
    """What will be read: inputs for one reading, and the settings that go with them."""

    settings: Settings
    make: Callable[[], Iterable[Input]]
    predictions: Predictions
    kind: Literal["candles", "events", "journal"]
    run_id: str | None = None
    guessed: tuple[str, ...] = ()
    barred: frozenset[str] = frozenset()
    """The symbols of which bars are all there is."""
    ahead_tokens: int = 4_096
    """Tokens of one sequence that a model takes at once, at most."""


def market(settings: Settings, options: BacktestOptions, *, is_chosen: bool) -> Market:
    """Open what is named. A journal's own settings hold unless others were chosen.

    Raises BacktestError, ReplayError, ArchiveError, JournalError and CaptureError.
    """
    paths = options.paths or _stored(settings, options)
    reading = ReplayOptions(also=tuple(paths[1:]), archive=options.archive)
    recording = open_recording(paths[0], reading)
    if isinstance(recording.inputs, Archive):
        return _archive_market(settings, options, paths, recording.inputs)
    if recording.settings is not None and not is_chosen:
        settings = recording.settings.model_copy(
            update={"ledger": settings.ledger, "backtest": settings.backtest}
        )
    predictions = options.predictions or ("recorded" if recording.is_journal else "chunked")
    if predictions == "recorded" and not recording.is_journal:
        raise BacktestError(f"{paths[0]}: has no recorded predictions: use chunked or none")

    def make() -> Iterator[Input]:
        inputs: Iterable[Input] = open_recording(paths[0], reading).inputs
        if recording.settings is None:
            inputs = with_ticks(itertools.chain(build.fees(settings, 0), inputs), _TICK_NS)
        return between(inputs, options.start_ns, options.end_ns, _EVER)

    kind: Literal["events", "journal"] = "journal" if recording.is_journal else "events"
    return Market(settings, make, predictions, kind, recording.run_id)


def _stored(settings: Settings, options: BacktestOptions) -> tuple[Path, ...]:
    """The store's candles and funding of the symbols asked for."""
    store, found = Store(options.store), []
    for symbol in options.symbols or settings.symbols:
        folder = store.folder_of(symbol)
        candles = folder / f"{settings.feed.interval}.csv.gz"
        if not candles.is_file():
            raise BacktestError(
                f"{candles}: not there: name files, or `bot download klines --symbol {symbol} "
                f"--interval {settings.feed.interval}`"
            )
        found += [candles, *(path for path in [folder / "funding.csv.gz"] if path.is_file())]
    return tuple(found)


def _archive_market(
    settings: Settings, options: BacktestOptions, paths: tuple[Path, ...], archive: Archive
) -> Market:
    chosen = _with_symbols(settings, options, archive)
    books = {source.symbol for source in archive.sources if source.kind == "book"}
    barred = [symbol for symbol in chosen.symbols if symbol not in books]
    interval = _interval(chosen, options, archive, barred)
    if interval != chosen.feed.interval:
        log.info("the files' interval is used", interval=interval, config=chosen.feed.interval)
        feed = chosen.feed.model_copy(update={"interval": interval})
        chosen = chosen.model_copy(update={"feed": feed})
    if barred:
        _require_latency(chosen)
    rules, guessed = _rules(Archive(paths, options.archive), barred, interval)
    markets = {symbol: (interval, interval_ns(interval)) for symbol in barred}
    bar_ns = interval_ns(interval)
    only_bars = len(barred) == len(chosen.symbols)
    history_ns = settings.backtest.warmup_candles * bar_ns if only_bars else _EVER
    first_ns = (options.start_ns or 0) - history_ns
    wanted = frozenset(chosen.symbols)

    def make() -> Iterator[Input]:
        source = _of(Archive(paths, options.archive), wanted, frozenset(barred), first_ns)
        spread = to_e12(settings.backtest.candle_spread)
        events = CandleMarket(source, markets, spread=spread)
        opened = itertools.chain(build.fees(chosen, 0), rules, events)
        ticked = with_ticks(opened, bar_ns if only_bars else _TICK_NS)
        return between(ticked, options.start_ns, options.end_ns, history_ns)

    predictions = options.predictions or "chunked"
    if predictions == "recorded":
        raise BacktestError(f"{paths[0]}: has no recorded predictions: use chunked or none")
    if only_bars:
        chosen = _without_analyzer(chosen)
    kind: Literal["candles", "events"] = "candles" if barred else "events"
    return Market(chosen, make, predictions, kind, guessed=guessed, barred=frozenset(barred))


def _of(
    archive: Iterable[Event], wanted: frozenset[str], barred: frozenset[str], first_ns: int
) -> Iterator[Event]:
    """The events of the symbols wanted; where bars make the market, its trades do not.

    Bars before ``first_ns`` are left out.
    """
    for event in archive:
        symbol = getattr(event, "symbol", None)
        if symbol is None or symbol in wanted:
            kind = type(event)
            if kind is Trade and symbol in barred:
                continue
            if kind is Candle and event.exchange_ts < first_ns:
                continue
            yield event


def _with_symbols(settings: Settings, options: BacktestOptions, archive: Archive) -> Settings:
    """The settings for the symbols that the files have, or for those of them asked for."""
    found = tuple(dict.fromkeys(
        source.symbol for source in archive.sources if source.kind in ("book", "candles", "trades")
    ))  # fmt: skip
    missing = [symbol for symbol in options.symbols if symbol not in found]
    if missing or not found:
        raise BacktestError(
            f"no market of {', '.join(missing) or 'any symbol'} in the files, they have "
            f"{', '.join(found) or 'neither books nor candles'}"
        )
    symbols = options.symbols or found
    uses: list[StrategyUse] = []
    for use in settings.strategies:
        kept = tuple(symbol for symbol in use.symbols if symbol in symbols)
        if use.symbols and not kept:
            log.warning(
                "left out, none of its symbols is in the files", strategy=use.name or use.use
            )
            continue
        uses.append(use.model_copy(update={"symbols": kept}))
    if settings.strategies and not uses:
        raise BacktestError(
            f"no strategy trades {', '.join(symbols)}: name one with --strategy module.Class, or "
            "give those of config.yaml such `symbols`"
        )
    return settings.model_copy(update={"symbols": symbols, "strategies": tuple(uses)})


def _interval(
    settings: Settings, options: BacktestOptions, archive: Archive, barred: list[str]
) -> str:
    """The configured interval where the files have it, else their shortest."""
    configured = options.archive.candles or settings.feed.interval
    shortest = ""
    for symbol in barred:
        found = {
            source.interval for source in archive.sources
            if source.kind == "candles" and source.symbol == symbol
        }  # fmt: skip
        if options.archive.candles:
            found.add(options.archive.candles)
        if not found:
            raise BacktestError(
                f"{symbol}: has trades but neither books nor candles: build candles from them "
                "with --build-candles 1"
            )
        best = configured if configured in found else min(found, key=interval_ns)
        if shortest and best != shortest:
            raise BacktestError(
                f"candles of {shortest} and of {best} ({symbol}): give files of one interval"
            )
        shortest = best
    return shortest or configured


def _without_analyzer(settings: Settings) -> Settings:
    """Bars show no order book, so its analyzer has nothing to read."""
    models = settings.models
    analyzer = models.analyzer.model_copy(update={"enabled": False})
    return settings.model_copy(update={"models": models.model_copy(update={"analyzer": analyzer})})


def _require_latency(settings: Settings) -> None:
    exchange = settings.exchange
    if exchange.order_latency_ms - 3.5 * exchange.latency_jitter_ms <= 0:
        raise BacktestError(
            f"exchange.order_latency_ms = {exchange.order_latency_ms:g} with latency_jitter_ms = "
            f"{exchange.latency_jitter_ms:g}: on candles it must be above 3.5 times the jitter, or "
            "an order could meet the close that it was decided on"
        )


def _rules(
    archive: Archive, barred: list[str], interval: str
) -> tuple[list[Event], tuple[str, ...]]:
    """Rules for the candle symbols that come without: guessed from how the first bars look.

    Raises BacktestError for files without an event.
    """
    first: dict[str, list[Candle]] = {symbol: [] for symbol in barred}
    known: set[str] = set()
    count = 0
    for count, event in enumerate(archive, 1):  # noqa: B007 - told below
        if isinstance(event, Instrument):
            known.add(event.symbol)
        if isinstance(event, Candle) and event.interval == interval and event.symbol in first:
            first[event.symbol].append(event)
        if all(symbol in known or len(first[symbol]) >= _LOOK_AHEAD_BARS for symbol in barred):
            break
    if not count:
        names = ", ".join(sorted({str(source.path) for source in archive.sources}))
        raise BacktestError(f"{names}: no event in it: give files with rows")
    guessed = tuple(symbol for symbol in barred if symbol not in known and first[symbol])
    if guessed:
        log.warning("rules guessed from the bars: `bot download rules` has them", symbols=guessed)
    return [guessed_rules(first[symbol]) for symbol in guessed], guessed
