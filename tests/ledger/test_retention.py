"""Which journals may go."""

from __future__ import annotations

from bot.core.events import Tick
from bot.ledger.journal import JournalReader, JournalWriter
from bot.ledger.retention import delete_journal, ended_before
from bot.ledger.runs import finish_run, start_run
from bot.ledger.schema import open_ledger


async def test_only_runs_of_this_bot_that_ended_long_ago_are_named(url):
    engine = await open_ledger(url)
    for name, instance, ended in (
        ("old", "a", 10),
        ("new", "a", 99),
        ("running", "a", None),
        ("foreign", "b", 10),
    ):
        await start_run(engine, name, mode="paper", instance=instance, started_ts=1, config={},
                        code_version="x")  # fmt: skip
        if ended is not None:
            await finish_run(engine, name, ended_ts=ended)
    async with engine.connect() as connection:
        assert await connection.run_sync(ended_before, "a", 50) == ["old"]
        assert await connection.run_sync(ended_before, "b", 50) == ["foreign"]
    await engine.dispose()


def test_a_journal_goes_whole_unless_it_is_written_and_nothing_else_goes(tmp_path):
    folder = tmp_path / "r1"
    writer = JournalWriter(folder, {})
    writer.append(Tick(1))
    assert delete_journal(folder) == 0
    writer.rotate({})
    writer.append(Tick(2))
    writer.close()
    assert [item.ts for item in JournalReader(folder)] == [1, 2]
    note = folder / "note.txt"
    note.touch()
    assert delete_journal(folder) > 0
    assert [*folder.iterdir()] == [note]
    note.unlink()
    assert delete_journal(folder) == 0
    assert not folder.exists()
    assert delete_journal(folder) == 0
