"""`bot record`: any symbols and topics of the feed to journal segments, for weeks.

Nothing is decided here. A recording is a journal without settings; every segment opens with what
the market then was, so that the oldest can go.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from bot import __version__, feeds, local_venue
from bot.config import Settings
from bot.core.events import Event, FeedDown, Input
from bot.feed_latency import LATENCY_EVERY_S, LatencyWatch
from bot.inbox import Inbox
from bot.ledger.journal import JournalWriter
from bot.ledger.segment import opening_lines, segments_of
from bot.local_venue import LocalVenue, Urls
from bot.opening import Opening
from bot.signals import ending
from bot.terms import Terms
from bot.venue.address import VenueUnreachable, rest_url
from bot.venue.rest import Rest
from bot.venue.stream import MarketStream

log = structlog.get_logger()

CLEAN_ENDS = ("user", "time")
BATCH = 500
KEEP_EVERY_S = 0.2
TELL_EVERY_S = 60.0
MOST_PENDING = 200_000
"""Inputs that may wait for a slow disk; beyond, the sockets are read no further."""


class RecordOptions(Struct, frozen=True):
    """What to record, and how much of it to keep. 0 in ``keep_*`` keeps everything.

    ``topics`` are kinds ("orderbook.50", "publicTrade") of every symbol. Recording ends, cleanly,
    before fewer than ``least_free_bytes`` are free on the disk.
    """

    folder: Path
    symbols: tuple[str, ...]
    topics: tuple[str, ...]
    venue: str = "bybit"
    seconds: float | None = None
    segment_bytes: int = 64 << 20
    segment_s: float = 3600.0
    keep_bytes: int = 0
    keep_s: float = 0.0
    least_free_bytes: int = 256 << 20
    latency_every_s: float = LATENCY_EVERY_S


async def record(
    settings: Settings,
    options: RecordOptions,
    *,
    urls: Urls | None = None,
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
) -> dict[str, Any]:
    """Record until the time is up, a signal, or the disk is full; returns the summary.

    ``urls`` are another venue's than Bybit's.

    Raises RulesUnknown, VenueRefused and JournalError where it cannot begin.
    """
    async with AsyncExitStack() as stack:
        wanted = settings.model_copy(update={"symbols": options.symbols})
        venue = None
        urls = urls or Urls(settings.network, settings.network)
        if options.venue == "local":
            venue = await stack.enter_async_context(local_venue.started(wanted))
            urls = venue.urls
        inbox = Inbox(settings.feed.queue_size)
        rest = Rest(rest_url(urls.rest), now=inbox.now, timeout_s=settings.feed.connect_timeout_s)
        stack.push_async_callback(rest.close)
        terms = Terms(rest, inbox, options.symbols)
        await terms.open()
        journal = JournalWriter(
            options.folder,
            _header(settings, options),
            chunk_entries=settings.journal.chunk_entries,
            chunk_s=settings.journal.chunk_s,
            segment_bytes=1 << 62,  # segments end here, where the market is known
        )
        streams = feeds.streams(options.symbols, options.topics, wanted.feed, urls.ws, inbox)
        recorder = Recorder(options, inbox, journal, terms, streams, free_bytes)
        with ending(lambda name: recorder.stop("user", name)):
            return await recorder.serve(venue)


class Recorder:
    """The tasks of one recording."""

    def __init__(
        self,
        options: RecordOptions,
        inbox: Inbox,
        journal: JournalWriter,
        terms: Terms,
        streams: Sequence[MarketStream],
        free_bytes: Callable[[Path], int],
    ) -> None:
        self._options = options
        self._inbox = inbox
        self._journal = journal
        self._terms = terms
        self._streams = streams
        self._free_bytes = free_bytes
        self._opening = Opening()
        self._latency = LatencyWatch()
        self._ended = asyncio.Event()
        self._ended_by = ("", "")
        self._failed: VenueUnreachable | None = None
        self._first = journal.position
        self._segment_began_s = time.monotonic()
        self._segments = 1
        self._removed = 0
        # A segment is small beside what is kept, so that keeping less never means keeping none.
        share = options.keep_bytes // 4 if options.keep_bytes else options.segment_bytes
        self._segment_bytes = max(1, min(options.segment_bytes, share))

    def stop(self, source: str, reason: str) -> None:
        """End the recording after what is already queued. The first reason counts."""
        if not self._ended.is_set():
            self._ended_by = (source, reason)
            self._ended.set()

    async def serve(self, venue: LocalVenue | None) -> dict[str, Any]:
        """Record until stopped; returns the summary. Raises VenueUnreachable."""
        started_s = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(task) for task in self._tasks(venue)]
                await self._ended.wait()
                for task in tasks:
                    task.cancel()
            if len(self._inbox):
                for item in await self._inbox.take(len(self._inbox)):
                    self._take(item)
        finally:
            lost = await asyncio.to_thread(self._close)
        if self._failed is not None:
            raise self._failed
        return self._summary(time.monotonic() - started_s, lost)

    def _tasks(self, venue: LocalVenue | None) -> list[Coroutine[Any, Any, None]]:
        tasks = [self._feed(stream) for stream in self._streams]
        tasks += [self._pump(), self._keep(), self._tell(), self._terms.keep()]
        tasks.append(self._measure_latency())
        if self._options.seconds is not None:
            tasks.append(self._stop_after(self._options.seconds))
        if venue is not None:
            tasks.append(self._stop_with(venue))
        return tasks

    # --- inputs --------------------------------------------------------------------------------

    async def _feed(self, stream: MarketStream) -> None:
        try:
            await stream.run()
        except VenueUnreachable as error:
            self._failed = error
            self.stop("venue", str(error))

    async def _pump(self) -> None:
        while True:
            for item in await self._inbox.take(BATCH):
                self._take(item)
            if self._is_segment_full():
                self._rotate()
            if self._journal.pending > MOST_PENDING:
                await self._flush()
            await asyncio.sleep(0)

    def _take(self, item: Input) -> None:
        self._journal.append(item)
        for event in self._opening.take(item):
            self._latency.take(event)
            if type(event) is FeedDown:
                self._repair(event)

    def _repair(self, down: Event) -> None:
        """Ask for fresh snapshots of a lost book, at every depth that is recorded."""
        assert isinstance(down, FeedDown)
        log.warning("book lost", symbol=down.symbol, reason=down.reason)
        category, _, name = down.symbol.partition(":")
        for stream in self._streams:
            if stream.category == category:
                for topic in stream.topics:
                    if topic.startswith("orderbook.") and topic.endswith(f".{name}"):
                        stream.resubscribe(topic)

    async def _measure_latency(self) -> None:
        while True:
            await asyncio.sleep(self._options.latency_every_s)
            for measured in self._latency.measure(self._inbox.now()):
                self._inbox.put(measured)

    async def _stop_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.stop("time", f"{seconds:g} s are over")

    async def _stop_with(self, venue: LocalVenue) -> None:
        self.stop("venue", f"the local venue ended with code {await venue.wait()}")

    # --- the disk ------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Write what is due, and end while the disk still has room for others."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            if self._journal.due(self._inbox.now()):
                await self._flush()
            free = self._free_bytes(self._options.folder)
            if free < self._options.least_free_bytes:
                self.stop("disk", f"only {free >> 20} MB are free at {self._options.folder}")

    async def _flush(self) -> None:
        try:
            await asyncio.to_thread(self._journal.flush)
        except OSError as error:
            self.stop("disk", f"{self._journal.path}: {error.strerror or error}")

    def _is_segment_full(self) -> bool:
        if self._journal.segment_size >= self._segment_bytes:
            return True
        return time.monotonic() - self._segment_began_s >= self._options.segment_s

    def _rotate(self) -> None:
        """Begin a segment with the market as it is. Holds the loop for one write to the disk."""
        try:
            self._journal.rotate({"opening": opening_lines(self._opening.inputs())})
            self._segments += 1
            self._segment_began_s = time.monotonic()
            self._forget()
        except OSError as error:
            self.stop("disk", f"{self._journal.path}: {error.strerror or error}")

    def _forget(self) -> None:
        """Delete the oldest segments beyond what is to be kept, never the one being written."""
        options = self._options
        segments = [*segments_of(options.folder).values()]
        total = sum(path.stat().st_size for path in segments)
        for path in segments[:-1]:
            found = path.stat()
            is_too_much = 0 < options.keep_bytes < total
            is_too_old = 0 < options.keep_s < time.time() - found.st_mtime
            if not (is_too_much or is_too_old):
                return
            path.unlink()
            total -= found.st_size
            self._removed += 1
            log.info("oldest segment removed", path=str(path))

    def _close(self) -> int:
        """Close the journal; returns how many inputs the disk did not take."""
        try:
            self._journal.close()
        except OSError as error:
            log.error("the last inputs cannot be written", error=str(error))
        return self._journal.pending

    # --- telling -------------------------------------------------------------------------------

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            log.info(
                "recording",
                inputs=self._journal.position - self._first,
                frames=self._opening.codec.frames,
                gaps=self._opening.gaps,
                segment=self._journal.path.name,
            )

    def _summary(self, wall_s: float, lost: int) -> dict[str, Any]:
        source, reason = self._ended_by
        counters = [stream.counters for stream in self._streams]
        return {
            "path": str(self._options.folder),
            "clean": source in CLEAN_ENDS and not lost,
            "ended_by": f"{source}: {reason}",
            "wall_s": round(wall_s, 3),
            "inputs": self._journal.durable_position - self._first,
            "frames": self._opening.codec.frames,
            "frame_bytes": sum(each.bytes for each in counters),
            "gaps": self._opening.gaps,
            "clock_offset_ms": self._latency.offset_ns / 1e6,
            "feed_latency_ms": self._latency.figures(),
            "reconnects": sum(max(0, each.connects - 1) for each in counters),
            "refused_topics": sum(each.refused for each in counters),
            "lost_inputs": lost,
            "segments": self._segments,
            "removed_segments": self._removed,
            "bytes_on_disk": sum(
                path.stat().st_size for path in segments_of(self._options.folder).values()
            ),
        }


def _header(settings: Settings, options: RecordOptions) -> dict[str, Any]:
    return {
        "kind": "recording",
        "venue": options.venue,
        "network": settings.network,
        "symbols": list(options.symbols),
        "topics": list(options.topics),
        "code_version": __version__,
        "opening": [],
    }
