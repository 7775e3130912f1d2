"""The scheduled jobs of a live run: what each does. When is in the settings."""

from __future__ import annotations

import asyncio
import resource
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from bot import background
from bot.config import Settings
from bot.inbox import Inbox
from bot.ledger.backup import back_up
from bot.ledger.database import clear_errors
from bot.ledger.day import day
from bot.ledger.retention import delete_journal, ended_before
from bot.ledger.writer import LedgerWriter
from bot.live import Live
from bot.operate import daily
from bot.operate.alerts import Tell
from bot.operate.schedule import Job
from bot.run import Run, money

if TYPE_CHECKING:
    from collections.abc import Awaitable

log = structlog.get_logger()

_DAY_NS = 86_400 * 10**9


class Parts(Struct, frozen=True):
    """What the jobs work with."""

    settings: Settings
    ledger: AsyncEngine
    inbox: Inbox
    run: Run
    writer: LedgerWriter
    live: Live
    tell: Tell
    config: Path | None = None

    @property
    def config_words(self) -> list[str]:
        """By which another process reads the same settings."""
        return [] if self.config is None else ["--config", str(self.config)]


def jobs(parts: Parts) -> list[Job]:
    """Every job of the settings, with its time."""
    schedule = parts.settings.schedule
    work: dict[str, Callable[[], Awaitable[None]]] = {
        "heartbeat": lambda: _heartbeat(parts),
        "disk": lambda: _disk(parts),
        "instruments": parts.live.terms.rules,
        "journal": lambda: _journal(parts),
        "backup": lambda: _backup(parts),
        "report": lambda: _report(parts),
        "evaluation": lambda: _evaluation(parts),
        "retraining": lambda: _retraining(parts),
    }
    return [Job(name, getattr(schedule, name).when, run) for name, run in work.items()]


async def _heartbeat(parts: Parts) -> None:
    """One line by which a person sees that all is well."""
    run = parts.run
    usage = resource.getrusage(resource.RUSAGE_SELF)
    log.info(
        "alive",
        inputs=run.position,
        fills=run.counts["fills"],
        gaps=run.counts["gaps"],
        equity=f"{money(run)['equity']:.2f}",
        trading=run.engine.risk.state,
        inbox=len(parts.inbox),
        ledger_pending=parts.writer.pending,
        rss_mb=usage.ru_maxrss >> 10,
        cpu_s=round(usage.ru_utime + usage.ru_stime, 1),
    )


async def _disk(parts: Parts) -> None:
    folder = parts.settings.journal.folder
    free_mb = shutil.disk_usage(folder).free >> 20
    if free_mb < parts.settings.notify.least_free_mb:
        parts.tell("disk", "critical", f"{folder}: only {free_mb} MB are free")


async def _journal(parts: Parts) -> None:
    """A new segment; and the journals of runs that ended long ago go."""
    await parts.live.rotate()
    keep_days = parts.settings.schedule.journal.keep_days
    if not keep_days:
        return
    before = parts.inbox.now() - keep_days * _DAY_NS
    with clear_errors(parts.ledger.url, "the ledger cannot be read"):
        async with parts.ledger.connect() as connection:
            ended = await connection.run_sync(ended_before, parts.settings.instance, before)
    folder = parts.settings.journal.folder
    freed = await asyncio.to_thread(lambda: sum(delete_journal(folder / each) for each in ended))
    if freed:
        log.info("old journals deleted", mb=freed >> 20)


async def _backup(parts: Parts) -> None:
    wanted = parts.settings.schedule.backup
    path = await asyncio.to_thread(
        back_up, parts.settings.ledger.db, wanted.folder, wanted.keep, parts.inbox.now()
    )
    log.info("database backed up and checked", path=str(path), mb=path.stat().st_size >> 20)


async def _report(parts: Parts) -> None:
    """The UTC day that is over; after midnight, yesterday."""
    wanted = parts.settings.schedule.report
    today = datetime.fromtimestamp(parts.inbox.now() / 1e9, UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    name = f"{today - timedelta(days=1):%Y-%m-%d}"
    end_ns = int(today.timestamp()) * 10**9
    with clear_errors(parts.ledger.url, "the ledger cannot be read"):
        async with parts.ledger.connect() as connection:
            report = await connection.run_sync(
                lambda sync: day(
                    sync, run=parts.writer.run_id, start_ns=end_ns - _DAY_NS, end_ns=end_ns
                )
            )
    path = await asyncio.to_thread(daily.write, wanted.folder, name, report, wanted.keep)
    log.info("daily report written", path=str(path))
    parts.tell("report", "info", daily.text(name, report))


async def _evaluation(parts: Parts) -> None:
    rows = await background.verb(["models", "evaluate", *parts.config_words], _database(parts))
    log.info("models evaluated", rows=len(rows))


async def _retraining(parts: Parts) -> None:
    """A challenger; the running models stay what they are until the next start."""
    row = await background.verb(["models", "retrain", *parts.config_words], _database(parts))
    words = (
        f"{row['challenger_id']}: {row['metric']} {row['challenger_value']:.5f} beside the "
        f"champion's {row['champion_value']:.5f} over {row['n']} outcomes"
    )
    if row["switched"]:
        parts.tell("model", "warning", f"{words}: it is active and used from the next start on")
    else:
        log.info("the challenger is not surely better, the model stays", comparison=words)


def _database(parts: Parts) -> dict[str, str]:
    """The ledger as this process was told it, in the child's environment: no list of processes
    shows that."""
    return {"BOT__LEDGER__DB": parts.settings.ledger.db}
