"""An unfinished run made again: its last snapshot, then the journal's tail, through the same step.

A snapshot that cannot be used gives way to the one before, and the last of them to the whole
journal. What is stepped must lead to the facts that the ledger already has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from bot import build, snapshot
from bot.config import Settings
from bot.core.errors import PlainError
from bot.core.snapshot import SnapshotError
from bot.ledger.bookkeeper import Bookkeeper
from bot.ledger.database import clear_errors
from bot.ledger.digest import FactDigest
from bot.ledger.facts import digest_of
from bot.ledger.journal import JournalReader
from bot.ledger.snapshots import StoredSnapshot, stored_snapshots
from bot.ledger.writer import LedgerWriter
from bot.run import Run

log = structlog.get_logger()

_COMMIT_EVERY = 20_000
"""Steps that wait in memory while a long journal is stepped."""


class RunError(PlainError):
    """A run cannot go on; the text says why and what to do."""


class Stepped(Struct):
    """A run as far as its journal goes. ``last_ts`` is the stamp of the last input stepped."""

    run: Run
    writer: LedgerWriter
    last_ts: int = 0


def fresh(
    settings: Settings,
    ledger: AsyncEngine,
    run_id: str,
    next_fact: int = 0,
    digest: FactDigest | None = None,
) -> Stepped:
    """A run before its first input. Raises StrategyError."""
    writer = LedgerWriter(ledger, run_id, next_fact=next_fact, digest=digest)
    engine = build.engine(settings)
    books = Bookkeeper(writer, engine.market, engine.account)
    return Stepped(Run(engine, books, warn=log.warning), writer)


async def stepped_again(
    settings: Settings, row: dict[str, Any], folder: Path, ledger: AsyncEngine
) -> Stepped:
    """Continue the run of ``row`` (its row in the ledger) from the journal in ``folder``.

    Raises RunError where the journal does not lead to what the ledger has, JournalError, and
    LedgerError.
    """
    with clear_errors(ledger.url, "its snapshots cannot be read"):
        async with ledger.connect() as connection:
            found = await connection.run_sync(stored_snapshots, row["id"])
    for stored in found:
        try:
            made = await _restored(settings, row["id"], stored, ledger)
            await _step(made, row, folder)
            _require_recorded(made, row)
        except SnapshotError as error:
            log.warning("a snapshot is left out", position=stored.position, why=str(error))
            continue
        log.info("restarted from a snapshot", position=stored.position, inputs=made.run.position)
        return made
    made = fresh(settings, ledger, row["id"])
    await _step(made, row, folder)
    try:
        _require_recorded(made, row)
    except SnapshotError as error:
        raise RunError(
            f"run {row['id']} is unfinished and cannot be continued ({folder}: {error}): restore "
            "the journal, or start a new run with --new"
        ) from error
    return made


async def _restored(
    settings: Settings, run_id: str, stored: StoredSnapshot, ledger: AsyncEngine
) -> Stepped:
    """The run as it was at a snapshot, its digest made again from the ledger's rows."""
    if not stored.is_whole:
        raise SnapshotError("damaged: its checksum differs")
    with clear_errors(ledger.url, "its facts cannot be read"):
        async with ledger.connect() as connection:
            digest = await connection.run_sync(digest_of, run_id, stored.facts)
    if digest.hexdigest() != stored.digest:
        raise SnapshotError(f"the ledger's first {stored.facts} facts are not those before it")
    made = fresh(settings, ledger, run_id, stored.facts, digest)
    snapshot.restore(made.run, stored.body)
    made.last_ts = stored.ts
    return made


async def _step(made: Stepped, row: dict[str, Any], folder: Path) -> None:
    """Through the journal from where the run stands."""
    run, writer = made.run, made.writer
    reader = JournalReader(folder, run.position)
    for item in reader:
        run.take(item)
        made.last_ts = item.ts
        if writer.pending >= _COMMIT_EVERY and writer.next_fact <= row["facts"]:
            await writer.commit(None)
    if run.has_ended:
        run.finish()  # It was stopped, and only its last words may be missing.
    if reader.torn:
        log.warning("the journal's tail was torn: it never happened", detail=str(reader.torn))


def _require_recorded(made: Stepped, row: dict[str, Any]) -> None:
    """Raises SnapshotError unless the run made the facts that the ledger has of it."""
    facts, recorded = made.writer.next_fact, row["facts"]
    if facts < recorded:
        raise SnapshotError(f"it leads to {facts} facts, but {recorded} were recorded")
    if made.writer.hexdigest_at(recorded) != row["digest"]:
        raise SnapshotError(
            "it leads to other facts than were recorded (another version of kvtrader or of a "
            "strategy, or a strategy that keeps something outside `state`)"
        )
