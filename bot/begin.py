"""How a run begins: a new one, or the unfinished one of this instance, made again."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import structlog
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.config import Settings
from bot.inbox import Inbox
from bot.ledger.journal import JournalError, is_written, read_header
from bot.ledger.runs import finish_run, last_unfinished_run
from bot.ledger.writer import LedgerWriter
from bot.operate.log import bind_run
from bot.restart import RunError, Stepped, fresh, stepped_again
from bot.run import Run

log = structlog.get_logger()

DECISIVE = ("symbols", "feed", "account", "exchange", "risk", "strategies")
"""The settings that change what is decided: a run is continued with the same."""

_UNDECIDING = {"api", "ledger", "mqtt", "notify", "schedule", "dashboard", "metrics"}


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
        made = await _stepped_again(settings, row, ledger)
        inbox.start_after(made.last_ts)
        if not made.run.has_ended:
            log.info("run continued", inputs=made.run.position, facts=made.run.counts["facts"])
            return Begun(made.run, made.writer, is_continued=True)
        await made.writer.commit(None)
        await finish_run(ledger, row["id"], ended_ts=inbox.now())
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    bind_run(run_id)
    made = fresh(settings, ledger, run_id)
    return Begun(made.run, made.writer, is_continued=False)


async def _stepped_again(settings: Settings, row: dict[str, Any], ledger: AsyncEngine) -> Stepped:
    """The unfinished run, as far as its journal goes. Raises RunError."""
    folder = settings.journal.folder / row["id"]
    bind_run(row["id"])
    try:
        now, then = record_of(settings), read_header(folder)["config"]
        changed = [key for key in DECISIVE if now[key] != then.get(key)]
        if not changed:
            return await stepped_again(settings, row, folder, ledger)
    except JournalError as error:
        raise RunError(
            f"run {row['id']} is unfinished and cannot be continued ({error}): start a new run "
            "with --new"
        ) from error
    raise RunError(
        f"run {row['id']} is unfinished and was made with other settings "
        f"({', '.join(changed)}): restore them, or start a new run with --new"
    )


def record_of(settings: Settings) -> dict[str, Any]:
    """The settings without those that decide nothing and have addresses or secrets in them."""
    return settings.model_dump(mode="json", exclude=_UNDECIDING)
