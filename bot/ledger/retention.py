"""Which journals may go: those of runs that ended long ago. Blocks; call it in a thread."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, select

from bot.ledger import tables
from bot.ledger.journal import is_written
from bot.ledger.segment import segments_of


def ended_before(connection: Connection, instance: str, ts: int) -> list[str]:
    """The ids of an instance's runs that ended before ``ts``."""
    runs = tables.runs
    statement = select(runs.c.id).where(
        runs.c.instance == instance, runs.c.status != "running", runs.c.ended_ts < ts
    )
    return [str(each) for each in connection.execute(statement).scalars()]


def delete_journal(folder: Path) -> int:
    """Delete the segments of a run's folder, and the folder if it is empty then; the bytes freed.

    A journal that a process writes is left alone. Raises OSError.
    """
    if not folder.is_dir() or is_written(folder):
        return 0
    freed = 0
    for path in segments_of(folder).values():
        freed += path.stat().st_size
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return freed
