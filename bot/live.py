"""A run on live input: one queue in, journal before ledger, one TaskGroup that owns every task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog
from msgspec.structs import replace

from bot.core.events import (
    Command,
    CommandName,
    Event,
    Fact,
    FeedDown,
    Input,
    Prediction,
    Tick,
)
from bot.feed_latency import LATENCY_EVERY_S, LatencyWatch
from bot.inbox import Inbox
from bot.keeping import Keeping
from bot.ledger.database import LedgerError
from bot.ledger.journal import JournalError, JournalWriter
from bot.ledger.writer import LedgerWriter
from bot.run import Run
from bot.terms import Terms
from bot.venue.stream import MarketStream

log = structlog.get_logger()

BATCH = 200
"""Inputs taken from the queue at once."""
TURN_S = 0.002
"""Work on inputs before the loop looks at its other tasks."""
TICK_EVERY_S = 1.0


class Repairs:
    """Watches the run for lost books and has their topics subscribed again."""

    def __init__(
        self, topic_of: Callable[[str], str | None], streams: Sequence[MarketStream]
    ) -> None:
        """``topic_of`` names the order-book topic of a symbol."""
        self._topic_of = topic_of
        self._streams = streams

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None:
        del position, facts
        if type(event) is FeedDown:
            self._repair(event)

    def _repair(self, down: FeedDown) -> None:
        log.warning("book lost", symbol=down.symbol, reason=down.reason)
        topic = self._topic_of(down.symbol)
        if topic is None:
            return  # its connection is gone, and the next one subscribes everything
        for stream in self._streams:
            if topic in stream.topics and stream.category == down.symbol.partition(":")[0]:
                stream.resubscribe(topic)


class Live:
    """The tasks of a live run. ``serve`` returns when a ``stop`` command has been stepped."""

    def __init__(
        self,
        run: Run,
        inbox: Inbox,
        journal: JournalWriter,
        writer: LedgerWriter,
        terms: Terms,
        *,
        snapshot_s: float = 60.0,
        away_s: float = 60.0,
    ) -> None:
        """``snapshot_s`` between two snapshots; for ``away_s`` the database may be away."""
        self._run = run
        self._inbox = inbox
        self._journal = journal
        self._writer = writer
        self.terms = terms
        self._loop = asyncio.get_running_loop()
        self._is_stopping = False
        self._keeping = Keeping(
            run, inbox, journal, writer, self._told, snapshot_s=snapshot_s, away_s=away_s
        )
        self.stopped_by: Command | None = None
        self.latency = LatencyWatch(run.engine.market.offset_ns)
        run.watchers.append(self.latency)

    def stop(self, source: str, reason: str) -> None:
        """End the run after what is already queued. Once is enough."""
        if not self._is_stopping:
            self._is_stopping = True
            self._inbox.put(Command(self._inbox.now(), "stop", source, reason))

    def _told(self, name: CommandName, source: str, reason: str) -> None:
        """A command of the keeping."""
        if name == "stop":
            self.stop(source, reason)
        elif not self._is_stopping:
            self._inbox.put(Command(self._inbox.now(), name, source, reason))

    def put(self, item: Input) -> None:
        self._inbox.put(item)

    async def rotate(self) -> None:
        """Begin a new segment of the journal. Raises OSError, then the old one goes on."""
        await asyncio.to_thread(self._journal.rotate, {})

    def publish(self, prediction: Prediction) -> None:
        """Queue a prediction from the inference thread."""
        self._loop.call_soon_threadsafe(self._enqueue, prediction)

    def model_failed(self, error: BaseException) -> None:
        """End the run because the inference thread died."""
        reason = f"{type(error).__name__}: {error}"
        self._loop.call_soon_threadsafe(self.stop, "model", reason)

    def _enqueue(self, prediction: Prediction) -> None:
        self._inbox.put(replace(prediction, ts=self._inbox.now()))

    async def serve(self, feeds: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run until stopped; then everything that was decided is in the journal and the ledger.

        Raises what a feed raises (VenueUnreachable), JournalError where the disk took no more,
        and LedgerError where the database took no more; what was written stays.
        """
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(feed) for feed in feeds]
            others += [
                tasks.create_task(self._tick()),
                tasks.create_task(self._keeping.keep_journal()),
                tasks.create_task(self._keeping.keep_ledger()),
                tasks.create_task(self.terms.keep()),
                tasks.create_task(self._watch_latency()),
            ]
            await self._pump()
            for task in others:
                task.cancel()
        self._run.finish()
        try:
            await asyncio.to_thread(self._journal.close)
        except OSError as error:
            raise JournalError(
                f"{self._journal.path}: cannot be written: {error.strerror}; the run goes on from "
                "what was written when there is room and `bot paper` is started again"
            ) from error
        try:
            await self._writer.commit(None)
        except LedgerError as error:
            raise LedgerError(
                f"{error}; the journal has everything: when the database is back, `bot paper` "
                "completes the ledger"
            ) from error

    async def _pump(self) -> None:
        """Inbox to journal to step, until a stop."""
        journal, run, clock = self._journal, self._run, self._loop.time
        while self.stopped_by is None:
            items = await self._inbox.take(BATCH)
            turn_ends_s = clock() + TURN_S
            for item in items:
                journal.append(item)
                run.take(item)
                if type(item) is Command and item.name == "stop":
                    self.stopped_by = item
                    break
                if clock() >= turn_ends_s:
                    await asyncio.sleep(0)
                    turn_ends_s = clock() + TURN_S
            await asyncio.sleep(0)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_EVERY_S)
            self._inbox.put(Tick(self._inbox.now()))

    async def _watch_latency(self) -> None:
        while True:
            await asyncio.sleep(LATENCY_EVERY_S)
            for measured in self.latency.measure(self._inbox.now()):
                self._inbox.put(measured)
