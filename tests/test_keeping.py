"""Databases that go away while a run is kept: nothing is lost, it is told, and the loop goes on."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from bot import build
from bot.config import Settings
from bot.core.events import Command, Signal
from bot.inbox import Inbox
from bot.keeping import Keeping
from bot.ledger import connect, database, queries, schema
from bot.ledger.connect import engine_for
from bot.ledger.facts import digest_of
from bot.ledger.journal import JournalReader, JournalWriter
from bot.ledger.runs import start_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from bot.run import Run

SYMBOL = "linear:BTCUSDT"
AWAY, STILL, BACK = (
    "the ledger is away, its rows wait",
    "the ledger is still away: no new orders",
    "the ledger is back, nothing is missing",
)
WAIT_S = 60.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The waits of weeks in tenths of a second."""
    monkeypatch.setattr("bot.keeping.KEEP_EVERY_S", 0.02)
    monkeypatch.setattr(database, "BUSY_MS", 50)
    monkeypatch.setattr(schema, "ANSWER_S", 0.3)
    monkeypatch.setattr(connect, "CONNECT_S", 2.0)


class Kept:
    """A run whose facts come one by one, kept in ``url`` as a live run is."""

    def __init__(self, folder: Path, url: str, *, away_s: float = 1000.0) -> None:
        self.folder, self.url, self._away_s = folder / "runs" / "r1", url, away_s
        self.told: list[tuple[str, str]] = []
        self.logs: list[Any] = []

    async def __aenter__(self) -> Self:
        self._ledger = await open_ledger(self.url)
        await start_run(self._ledger, "r1", mode="paper", instance="i", started_ts=1, config={},
                        code_version="x")  # fmt: skip
        self.inbox = Inbox(100)
        self.writer = LedgerWriter(self._ledger, "r1")
        run = Run(build.engine(Settings(strategies=())), self.writer)
        self.journal = JournalWriter(self.folder, {}, chunk_s=0.01)
        self.keeping = Keeping(
            run, self.inbox, self.journal, self.writer,
            lambda name, source, reason: self.told.append((name, source)), away_s=self._away_s,
        )  # fmt: skip
        self._tasks = [
            asyncio.ensure_future(work)
            for work in (self.keeping.keep_journal(), self.keeping.keep_ledger(), self._decide())
        ]
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.journal.close()
        await self._ledger.dispose()

    async def _decide(self) -> None:
        """A fact a millisecond, each with an input of the journal as its cause."""
        while True:
            position = self.journal.position
            ts = self.inbox.now()
            self.journal.append(Command(ts, "pause", "test", "x" * 50))
            self.writer.add(position, None, [Signal(ts, "s", SYMBOL, 1.0, "y" * 50)])
            await asyncio.sleep(0.001)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            for task in self._tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < end, f"no {what}: {self.said()}"
            await asyncio.sleep(0.01)

    async def goes_on(self) -> None:
        """Facts are made and reach the journal's file."""
        facts, durable = self.writer.next_fact, self.journal.durable_position
        await self.until(
            lambda: (
                self.writer.next_fact > facts + 20 and self.journal.durable_position > durable + 20
            ),
            "facts in the journal",
        )

    async def commits(self) -> None:
        before = self.writer.next_fact
        await self.until(lambda: self.writer.committed_facts > before, "commit")

    def said(self) -> list[str]:
        return [line["event"] for line in self.logs if "ledger" in line["event"]]

    async def is_complete(self) -> None:
        """The database has each fact once, and the journal their causes."""
        deciding = self._tasks.pop()
        deciding.cancel()
        await asyncio.gather(deciding, return_exceptions=True)
        await asyncio.to_thread(self.journal.flush)
        await self.until(lambda: not self.writer.pending, "end of the backlog")
        engine = engine_for(self.url)
        async with engine.connect() as connection:
            row = await connection.run_sync(queries.run, "r1")
            digest = await connection.run_sync(digest_of, "r1")
        await engine.dispose()
        assert row["facts"] == self.writer.next_fact > 0
        assert row["digest"] == digest.hexdigest() == self.writer.hexdigest()
        assert len(list(JournalReader(self.folder))) == self.writer.next_fact


@contextmanager
def watched(kept: Kept) -> Iterator[None]:
    with capture_logs() as kept.logs:
        yield


async def bears(kept: Kept) -> None:
    """The database is away and the run goes on."""
    await kept.until(lambda: AWAY in kept.said(), "word that it is away")
    committed = kept.writer.committed_facts
    await kept.goes_on()
    assert kept.writer.committed_facts == committed


async def recovers(kept: Kept) -> None:
    await kept.until(lambda: BACK in kept.said(), "word that it is back")
    await kept.commits()
    await kept.is_complete()
    assert kept.said() == [AWAY, BACK]
    assert kept.told == []


# --- SQLite -----------------------------------------------------------------------------------


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Somebody else writes to a SQLite file."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def test_a_sqlite_file_that_another_process_locks_delays_the_ledger_alone(tmp_path):
    kept = Kept(tmp_path, f"sqlite:///{tmp_path}/ledger.db")
    with watched(kept):
        async with kept:
            await kept.commits()
            with locked(tmp_path / "ledger.db"):
                await bears(kept)
            await recovers(kept)
    assert "database is locked" in kept.logs[0]["error"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size``: what a full disk does to one file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_is_full_for_the_database_has_room_again(tmp_path):
    kept = Kept(tmp_path, f"sqlite:///{tmp_path}/ledger.db")
    with watched(kept):
        async with kept:
            await kept.commits()
            with largest_file((tmp_path / "ledger.db-wal").stat().st_size):
                await bears(kept)
            await recovers(kept)
    assert "full" in kept.logs[0]["error"] or "disk I/O error" in kept.logs[0]["error"]


# --- Postgres ---------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_a_postgres_that_stops_and_starts_again_finds_everything_waiting(
    tmp_path, url, postgres
):
    kept = Kept(tmp_path, url)
    with watched(kept):
        async with kept:
            await kept.commits()
            try:
                await asyncio.to_thread(postgres.stop)
                await bears(kept)
            finally:
                await asyncio.to_thread(postgres.ensure_postgres_running)
            await recovers(kept)
    assert "the ledger cannot be written" in kept.logs[0]["error"]


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_a_postgres_that_hangs_is_one_that_is_away(tmp_path, url):
    """A lock on a table stands for it: the connection lives and no answer comes."""
    kept = Kept(tmp_path, url)
    other = engine_for(url)
    with watched(kept):
        async with kept:
            await kept.commits()
            async with other.begin() as connection:
                await connection.execute(text("LOCK TABLE signals IN ACCESS EXCLUSIVE MODE"))
                await bears(kept)
            await other.dispose()
            await recovers(kept)
    assert "it does not answer" in kept.logs[0]["error"]


# --- for longer -------------------------------------------------------------------------------


async def test_a_database_that_stays_away_stops_new_orders_and_then_the_run(tmp_path):
    kept = Kept(tmp_path, f"sqlite:///{tmp_path}/ledger.db", away_s=0.2)
    with watched(kept):
        async with kept:
            await kept.commits()
            with locked(tmp_path / "ledger.db"):
                await kept.until(lambda: ("stop", "database") in kept.told, "end of the run")
            await kept.is_complete()
    assert kept.said()[:2] == [AWAY, STILL]
    assert kept.told[:2] == [("halt", "database"), ("stop", "database")]


async def test_more_waiting_steps_than_memory_is_for_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("bot.keeping.MOST_PENDING", 50)
    kept = Kept(tmp_path, f"sqlite:///{tmp_path}/ledger.db")
    with watched(kept):
        async with kept:
            await kept.commits()
            with locked(tmp_path / "ledger.db"):
                await kept.until(lambda: kept.told, "end of the run")
            await kept.is_complete()
    assert kept.told[0] == ("stop", "database")
