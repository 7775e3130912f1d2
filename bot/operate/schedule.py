"""Jobs by the wall clock, on the bot's own loop. Market-time work is in events, never here.

A job that is still running when it is due again is left out that once, one that is late by more
than the grace is left out, several that were missed become one; each is told.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC
from typing import Any, TypeAlias

import structlog
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    JobExecutionEvent,
    JobSubmissionEvent,
)
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from msgspec import Struct

from bot.core.errors import PlainError

log = structlog.get_logger()

Failed: TypeAlias = Callable[[str, str], None]
"""Told a job's name and what went wrong."""
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_ANSWERS = {
    EVENT_JOB_MISSED: "it was left out: the bot was too busy or asleep at its time",
    EVENT_JOB_MAX_INSTANCES: "it was left out: the one before is still running",
}


class ScheduleError(PlainError):
    """A job's time cannot be understood; the text says which and what is allowed."""


class Job(Struct, frozen=True):
    """What runs, and when: "never", "every 60s", or a cron line in UTC."""

    name: str
    when: str
    run: Callable[[], Awaitable[None]]


def trigger_of(name: str, when: str) -> CronTrigger | IntervalTrigger | None:
    """When a job runs; None for never. Raises ScheduleError."""
    if when == "never":
        return None
    every = re.fullmatch(r"every (\d+(?:\.\d+)?)([smhd])", when)
    if every is not None:
        seconds = float(every[1]) * _SECONDS[every[2]]
        if seconds < 1:
            raise ScheduleError(f"{name}: {when!r} is less than a second")
        return IntervalTrigger(seconds=seconds, timezone=UTC)
    try:
        minute, hour, day, month, weekday = when.split()
        if re.search(r"\d", weekday):
            # APScheduler counts from Monday, cron from Sunday: a number would mean the wrong day.
            raise ScheduleError(f"{name}: {when!r}: name the days of the week: mon, tue, ... sun")
        return CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=weekday, timezone=UTC
        )
    except ValueError as error:
        raise ScheduleError(
            f'{name}: {when!r} is no time ({error}): write never, "every 60s" or a cron line '
            "like 30 3 * * *"
        ) from error


async def serve(jobs: Sequence[Job], *, late_s: int, failed: Failed) -> None:
    """Run the jobs at their times until cancelled. Raises ScheduleError.

    A job that fails with a PlainError or an OSError is told to ``failed`` and runs again at its
    next time; any other error is a broken program and ends this.
    """
    scheduler = AsyncIOScheduler(timezone=UTC)
    broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_event(event: JobSubmissionEvent | JobExecutionEvent) -> None:
        if event.code in _ANSWERS:
            failed(event.job_id, _ANSWERS[event.code])
        elif not broken.done():
            broken.set_exception(event.exception)

    scheduler.add_listener(on_event, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
    for job in jobs:
        _add(scheduler, job, late_s, failed)
    scheduler.start()
    try:
        await broken
    finally:
        scheduler.shutdown(wait=False)


def _add(scheduler: Any, job: Job, late_s: int, failed: Failed) -> None:
    trigger = trigger_of(job.name, job.when)
    if trigger is None:
        return

    async def run() -> None:
        try:
            await job.run()
        except (PlainError, OSError) as error:
            failed(job.name, str(error))

    scheduler.add_job(
        run,
        trigger,
        id=job.name,
        misfire_grace_time=late_s,
        coalesce=True,
        max_instances=1,
    )
