"""How a run begins: new, or continued from what its journal and ledger hold."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.begin import begin, record_of
from bot.config import Settings
from bot.core.events import Command, Input, Tick
from bot.inbox import Inbox
from bot.ledger import queries
from bot.ledger.journal import JournalWriter
from bot.ledger.reading import read
from bot.ledger.runs import start_run
from bot.ledger.schema import open_ledger
from bot.ledger.segment import segment_path
from bot.restart import RunError

T = 1_750_000_000 * 10**9


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return Settings(strategies=())


@pytest.fixture
async def ledger(settings) -> AsyncIterator[AsyncEngine]:
    engine = await open_ledger(settings.ledger.db)
    yield engine
    await engine.dispose()


async def left_behind(
    settings: Settings, ledger: AsyncEngine, run_id: str, *inputs: Input, journal: bool = True
) -> None:
    """What a process that died leaves of a run."""
    await start_run(ledger, run_id, mode="paper", instance=settings.instance, started_ts=T,
                    config={}, code_version="x")  # fmt: skip
    if journal:
        writer = JournalWriter(settings.journal.folder / run_id, {"config": record_of(settings)})
        for item in inputs:
            writer.append(item)
        writer.close()


def status_of(settings: Settings, run_id: str) -> tuple[str, dict]:
    row = read(settings.ledger.db, queries.run, run_id)
    return row["status"], row["summary"]


async def test_without_an_unfinished_run_a_new_one_is_named(settings, ledger):
    begun = await begin(settings, ledger, Inbox(100), is_new=False)
    assert not begun.is_continued
    assert begun.run.position == 0
    assert begun.id


async def test_an_unfinished_run_is_stepped_again_and_its_clock_goes_on(settings, ledger):
    later = 4 * 10**18
    await left_behind(settings, ledger, "old", Tick(T), Tick(later))
    inbox = Inbox(100)
    begun = await begin(settings, ledger, inbox, is_new=False)
    assert (begun.id, begun.is_continued, begun.run.position) == ("old", True, 2)
    assert inbox.now() == later


async def test_a_run_that_died_before_its_first_input_was_on_disk_is_continued(settings, ledger):
    await left_behind(settings, ledger, "old")
    begun = await begin(settings, ledger, Inbox(100), is_new=False)
    assert (begun.id, begun.is_continued, begun.run.position) == ("old", True, 0)


async def test_a_run_that_was_told_to_stop_is_closed_and_another_begins(settings, ledger):
    await left_behind(settings, ledger, "old", Tick(T), Command(T + 1, "stop", "user"))
    begun = await begin(settings, ledger, Inbox(100), is_new=False)
    assert not begun.is_continued
    assert begun.id != "old"
    assert status_of(settings, "old")[0] == "finished"


async def test_new_gives_every_unfinished_run_up(settings, ledger):
    for name in ("one", "two"):
        await left_behind(settings, ledger, name, Tick(T), journal=name == "one")
    begun = await begin(settings, ledger, Inbox(100), is_new=True)
    assert not begun.is_continued
    for name in ("one", "two"):
        status, summary = status_of(settings, name)
        assert status == "failed"
        assert "--new" in summary["ended_by"]


async def test_a_run_of_another_instance_is_left_alone(settings, ledger):
    other = settings.model_copy(update={"instance": "other"})
    await left_behind(other, ledger, "theirs", Tick(T))
    begun = await begin(settings, ledger, Inbox(100), is_new=True)
    assert begun.id != "theirs"
    assert status_of(settings, "theirs")[0] == "running"


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_run_that_a_process_still_writes_is_not_touched(settings, ledger, is_new):
    await left_behind(settings, ledger, "old", Tick(T))
    writer = JournalWriter(settings.journal.folder / "old", {"config": record_of(settings)})
    with pytest.raises(RunError, match="run old is under way in another process"):
        await begin(settings, ledger, Inbox(100), is_new=is_new)
    writer.close()
    assert status_of(settings, "old")[0] == "running"


async def test_a_run_made_with_other_settings_is_not_continued(settings, ledger):
    await left_behind(settings, ledger, "old", Tick(T))
    other = Settings(strategies=(), risk={"max_daily_loss": 1}, log={"level": "error"})
    with pytest.raises(RunError, match=r"other settings \(risk\): restore them, or .* --new"):
        await begin(other, ledger, Inbox(100), is_new=False)


@pytest.mark.parametrize("damage", ["gone", "empty", "not a journal"])
async def test_a_run_without_its_journal_says_how_to_go_on(settings, ledger, damage):
    await left_behind(settings, ledger, "old", Tick(T))
    folder = settings.journal.folder / "old"
    segment = segment_path(folder, 1)
    if damage == "gone":
        shutil.rmtree(folder)
    elif damage == "empty":
        segment.unlink()
    else:
        segment.write_bytes(b"hello")
    with pytest.raises(RunError, match=r"run old is unfinished and cannot be continued .*--new"):
        await begin(settings, ledger, Inbox(100), is_new=False)
