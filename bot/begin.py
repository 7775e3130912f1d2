"""How a run begins: a new one, or the unfinished one stepped again from its journal."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import structlog
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from bot import build
from bot.config import Settings
from bot.core.errors import PlainError
from bot.inbox import Inbox
from bot.ledger.journal import JournalError, JournalReader, is_written, read_header
from bot.ledger.rows import RECORDED_LIVE
from bot.ledger.runs import finish_run, last_unfinished_run
from bot.ledger.writer import LedgerWriter
from bot.operate.log import bind_run
from bot.run import Run

log = structlog.get_logger()

DECISIVE = ("symbols", "feed", "account", "exchange", "risk", "strategies")
"""The settings that change what is decided: a run is continued with the same."""

_UNDECIDING = {"ledger", "mqtt", "notify", "schedule", "dashboard", "metrics"}


class RunError(PlainError):
    """A run cannot go on; the text says why and what to do."""


class Begun(Struct):
    """A run before its next input, new or continued; its facts go through ``writer``."""

    run: Run
    writer: LedgerWriter
    is_continued: bool

    @property
    def id(self) -> str:
        return self.writer.run_id


async def begin(settings: Settings, ledger: AsyncEngine, inbox: Inbox, *, is_new: bool) -> Begun:
    """Continue the unfinished run of this instance, or name a new one.

    Raises RunError, StrategyError and LedgerError.
    """
    while (row := await last_unfinished_run(ledger, instance=settings.instance)) is not None:
        if is_written(settings.journal.folder / row["id"]):
            raise RunError(
                f"run {row['id']} is under way in another process: stop it, or give this bot "
                "another `instance` in config.yaml"
            )
        if not is_new:
            break
        ended_by = {"ended_by": "user: a new run was started with --new"}
        await finish_run(ledger, row["id"], ended_ts=inbox.now(), status="failed", summary=ended_by)
        log.info("run abandoned", abandoned=row["id"])
    if row is not None:
        begun = _stepped_again(settings, row, ledger, inbox)
        if not begun.run.has_ended:
            return begun
        # It was stopped and only its last words are missing.
        begun.run.finish()
        await begun.writer.commit(None)
        await finish_run(ledger, begun.id, ended_ts=inbox.now())
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    bind_run(run_id)
    writer = LedgerWriter(ledger, run_id, recorded=RECORDED_LIVE)
    run = Run(build.engine(settings), writer, warn=log.warning)
    return Begun(run, writer, is_continued=False)


def _stepped_again(
    settings: Settings, row: dict[str, Any], ledger: AsyncEngine, inbox: Inbox
) -> Begun:
    """Step through the run's journal: the same facts, which the ledger takes in but once."""
    folder = settings.journal.folder / row["id"]
    bind_run(row["id"])
    try:
        now, then = record_of(settings), read_header(folder)["config"]
        reader = JournalReader(folder)
    except JournalError as error:
        raise RunError(
            f"run {row['id']} is unfinished and cannot be continued ({error}): start a new run "
            "with --new"
        ) from error
    changed = [key for key in DECISIVE if now[key] != then.get(key)]
    if changed:
        raise RunError(
            f"run {row['id']} is unfinished and was made with other settings "
            f"({', '.join(changed)}): restore them, or start a new run with --new"
        )
    writer = LedgerWriter(ledger, row["id"], recorded=RECORDED_LIVE)
    run = Run(build.engine(settings), writer, warn=log.warning)
    last_ts = 0
    for item in reader:
        run.take(item)
        last_ts = item.ts
    inbox.start_after(last_ts)
    if reader.torn:
        log.warning("the journal's tail was torn: it never happened", detail=str(reader.torn))
    log.info("run continued", inputs=run.position, facts=run.counts["facts"])
    return Begun(run, writer, is_continued=True)


def record_of(settings: Settings) -> dict[str, Any]:
    """The settings without those that decide nothing and have addresses or secrets in them."""
    return settings.model_dump(mode="json", exclude=_UNDECIDING)
