"""A run that died goes on from its last snapshot as if it had stepped everything."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from bot import build, snapshot
from bot.begin import Begun, begin, record_of
from bot.config import Settings
from bot.core.events import Connected, Input, Instrument, Tick
from bot.inbox import Inbox
from bot.ledger.facts import digest_of, read_facts
from bot.ledger.journal import JournalWriter
from bot.ledger.reading import read
from bot.ledger.runs import start_run
from bot.ledger.schema import open_ledger
from bot.ledger.segment import segment_path
from bot.ledger.writer import Snapshot
from bot.restart import RunError, fresh
from tests.test_run import MAKER, SYMBOL, T0, S, frame
from tests.venue.feed import CONN, T0_MS, book, trade
from tests.venue.feed import snapshot as first_book

HITS = 60


def inputs(settings: Settings) -> Iterator[Input]:
    """A market in which the maker is filled again and again."""
    yield Instrument(T0, T0, SYMBOL, "BTC", "USDT", *map(Decimal, ("0.1", "0.001", "0.001", "5")))
    yield from build.fees(settings, T0)
    yield Connected(T0, CONN, "linear")
    yield frame(first_book())
    for number in range(HITS):
        side, price = ("Sell", "65100.00") if number % 2 else ("Buy", "65130.00")
        hit = trade(price, "1", seq=8000 + number, T=T0_MS + number * 1000, S=side)
        yield frame(hit, number)
        moved = [("65113.90", str(1 + number % 2))]
        yield frame(book(11 + number, moved, cts=T0_MS + number * 1000), number)
        yield Tick(T0 + number * S)


class Died:
    """A run of ``inputs`` that ended without a word, with snapshots at the given places."""

    def __init__(self, folder: Path, db: str = "") -> None:
        self.settings = Settings(symbols=(SYMBOL,), strategies=(MAKER,))
        self.db = db or f"sqlite:///{folder}/ledger.db"
        self.path = folder / "ledger.db"
        self.folder = self.settings.journal.folder / "r1"

    async def live(self, *places: int, committed: int = 10**9) -> None:
        self.ledger: AsyncEngine = await open_ledger(self.db)
        record = record_of(self.settings)
        await start_run(
            self.ledger, "r1", mode="paper", instance=self.settings.instance, started_ts=T0,
            config=record, code_version="x", deposits={"USDT": self.settings.account.usdt},
        )  # fmt: skip
        made = fresh(self.settings, self.ledger, "r1")
        journal = JournalWriter(self.folder, {"config": record}, chunk_entries=7)
        for number, item in enumerate(inputs(self.settings)):
            if number in places:
                made.writer.add_snapshot(Snapshot(number, item.ts, snapshot.saved(made.run)))
            journal.append(item)
            made.run.take(item)
        journal.close()
        await made.writer.commit(committed)
        self.digest = made.writer.hexdigest_at(made.writer.next_fact)
        self.state = snapshot.saved(made.run)

    async def begun(self) -> Begun:
        return await begin(self.settings, self.ledger, Inbox(100), is_new=False)

    def change(self, statement: str, *values: object) -> None:
        with sqlite3.connect(self.path) as database:
            database.execute(statement, values)
        database.close()


@pytest.fixture
async def died(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Died(tmp_path)
    yield run
    await run.ledger.dispose()


def told(logs: list) -> list[str]:
    return [f"{line['event']}: {line.get('position')}: {line.get('why', '')}" for line in logs
            if "snapshot" in line["event"]]  # fmt: skip


async def continues_exactly(died: Died) -> list[str]:
    """The run stands where it stood; what it said of its snapshots."""
    with capture_logs() as logs:
        begun = await died.begun()
    assert (begun.id, begun.is_continued) == ("r1", True)
    assert snapshot.saved(begun.run) == died.state
    await begun.writer.commit(None)
    assert begun.writer.hexdigest() == died.digest
    assert read(died.db, digest_of, "r1").hexdigest() == died.digest
    stored = read(died.db, lambda connection: list(read_facts(connection, "r1")))
    assert [each.n for each in stored] == list(range(begun.writer.next_fact))
    return told(logs)


@pytest.mark.parametrize("committed", [10**9, 90, 70])
async def test_a_run_goes_on_from_its_last_snapshot(died, committed):
    await died.live(20, 40, 60, committed=committed)
    assert await continues_exactly(died) == ["restarted from a snapshot: 60: "]


async def test_without_a_snapshot_the_whole_journal_is_stepped(died):
    await died.live()
    assert await continues_exactly(died) == []


@pytest.mark.parametrize("damage", ["x'00'", "substr(body, 1, 500)", "x'28b52ffd'"])
async def test_a_damaged_snapshot_gives_way_to_the_one_before_in_one_line(died, damage):
    await died.live(20, 40, 60)
    died.change(f"UPDATE snapshots SET body = {damage} WHERE position = 60")
    assert await continues_exactly(died) == [
        "a snapshot is left out: 60: damaged: its checksum differs",
        "restarted from a snapshot: 40: ",
    ]


async def test_when_every_snapshot_is_damaged_the_whole_journal_is_stepped(died):
    await died.live(20, 40)
    died.change("UPDATE snapshots SET body = x'00'")
    assert len(await continues_exactly(died)) == 2


async def test_a_snapshot_that_leads_elsewhere_is_left_out(died):
    """As one of a strategy does that keeps something outside its state."""
    await died.live(20, 40)
    other = fresh(died.settings, died.ledger, "r2")
    for number, item in enumerate(inputs(died.settings)):
        if number == 40:
            break
        other.run.take(item)
    other.run.engine.exchange._matcher._fills += 1
    body = snapshot.saved(other.run)
    sha = hashlib.sha256(body).hexdigest()
    died.change("UPDATE snapshots SET body = ?, sha256 = ? WHERE position = 40", body, sha)
    first, second = await continues_exactly(died)
    assert "40: it leads to other facts than were recorded" in first
    assert second == "restarted from a snapshot: 20: "


async def test_only_the_newest_snapshots_are_kept(died):
    await died.live(10, 20, 30, 40, 50)
    with sqlite3.connect(died.path) as database:
        kept = database.execute("SELECT position FROM snapshots ORDER BY position").fetchall()
    database.close()
    assert kept == [(30,), (40,), (50,)]


async def test_a_journal_that_lost_what_the_ledger_has_is_not_continued(died):
    await died.live()
    segment = segment_path(died.folder, 1)
    segment.write_bytes(segment.read_bytes()[: segment.stat().st_size // 2])
    with pytest.raises(RunError, match=r"it leads to \d+ facts, but \d+ were recorded.*--new"):
        await died.begun()
    assert read(died.db, digest_of, "r1").hexdigest() == died.digest


async def test_facts_of_another_program_are_not_continued(died):
    await died.live()
    died.change("UPDATE fills SET price = '1' WHERE fill_id = 1")
    died.change("UPDATE runs SET digest = 'other'")
    with pytest.raises(RunError, match="leads to other facts than were recorded"):
        await died.begun()
