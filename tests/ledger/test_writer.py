import asyncio
import json
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from bot.core import events
from bot.core.events import FeedDown, FeedUp, Tick, Trade
from bot.ledger import tables
from bot.ledger import writer as writer_module
from bot.ledger.database import LedgerError
from bot.ledger.digest import FactDigest, line_of
from bot.ledger.facts import digest_of, fills_from, read_facts
from bot.ledger.runs import finish_run, last_unfinished_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from tests.ledger.samples import BTC, ETH, FACTS, STEPS, T, fed, started
from tests.ledger.strategies import of


@pytest.fixture
async def engine(url):
    engine = await open_ledger(url)
    await started(engine)
    yield engine
    await engine.dispose()


async def rows_of(engine, table):
    statement = select(table).order_by(*table.primary_key.columns)
    async with engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(statement)).mappings()]


async def everything(engine):
    return {name: await rows_of(engine, table) for name, table in metadata_tables()}


def metadata_tables():
    return sorted(tables.metadata.tables.items())


async def ask(engine, question, *args):
    async with engine.connect() as connection:
        return await connection.run_sync(lambda c: question(c, *args))


def digest_over(facts):
    digest = FactDigest()
    for fact in facts:
        digest.update(fact)
    return digest.hexdigest()


async def test_every_fact_comes_back_from_the_tables_exactly(engine):
    writer = fed(LedgerWriter(engine, "r1"))
    assert await writer.commit(None) == len(FACTS)
    stored = await ask(engine, lambda c: list(read_facts(c, "r1")))
    assert [each.fact for each in stored] == FACTS
    assert [each.n for each in stored] == list(range(len(FACTS)))
    assert [each.position for each in stored] == [
        position for position, _, facts in STEPS for _ in facts
    ]
    assert {type(fact) for fact in FACTS} == set(get_args(events.Fact))


async def test_the_fills_of_a_run_are_read_on_from_any_fact(engine):
    writer = fed(LedgerWriter(engine, "r1"))
    await writer.commit(None)
    wanted = [(n, fact) for n, fact in enumerate(FACTS) if isinstance(fact, events.Fill)]
    assert len(wanted) >= 2
    found = await ask(engine, fills_from, "r1", 0, 1)
    assert [(each.n, each.fact) for each in found] == wanted[:1]
    found = await ask(engine, fills_from, "r1", wanted[0][0] + 1, 100)
    assert [(each.n, each.fact) for each in found] == wanted[1:]


async def test_listeners_hear_of_every_entry_once_and_only_when_it_is_in_the_database(engine):
    writer = fed(LedgerWriter(engine, "r1"))
    heard = []
    writer.listeners.append(lambda entry: heard.append((entry.position, entry.facts)))
    assert heard == []
    await writer.commit(5)
    assert [position for position, _ in heard] == [step[0] for step in STEPS if step[0] < 5]
    await writer.commit(None)
    await writer.commit(None)
    assert [fact for _, facts in heard for fact in facts] == FACTS


async def test_the_run_carries_the_digest_and_the_count_of_its_facts(engine):
    writer = fed(LedgerWriter(engine, "r1"))
    await writer.commit(None)
    (run,) = await rows_of(engine, tables.runs)
    assert (run["facts"], run["digest"]) == (len(FACTS), digest_over(FACTS))
    assert writer.hexdigest() == run["digest"]
    assert (await ask(engine, digest_of, "r1")).hexdigest() == run["digest"]
    assert (await ask(engine, digest_of, "r1", 5)).hexdigest() == digest_over(FACTS[:5])


async def test_writing_the_same_run_again_changes_nothing(engine):
    await fed(LedgerWriter(engine, "r1")).commit(None)
    once = await everything(engine)
    again = LedgerWriter(engine, "r1")
    for position, event, facts in STEPS:
        again.add(position, event, facts)
        await again.commit(None)
    assert await everything(engine) == once


async def test_small_commits_give_the_same_rows_as_a_large_one(engine):
    await started(engine, "r2")
    first = fed(LedgerWriter(engine, "r1"))
    await first.commit(None)
    writer = LedgerWriter(engine, "r2")
    for durable, (position, event, facts) in enumerate(STEPS):
        writer.add(position, event, facts)
        await writer.commit(durable)
    for each in (first, writer):
        each.add_equity(30, T, Decimal(1), Decimal(2))
        await each.commit(None)
    used = set()
    for name, found in (await everything(engine)).items():
        of_run = {
            run: [{**row, "run_id": ""} for row in found if row.get("run_id") == run]
            for run in ("r1", "r2")
        }
        assert of_run["r1"] == of_run["r2"], name
        used |= {name} if of_run["r1"] else set()
    assert used >= {
        "signals", "orders", "order_events", "fills", "funding_paid", "liquidations", "equity",
        "predictions", "gaps", "commands", "instruments", "postings",
    }  # fmt: skip


async def test_nothing_is_written_before_its_cause_is_on_disk(engine):
    writer = fed(LedgerWriter(engine, "r1"))
    assert await writer.commit(0) == 0
    assert await rows_of(engine, tables.instruments) == []
    assert await writer.commit(4) == 3
    assert {row["position"] for row in await rows_of(engine, tables.signals)} == {3}
    assert await rows_of(engine, tables.fills) == []
    assert writer.committed_facts == 3
    (run,) = await rows_of(engine, tables.runs)
    assert (run["facts"], run["digest"]) == (3, digest_over(FACTS[:3]))
    await writer.commit(None)
    assert writer.pending == 0
    (run,) = await rows_of(engine, tables.runs)
    assert run["digest"] == digest_over(FACTS)


async def test_a_writer_may_go_on_from_a_known_fact(engine):
    await fed(LedgerWriter(engine, "r1"), STEPS[:8]).commit(None)
    done = sum(len(facts) for _, _, facts in STEPS[:8])
    digest = await ask(engine, digest_of, "r1")
    writer = fed(LedgerWriter(engine, "r1", next_fact=done, digest=digest), STEPS[8:])
    await writer.commit(None)
    assert writer.next_fact == len(FACTS)
    (run,) = await rows_of(engine, tables.runs)
    assert (run["facts"], run["digest"]) == (len(FACTS), digest_over(FACTS))


async def test_a_failed_commit_keeps_its_rows_and_writes_none_of_them(engine):
    writer = LedgerWriter(engine, "r1")
    fed(writer)
    pending = writer.pending
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE fills RENAME TO away"))
    with pytest.raises(LedgerError, match="the ledger cannot be written"):
        await writer.commit(None)
    assert (writer.pending, writer.committed_facts) == (pending, 0)
    assert writer.hexdigest() == digest_over([])
    assert await rows_of(engine, tables.orders) == []
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE away RENAME TO fills"))
    assert await writer.commit(None) == len(FACTS)
    assert writer.hexdigest() == digest_over(FACTS)


async def test_a_run_that_was_not_started_takes_no_rows(engine):
    writer = fed(LedgerWriter(engine, "absent"))
    with pytest.raises(LedgerError, match=r"(?i)foreign key"):
        await writer.commit(None)


async def test_facts_added_during_a_commit_wait_for_the_next(engine):
    writer = fed(LedgerWriter(engine, "r1"), STEPS[:6])
    committing = asyncio.create_task(writer.commit(None))
    await asyncio.sleep(0)
    fed(writer, STEPS[6:])
    await committing
    await writer.commit(None)
    (run,) = await rows_of(engine, tables.runs)
    assert (run["facts"], run["digest"]) == (len(FACTS), digest_over(FACTS))


@pytest.mark.parametrize("turns", [1, 3, 6, 10, 20])
async def test_a_cancelled_commit_can_be_made_again(engine, turns):
    writer = fed(LedgerWriter(engine, "r1"))
    committing = asyncio.create_task(writer.commit(None))
    for _ in range(turns):
        await asyncio.sleep(0.0003)
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    await writer.commit(None)
    assert [each.fact for each in await ask(engine, lambda c: list(read_facts(c, "r1")))] == FACTS
    (run,) = await rows_of(engine, tables.runs)
    assert (run["facts"], run["digest"]) == (len(FACTS), digest_over(FACTS))


async def test_two_writers_share_a_database(engine, url):
    await started(engine, "r2")
    other = await open_ledger(url)
    writers = LedgerWriter(engine, "r1"), LedgerWriter(other, "r2")
    for _ in range(20):
        await asyncio.gather(*(fed(writer).commit(None) for writer in writers))
    await other.dispose()
    assert {row["facts"] for row in await rows_of(engine, tables.runs)} == {20 * len(FACTS)}


async def test_a_long_backlog_takes_several_transactions(engine, monkeypatch):
    monkeypatch.setattr(writer_module, "MAX_BATCH", 2)
    writer = fed(LedgerWriter(engine, "r1"))
    assert await writer.commit(None) == len(FACTS)
    assert writer.pending == 0


async def test_a_plain_market_event_without_facts_leaves_nothing_behind(engine):
    writer = LedgerWriter(engine, "r1")
    writer.add(0, Trade(1, 1, BTC, 1, "Buy", 1, 1), [])
    writer.add(1, Tick(1), ())
    assert writer.pending == 0


async def test_a_gap_has_its_start_and_its_end(engine):
    await fed(LedgerWriter(engine, "r1")).commit(None)
    found = [
        (row["position"], row["symbol"], row["reason"], row["end_position"], row["end_ts"])
        for row in await rows_of(engine, tables.gaps)
    ]
    assert found == [
        (1, BTC, "connecting", 2, T + 5),
        (16, BTC, "gap", 17, T + 30),
        (18, ETH, "stale", None, None),
    ]


async def test_gaps_in_one_batch_end_in_their_order(engine):
    writer = LedgerWriter(engine, "r1")
    for position in range(0, 12, 2):
        writer.add(position, FeedDown(position, BTC, "x"), ())
        writer.add(position, FeedUp(position + 1, BTC), ())
    writer.add(12, FeedDown(12, BTC, "x"), ())
    await writer.commit(None)
    ends = [row["end_ts"] for row in await rows_of(engine, tables.gaps)]
    assert ends == [1, 3, 5, 7, 9, 11, None]


async def test_predictions_commands_and_rules_can_be_asked_for(engine):
    writer = fed(LedgerWriter(engine, "r1"))
    writer.add_equity(24, T + 5, Decimal("10000.10"), Decimal("1E+4"))
    await writer.commit(None)
    found = [
        (row["model"], row["horizon"], row["horizon_ns"], row["expected_return"], row["weight"])
        for row in await rows_of(engine, tables.predictions)
    ]
    assert found == [
        ("analyzer", 0, 10**9, 1e-4, 0.5),
        ("analyzer", 1, 5 * 10**9, 2e-4, 0.5),
        ("portfolio", 0, None, None, -0.25),
    ]
    quantiles = [row["quantiles"] for row in await rows_of(engine, tables.predictions)]
    assert quantiles == ["[-0.001,0.0,0.001]", "[]", None]
    (command,) = await rows_of(engine, tables.commands)
    assert (command["name"], command["source"], command["reason"]) == ("pause", "operator", "lunch")
    (rules,) = await rows_of(engine, tables.instruments)
    assert (rules["position"], rules["tick_size"]) == (22, Decimal("0.01"))
    (equity,) = await rows_of(engine, tables.equity)
    assert (equity["ts"], equity["equity"]) == (T + 5, Decimal("10000.1"))


async def test_the_life_of_a_run(engine):
    assert (await last_unfinished_run(engine))["id"] == "r1"
    await started(engine, "r2", T + 1)
    assert (await last_unfinished_run(engine))["id"] == "r2"
    assert await last_unfinished_run(engine, instance="other") is None
    assert await last_unfinished_run(engine, mode="replay") is None
    await finish_run(engine, "r2", ended_ts=T + 9, summary={"net": Decimal("1.5")})
    assert (await last_unfinished_run(engine))["id"] == "r1"
    await finish_run(engine, "r1", ended_ts=T + 9, status="failed")
    assert await last_unfinished_run(engine) is None
    found = {row["id"]: row for row in await rows_of(engine, tables.runs)}
    assert (found["r1"]["status"], found["r2"]["status"]) == ("failed", "finished")
    assert json.loads(found["r2"]["summary"]) == {"net": "1.5"}
    assert json.loads(found["r2"]["models"]) == {"analyzer": "abc"}


async def test_a_run_is_not_started_twice(engine):
    with pytest.raises(LedgerError, match="there is a run 'r1' already"):
        await started(engine)
    with pytest.raises(LedgerError, match="no run 'absent'"):
        await finish_run(engine, "absent", ended_ts=1)


async def test_a_run_that_is_deleted_takes_its_rows_along(engine):
    await fed(LedgerWriter(engine, "r1")).commit(None)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM runs"))
    assert not any((await everything(engine)).values())


@given(st.lists(of(events.Fact), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_facts_come_back_from_sqlite_with_the_same_lines(facts):
    async def run():
        engine = await open_ledger("sqlite://")
        await started(engine)
        writer = LedgerWriter(engine, "r1")
        writer.add(0, None, facts)
        await writer.commit(None)
        stored = await ask(engine, lambda c: [each.fact for each in read_facts(c, "r1")])
        await engine.dispose()
        return stored, writer.hexdigest()

    stored, digest = asyncio.run(run())
    assert [line_of(fact) for fact in stored] == [line_of(fact) for fact in facts]
    assert stored == facts
    assert digest == digest_over(facts)
