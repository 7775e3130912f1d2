"""Rows that are new, rows that are there already, and a database that goes away in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.core.events import Signal
from bot.ledger import tables
from bot.ledger.connect import engine_for
from bot.ledger.database import LedgerError
from bot.ledger.schema import open_ledger
from bot.ledger.transactions import ByCopy
from bot.ledger.writer import LedgerWriter
from tests.ledger.samples import BTC, FACTS, STEPS, T, fed, started

POSTGRES = pytest.mark.parametrize("url", ["postgres"], indirect=True)
THINNED = ("signals", "orders", "order_events", "fills", "funding_paid", "liquidations",
                 "postings", "predictions", "gaps", "commands", "funding_rates")  # fmt: skip


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = await open_ledger(url)
    await started(engine)
    yield engine
    await engine.dispose()


@asynccontextmanager
async def another(url: str, answer_s: float | None = None) -> AsyncIterator[AsyncEngine]:
    """An engine on the same database."""
    engine = engine_for(url, answer_s)
    try:
        yield engine
    finally:
        await engine.dispose()


async def everything(engine: AsyncEngine) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    async with engine.connect() as connection:
        for table in tables.metadata.sorted_tables:
            rows = await connection.execute(select(table).order_by(*table.primary_key.columns))
            found[table.name] = [tuple(row) for row in rows]
    return found


async def run(engine: AsyncEngine, statement: str) -> Any:
    async with engine.begin() as connection:
        return (await connection.execute(text(statement))).rowcount


async def test_what_is_missing_of_a_batch_is_added_whatever_is_there_already(engine):
    await fed(LedgerWriter(engine, "r1")).commit(None)
    whole = await everything(engine)
    random = Random(5)
    for _ in range(8):
        gone = 0
        for name in THINNED:
            left = random.randrange(3)
            gone += await run(engine, f"DELETE FROM {name} WHERE position % 3 = {left}")
        assert gone
        await fed(LedgerWriter(engine, "r1")).commit(None)
        assert await everything(engine) == whole


async def test_a_batch_that_was_committed_and_not_acknowledged_is_taken_once(engine):
    """The process dies between the two; the next one steps all of it again, and goes on."""
    await fed(LedgerWriter(engine, "r1"), STEPS[:9]).commit(None)
    again = fed(LedgerWriter(engine, "r1"), STEPS[:9])
    assert await again.commit(None) == again.next_fact
    await fed(again, STEPS[9:]).commit(None)
    await started(engine, "r2")
    await fed(LedgerWriter(engine, "r2")).commit(None)
    for name, rows in (await everything(engine)).items():
        ours, theirs = ([row[1:] for row in rows if row[0] == each] for each in ("r1", "r2"))
        assert name == "runs" or ours == theirs, name


async def test_two_processes_that_write_one_run_at_once_write_each_row_once(engine, url):
    async with another(url) as other:
        writers = LedgerWriter(engine, "r1"), LedgerWriter(other, "r1")
        await asyncio.gather(*(fed(writer).commit(None) for writer in writers))
    twice = await everything(engine)
    await run(engine, "DELETE FROM runs")
    await started(engine)
    await fed(LedgerWriter(engine, "r1")).commit(None)
    assert await everything(engine) == twice


async def test_a_long_batch_is_written_in_pieces_and_whole(engine):
    count = 2 * ByCopy.MOST + 1
    writer = LedgerWriter(engine, "r1")
    made = [Signal(T + n, "maker", BTC, n / 7, "up") for n in range(count)]
    writer.add(0, None, made)
    assert await writer.commit(None) == count
    rows = (await everything(engine))["signals"]
    assert [row[:4] + row[6:7] for row in rows] == [
        ("r1", n, 0, T + n, n / 7) for n in range(count)
    ]


# --- Postgres -----------------------------------------------------------------------------------


@POSTGRES
async def test_rows_are_inserted_one_by_one_only_where_they_were_there_already(engine):
    inserted: list[str] = []

    def hear(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(("INSERT INTO signals", "INSERT INTO fills")):
            inserted.append(statement.split()[2])

    event.listen(engine.sync_engine, "before_cursor_execute", hear)
    await fed(LedgerWriter(engine, "r1")).commit(None)
    assert inserted == []
    await fed(LedgerWriter(engine, "r1")).commit(None)
    assert set(inserted) == {"signals", "fills"}


@POSTGRES
async def test_a_connection_that_is_cut_amid_a_copy_is_told_and_replaced(engine, url):
    writer = fed(LedgerWriter(engine, "r1"))
    async with another(url) as other, other.begin() as locking:
        await locking.execute(text("LOCK TABLE fills IN ACCESS EXCLUSIVE MODE"))
        committing = asyncio.ensure_future(writer.commit(None))
        await _cut_whoever_waits(other)
        with pytest.raises(LedgerError, match=r"the ledger cannot be written: .*administrator"):
            await committing
    assert (writer.committed_facts, (await everything(engine))["signals"]) == (0, [])
    assert await writer.commit(None) == len(FACTS)


async def _cut_whoever_waits(engine: AsyncEngine) -> None:
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database()"
    )
    for _ in range(1000):
        if await run(engine, cut):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waited")


@POSTGRES
@pytest.mark.parametrize(
    ("fact", "why"),
    [
        (Signal(T, "maker", BTC, 0.1, "a\x00b"), "0x00"),
        (Signal(2**63, "maker", BTC, 0.1, "up"), "int64"),
    ],
)
async def test_a_value_that_postgres_cannot_hold_is_an_error_that_names_the_database(
    engine, fact, why
):
    writer = LedgerWriter(engine, "r1")
    writer.add(0, None, [fact])
    with pytest.raises(LedgerError, match=f"{engine.url.database}: the ledger .*{why}"):
        await writer.commit(None)
    assert writer.pending == 1
    whole = fed(LedgerWriter(engine, "r1"))
    assert await whole.commit(None) == len(FACTS)


@POSTGRES
async def test_a_copy_that_gets_no_answer_ends_and_the_next_commit_works(engine, url):
    async with another(url, answer_s=0.2) as hurried:
        writer = fed(LedgerWriter(hurried, "r1"))
        async with engine.begin() as locking:
            await locking.execute(text("LOCK TABLE fills IN ACCESS EXCLUSIVE MODE"))
            with pytest.raises(LedgerError, match="it does not answer"):
                await writer.commit(None)
        assert await writer.commit(None) == len(FACTS)
