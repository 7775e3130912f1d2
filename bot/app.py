"""The only place that chooses: which venue, which ledger, which models make up a run."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from bot import __version__, build, feeds, local_venue, operations
from bot.alarm import Alarm
from bot.begin import Begun, begin, record_of
from bot.config import Settings
from bot.core.events import Command, CommandName, Event, Instrument
from bot.core.instrument import amount, to_e8
from bot.garbage import rare_collections
from bot.inbox import Inbox
from bot.ledger.database import redacted
from bot.ledger.instruments import kept_rules
from bot.ledger.journal import JournalWriter
from bot.ledger.runs import finish_run, record_models, start_run
from bot.ledger.schema import open_ledger
from bot.live import Live, Repairs
from bot.local_venue import LocalVenue, Urls
from bot.missed_funding import MissedFunding
from bot.observe import Observer
from bot.restart import RunError
from bot.run import WARMUP, money, scores, shadows
from bot.secret_values import api_key
from bot.signals import ending
from bot.terms import Terms, answered
from bot.threads import behind_the_loop
from bot.venue.address import rest_url
from bot.venue.rest import Rest
from bot.venue.stream import MarketStream

log = structlog.get_logger()

SWITCH_EVERY_S = 0.0005
"""The inference thread gives the interpreter to a loop that waits for it within that time; Python's
own 5 ms would be the loop's lag whenever a model reads."""
CLEAN_ENDS = ("user", "time", operations.MQTT)


class PaperOptions(Struct, frozen=True):
    """What the command line adds to the settings. ``venue`` is "bybit" or "local"."""

    venue: str = "bybit"
    seconds: float | None = None
    is_new: bool = False
    config: Path | None = None


class _Paper(Struct):
    """The parts of one paper run."""

    settings: Settings
    options: PaperOptions
    ledger: AsyncEngine
    inbox: Inbox
    rest: Rest
    terms: Terms
    begun: Begun
    models: dict[str, Any]
    streams: list[MarketStream]
    venue: LocalVenue | None
    announce: Callable[[str], None]

    @property
    def folder(self) -> Path:
        return self.settings.journal.folder / self.begun.id


async def paper(
    settings: Settings, options: PaperOptions, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Trade on paper until the time is up, Ctrl-C or SIGTERM; returns the summary.

    ``announce`` is told the dashboard's address, its token in it.

    Raises RunError, StrategyError, VenueUnreachable, LedgerError, CheckpointError, ...: each is
    one line for the user.
    """
    async with AsyncExitStack() as stack:
        asyncio.get_running_loop().set_default_executor(behind_the_loop())
        build.engine(settings)  # A strategy that cannot be loaded is told before anything starts.
        ledger = await open_ledger(settings.ledger.db)
        stack.push_async_callback(ledger.dispose)
        venue = None
        if options.venue == "local":
            venue = await stack.enter_async_context(local_venue.started(settings))
        urls = Urls(settings.network, settings.network) if venue is None else venue.urls
        inbox = Inbox(settings.feed.queue_size)
        rest = Rest(
            rest_url(urls.rest),
            now=inbox.now,
            timeout_s=settings.feed.connect_timeout_s,
            key=api_key(settings),
        )
        stack.push_async_callback(rest.close)
        begun = await begin(settings, ledger, inbox, is_new=options.is_new)
        missed = MissedFunding(begun.run.engine.market)
        terms = Terms(rest, inbox, settings.symbols, funding=missed.read)
        kept = await kept_rules(ledger, settings.symbols)
        await _open_market(settings, rest, terms, kept, inbox)
        made = _Paper(
            settings,
            options,
            ledger,
            inbox,
            rest,
            terms,
            begun,
            _models(settings),
            feeds.streams(
                settings.symbols, feeds.usual_topics(settings.feed), settings.feed, urls.ws, inbox
            ),
            venue,
            announce,
        )
        return await _serve(made)


async def _serve(made: _Paper) -> dict[str, Any]:
    run, writer = made.begun.run, made.begun.writer
    started = time.monotonic()
    journal = _journal(made)
    if not made.begun.is_continued:
        await _record_start(made)
    await _record_models(made)
    kept = made.settings.ledger
    live = Live(
        run, made.inbox, journal, writer, made.terms, snapshot_s=kept.snapshot_s, away_s=kept.away_s
    )
    run.watchers.append(Repairs(run.codec.book_topic, made.streams))
    observer = _observer(made)
    run.watchers.append(observer)
    log.info("paper run", venue=made.options.venue, symbols=list(made.settings.symbols))
    parts = operations.Beside(
        made.settings, made.ledger, made.inbox, made.begun, live, made.options.config
    )
    async with (
        _inference(made, live, observer),
        operations.beside_run(parts) as beside,
    ):
        watching = _watching(made, live, observer)
        gc.collect()  # before what is left is frozen
        sys.setswitchinterval(SWITCH_EVERY_S)
        with rare_collections(), ending(_stop(live)):
            await _unwrapped(live.serve([*_feeds(made, live), *watching, *beside.feeds()]))
    summary = _summary(made, live, time.monotonic() - started) | _load(observer)
    await finish_run(
        made.ledger,
        made.begun.id,
        ended_ts=made.inbox.now(),
        status="finished" if summary["clean"] else "failed",
        summary=summary,
    )
    return summary


def _journal(made: _Paper) -> JournalWriter:
    settings = made.settings
    header = {
        "config": record_of(settings),
        "venue": made.options.venue,
        "code_version": __version__,
        "models": _hashes(made),
    }
    try:
        journal = JournalWriter(
            made.folder,
            header,
            chunk_entries=settings.journal.chunk_entries,
            chunk_s=settings.journal.chunk_s,
        )
    except OSError as error:
        raise RunError(f"{made.folder}: cannot be written: {error.strerror}") from error
    position = made.begun.run.position
    if journal.position != position:
        raise RunError(
            f"{made.folder}: {journal.position} inputs on disk, {position} stepped: the "
            "journal is damaged; start a new run with --new"
        )
    return journal


async def _record_start(made: _Paper) -> None:
    await start_run(
        made.ledger,
        made.begun.id,
        mode="paper",
        instance=made.settings.instance,
        started_ts=made.inbox.now(),
        config=record_of(made.settings),
        code_version=__version__,
        seed=made.settings.exchange.seed,
        models=_hashes(made),
        journal=str(made.folder),
        deposits={"USDT": amount(to_e8(made.settings.account.usdt))},
    )


async def _record_models(made: _Paper) -> None:
    """Which weights predict from here on; a continued run may have others than before."""
    cards = {role: model.card for role, model in made.models.items()}
    await record_models(
        made.ledger, made.begun.id, made.begun.run.position, made.inbox.now(),
        [(role, c.name, c.weights_sha256, c.trained) for role, c in cards.items()],
    )  # fmt: skip


def _hashes(made: _Paper) -> dict[str, str]:
    return {name: model.card.weights_sha256 for name, model in made.models.items()}


def _feeds(made: _Paper, live: Live) -> list[Coroutine[Any, Any, None]]:
    served = [stream.run() for stream in made.streams]
    if made.options.seconds is not None:
        served.append(_stop_after(live, made.options.seconds))
    if made.venue is not None:
        served.append(_stop_with(live, made.venue))
    return served


def _observer(made: _Paper) -> Observer:
    return Observer(
        made.begun.run,
        made.inbox,
        made.begun.writer,
        made.streams,
        symbols=made.settings.symbols,
        instance=made.settings.instance,
        started_ts=made.inbox.now(),
        models=tuple(model.card.name for model in made.models.values()),
    )


def _watching(made: _Paper, live: Live, observer: Observer) -> list[Coroutine[Any, Any, None]]:
    settings = made.settings
    if not (settings.dashboard.enabled or settings.metrics.enabled):
        return [observer.watch()]
    from bot import serve_dashboard  # noqa: PLC0415 - a web server, which runs without one save

    served = serve_dashboard.beside(
        settings, made.begun.id, observer, made.inbox, live, made.announce
    )
    return [observer.watch(), *served]


async def _stop_after(live: Live, seconds: float) -> None:
    await asyncio.sleep(seconds)
    live.stop("time", f"{seconds:g} s are over")


async def _stop_with(live: Live, venue: LocalVenue) -> None:
    code = await venue.wait()
    live.stop("venue", f"the local venue ended with code {code}")


async def _unwrapped(serving: Coroutine[Any, Any, None]) -> None:
    """Await it; of a group of errors, the first says what happened."""
    try:
        await serving
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group


def _stop(live: Live) -> Callable[[str], None]:
    """What a signal does to a run: it ends cleanly."""

    def stop(name: str) -> None:
        log.info("stopping: orders are cancelled, the ledger is completed", signal=name)
        live.stop("user", name)

    return stop


# --- the parts --------------------------------------------------------------------------------


def _models(settings: Settings) -> dict[str, Any]:
    """The checkpoints in use. torch is loaded here, and only if a model is enabled."""
    if not settings.models.is_any_enabled:
        return {}
    from bot import inference  # noqa: PLC0415 - 2 s and 200 MB, which runs without models save

    models = inference.checkpoints(settings)
    for name, model in models.items():
        if not model.card.trained:
            log.warning("UNTRAINED model: its predictions mean nothing", model=name)
    return models


@asynccontextmanager
async def _inference(made: _Paper, live: Live, observer: Observer) -> AsyncIterator[None]:
    """The inference thread, fed by the run and feeding its queue."""
    if not made.models:
        yield
        return
    from bot import inference  # noqa: PLC0415 - as above

    worker, caches = inference.worker(
        made.settings,
        made.models,
        publish=live.publish,
        failed=live.model_failed,
        clock_ns=time.time_ns,
    )

    def offer(position: int, event: Event, facts: object) -> None:
        del facts
        worker.offer(event, position)

    def speak(name: CommandName, source: str, reason: str) -> None:
        log.error("the models' alarm", command=name, source=source, reason=reason)
        live.put(Command(made.inbox.now(), name, source, reason))

    run = made.begun.run
    run.watchers += [offer, Alarm(made.settings.models.watch, run.scoring, worker.drift, speak)]
    observer.inference = lambda: inference.state_of(worker, caches)
    worker.start()
    try:
        yield
    finally:
        await asyncio.to_thread(worker.close)


async def _open_market(
    settings: Settings, rest: Rest, terms: Terms, kept: Sequence[Instrument], inbox: Inbox
) -> None:
    """Queue what must be known before trading; history passes with trading paused."""
    inbox.put(Command(inbox.now(), "pause", WARMUP))
    for fees in build.fees(settings, inbox.now()):
        inbox.put(fees)
    await terms.open(kept)
    feed = settings.feed
    for symbol in settings.symbols:
        history = rest.candles(symbol, feed.interval, feed.warmup_candles)
        candles = await answered(history, f"candles of {symbol}")
        for candle in candles or ():
            inbox.put(candle)
    inbox.put(Command(inbox.now(), "resume", WARMUP))
    log.info("market opened", symbols=len(settings.symbols))


def _load(observer: Observer) -> dict[str, Any]:
    """What the run cost this process, and how late its loop was."""
    times = os.times()
    lag = observer.loop_lag
    return {
        "cpu_s": round(times.user + times.system, 2),
        "cpu_cores": round(observer.cores, 3),
        "loop_lag_p50_ms": lag.quantile(0.5) / 1e6,
        "loop_lag_p99_ms": lag.quantile(0.99) / 1e6,
        "loop_lag_own_p99_ms": observer.own_lag.quantile(0.99) / 1e6,
    }


def _summary(made: _Paper, live: Live, wall_s: float) -> dict[str, Any]:
    run, stopped_by = made.begun.run, live.stopped_by
    counts = run.counts
    return {
        "run": made.begun.id,
        "clean": stopped_by is not None and stopped_by.source in CLEAN_ENDS,
        "venue": made.options.venue,
        "ended_by": f"{stopped_by.source}: {stopped_by.reason}" if stopped_by else "",
        "wall_s": round(wall_s, 3),
        "inputs": run.position,
        "frames": run.frames,
        "skipped": run.skipped,
        "events": run.events,
        "gaps": counts["gaps"],
        "clock_offset_ms": round(run.engine.market.offset_ns / 1e6, 3),
        "feed_latency_ms": live.latency.figures(),
        "predictions": counts["predictions"],
        "untrained": sorted(run.untrained),
        "orders": counts["orders"],
        "fills": counts["fills"],
        **money(run),
        **shadows(run),
        "facts": counts["facts"],
        "digest": made.begun.writer.hexdigest(),
        "scores": scores(run),
        "journal": str(made.folder),
        "db": redacted(made.settings.ledger.db),
    }
