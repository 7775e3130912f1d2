"""Jobs by the wall clock: when, how often, and what happens when one fails or is late."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from bot.core.errors import PlainError
from bot.operate.schedule import Job, ScheduleError, serve, trigger_of
from tests.operate.brokers import until


def next_time(when: str, now: datetime) -> datetime:
    trigger = trigger_of("job", when)
    assert trigger is not None
    return trigger.get_next_fire_time(None, now)


def test_times_are_cron_lines_in_utc():
    now = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)  # a Tuesday
    assert next_time("30 3 * * *", now) == datetime(2026, 11, 25, 3, 30, tzinfo=UTC)
    assert next_time("7 */4 * * *", now) == datetime(2026, 11, 24, 12, 7, tzinfo=UTC)
    assert next_time("0 0 1 * *", now) == datetime(2026, 12, 1, tzinfo=UTC)
    assert next_time("0 6 * * sun", now) == datetime(2026, 11, 29, 6, tzinfo=UTC)
    assert trigger_of("job", "never") is None


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("61 * * * *", "61"),
        ("0 0 * * 0", "name the days of the week"),
        ("0 0 * * mon-5", "name the days"),
        ("every 0.1s", "less than a second"),
        ("every s", "no time"),
        ("* * *", "no time"),
        ("a b c d e", "no time"),
    ],
)
def test_what_is_no_time_is_one_line_with_the_job(when, says):
    with pytest.raises(ScheduleError, match=says) as caught:
        trigger_of("schedule.backup.when", when)
    assert str(caught.value).startswith("schedule.backup.when: ")


@contextlib.asynccontextmanager
async def served(*jobs: Job):
    failures: list[tuple[str, str]] = []
    task = asyncio.create_task(
        serve(jobs, late_s=5, failed=lambda name, why: failures.append((name, why)))
    )
    try:
        yield task, failures
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_job_that_fails_is_told_and_runs_again():
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        raise PlainError(f"try {runs}")

    async with served(Job("backup", "every 1s", work)) as (_, failures):
        await until(lambda: len(failures) == 2)
    assert failures == [("backup", "try 1"), ("backup", "try 2")]


async def test_a_job_still_running_when_it_is_due_is_left_out_and_told():
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(100)

    async with served(Job("backup", "every 1s", work)) as (_, failures):
        await until(lambda: failures)
    assert runs == 1
    assert failures[0] == ("backup", "it was left out: the one before is still running")


async def test_a_broken_job_ends_the_schedule_with_its_error():
    async def work() -> None:
        raise ZeroDivisionError

    async with served(Job("backup", "every 1s", work)) as (task, _):
        with pytest.raises(ZeroDivisionError):
            await task
