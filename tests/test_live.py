"""What a live run watches: lost books, a disk, a database, an end."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

from bot import build
from bot.config import Settings
from bot.core.events import Command, FeedDown, FeedUp, Tick
from bot.inbox import Inbox
from bot.ledger.journal import JournalReader, JournalWriter
from bot.ledger.runs import start_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from bot.live import Live, Repairs
from bot.run import Run
from bot.terms import Terms
from bot.venue.address import VenueUnreachable
from bot.venue.rest import Rest
from tests.processes import environment


class Stream:
    """Remembers what it was asked to subscribe again."""

    def __init__(self, category: str, *topics: str) -> None:
        self.category = category
        self.topics = topics
        self.renewed: list[str] = []

    def resubscribe(self, topic: str) -> None:
        self.renewed.append(topic)


def test_a_lost_book_is_subscribed_again_on_its_own_stream_alone():
    linear = Stream("linear", "orderbook.50.BTCUSDT", "publicTrade.BTCUSDT")
    spot = Stream("spot", "orderbook.50.BTCUSDT")
    topics = {"linear:BTCUSDT": "orderbook.50.BTCUSDT"}
    repairs = Repairs(topics.get, [linear, spot])
    repairs(1, FeedUp(1, "linear:BTCUSDT"), [])
    assert linear.renewed == []
    repairs(2, FeedDown(2, "linear:BTCUSDT", "gap in u"), [])
    assert (linear.renewed, spot.renewed) == (["orderbook.50.BTCUSDT"], [])
    repairs(3, FeedDown(3, "linear:ETHUSDT", "connection lost"), [])
    assert (linear.renewed, spot.renewed) == (["orderbook.50.BTCUSDT"], [])


class Parts:
    """A live run without a venue, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.db = f"sqlite:///{folder}/ledger.db"
        self.folder = folder / "runs" / "r1"

    async def __aenter__(self) -> Self:
        self.ledger = await open_ledger(self.db)
        await start_run(self.ledger, "r1", mode="paper", instance="i", started_ts=1, config={},
                        code_version="x")  # fmt: skip
        self.inbox = Inbox(100)
        self.writer = LedgerWriter(self.ledger, "r1")
        self.run = Run(build.engine(Settings(strategies=())), self.writer)
        self.journal = JournalWriter(self.folder, {}, chunk_s=0.01)
        self.rest = Rest("http://127.0.0.1:1")
        terms = Terms(self.rest, self.inbox, ())
        self.live = Live(self.run, self.inbox, self.journal, self.writer, terms)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.rest.close()
        await self.ledger.dispose()


async def test_a_stop_is_the_last_input_and_everything_before_it_is_kept(tmp_path):
    async with Parts(tmp_path) as parts:
        for ts in range(1, 1001):
            parts.live.put(Tick(ts))
        parts.live.stop("user", "enough")
        parts.live.stop("user", "again")
        parts.live.put(Tick(2000))
        await parts.live.serve([])
        assert parts.live.stopped_by.reason == "enough"
        *ticks, last = JournalReader(parts.folder)
        assert ticks == [Tick(ts) for ts in range(1, 1001)]
        assert isinstance(last, Command)
        assert parts.run.position == 1001
        assert parts.writer.pending == 0


async def test_a_feed_that_ends_in_an_error_ends_the_run_with_it(tmp_path):
    async def unreachable() -> None:
        raise VenueUnreachable("ws://x", "nothing there")

    async with Parts(tmp_path) as parts:
        with pytest.raises(ExceptionGroup) as caught:
            await parts.live.serve([unreachable()])
        assert caught.group_contains(VenueUnreachable, match="ws://x cannot be reached")


async def test_ticks_come_by_themselves_and_reach_the_ledger_as_equity(tmp_path):
    async with Parts(tmp_path) as parts:
        parts.run.watchers.append(lambda position, event, facts: parts.live.stop("user", "seen"))
        await parts.live.serve([])
        kinds = [type(item) for item in JournalReader(parts.folder)]
        assert kinds == [Tick, Command]
        with sqlite3.connect(tmp_path / "ledger.db") as database:
            rows = database.execute("SELECT equity FROM equity WHERE run_id = 'r1'").fetchall()
        database.close()
        assert set(rows) == {("10000",)}


async def test_a_model_that_dies_ends_the_run_with_its_words(tmp_path):
    async with Parts(tmp_path) as parts:
        parts.live.model_failed(FloatingPointError("no number"))
        await parts.live.serve([])
        stopped_by = parts.live.stopped_by
        assert (stopped_by.source, stopped_by.reason) == ("model", "FloatingPointError: no number")


FULL = """
import asyncio, resource, sys
from pathlib import Path
from bot.core.errors import PlainError
from bot.core.events import Tick
from bot.operate import log
from tests.test_live import Parts, stamp

async def main():
    log.configure()
    async with Parts(Path(sys.argv[1])) as parts:
        async def fill():
            number = 0
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            while True:
                for _ in range(20):
                    number += 1
                    parts.live.put(Tick(stamp(number)))
                await asyncio.sleep(0.001)
        try:
            await parts.live.serve([fill()])
        except PlainError as error:
            print(parts.live.stopped_by.source, "|", error)

asyncio.run(main())
"""


def test_a_disk_that_takes_no_more_ends_the_run_in_one_line_and_keeps_what_was_written(tmp_path):
    """A limit on the size of files stands for a full disk; writing beyond it fails alike."""
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], env=environment(), capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    source, _, line = result.stdout.partition(" | ")
    assert source == "disk"
    assert "journal-000001.jsonl.zst: cannot be written: File too large" in line
    assert "the journal cannot be written" in result.stderr
    assert "Traceback" not in result.stderr
    # The run puts ticks of the true time between them.
    journal = JournalReader(tmp_path / "runs" / "r1")
    kept = [item.ts for item in journal if item.ts < 2**60]
    assert len(kept) >= 100
    assert kept == [stamp(number) for number in range(1, len(kept) + 1)]


def stamp(number: int) -> int:
    """A time long ago that does not compress well."""
    return (number * 12345678901) ** 2 % 2**60
