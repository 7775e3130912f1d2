"""What a live run keeps: journal before ledger, snapshots, and patience with a database away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from bot import snapshot
from bot.core.events import CommandName
from bot.core.snapshot import SnapshotError
from bot.inbox import Inbox
from bot.ledger.database import LedgerError
from bot.ledger.journal import JournalWriter
from bot.ledger.writer import LedgerWriter, Snapshot
from bot.run import Run

log = structlog.get_logger()

KEEP_EVERY_S = 0.2
MOST_PENDING = 200_000
"""Steps that may wait for a database that is away; beyond, the run ends."""


class Keeping:
    """Flushes, commits, takes snapshots. ``command`` puts a command into the run's queue.

    A database that is away for ``away_s`` stops new orders, for twice as long the run.
    """

    def __init__(
        self,
        run: Run,
        inbox: Inbox,
        journal: JournalWriter,
        writer: LedgerWriter,
        command: Callable[[CommandName, str, str], None],
        *,
        snapshot_s: float = 60.0,
        away_s: float = 60.0,
    ) -> None:
        self._run = run
        self._inbox = inbox
        self._journal = journal
        self._writer = writer
        self._command = command
        self._snapshot_s = snapshot_s
        self._snapshot_due = time.monotonic() + snapshot_s
        self._away_s = away_s
        self._away_since: float | None = None
        self._is_halted = False

    async def keep_journal(self) -> None:
        """Flush the journal and take snapshots, over and over, whatever the database does."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            self._take_snapshot()
            try:
                if self._journal.due(self._inbox.now()):
                    await asyncio.to_thread(self._journal.flush)
            except OSError as error:
                log.error("the journal cannot be written", error=str(error))
                self._command("stop", "disk", str(error))
                return

    async def keep_ledger(self) -> None:
        """Commit the facts whose causes are on disk, over and over."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            await self._commit()

    # --- snapshots ---------------------------------------------------------------------------

    def _take_snapshot(self) -> None:
        """Between two inputs, now and then; none while rows wait for the database."""
        now = time.monotonic()
        if now < self._snapshot_due or self._away_since is not None or not self._run.position:
            return
        self._snapshot_due = now + self._snapshot_s
        try:
            body = snapshot.saved(self._run)
        except SnapshotError as error:
            log.warning("no snapshot: a restart steps the whole journal", why=str(error))
            return
        self._writer.add_snapshot(Snapshot(self._run.position, self._inbox.now(), body))

    # --- the database ------------------------------------------------------------------------

    async def _commit(self) -> None:
        try:
            await self._writer.commit(self._journal.durable_position)
        except LedgerError as error:
            self._bear(error)
            return
        if self._away_since is not None:
            away_s = round(time.monotonic() - self._away_since, 1)
            log.info(
                "the ledger is back, nothing is missing",
                away_s=away_s,
                committed=self._writer.committed_facts,
            )
        self._away_since = None

    def _bear(self, error: LedgerError) -> None:
        """Wait; then let nothing new be ordered; then end."""
        now = time.monotonic()
        if self._away_since is None:
            log.error("the ledger is away, its rows wait", error=str(error))
            self._away_since = now
        away_s = now - self._away_since
        if away_s >= self._away_s and not self._is_halted:
            self._is_halted = True
            log.error("the ledger is still away: no new orders", waiting=self._writer.pending)
            self._command("halt", "database", str(error))
        if away_s >= 2 * self._away_s or self._writer.pending > MOST_PENDING:
            self._command("stop", "database", str(error))
