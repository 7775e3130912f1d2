"""A verb in a process of its own, beside a run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bot import background
from tests.operate.brokers import until


async def test_what_a_verb_printed_comes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problems = await background.verb(["config", "check"], {"BOT__RISK__MAX_DAILY_LOSS": "1"})
    assert problems


async def test_a_verb_that_fails_says_why_in_its_own_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(background.BackgroundError, match=r"bot runs: .*no-such\.db"):
        await background.verb(["runs"], {"BOT__LEDGER__DB": "sqlite:///no-such.db"})


def children() -> set[int]:
    """The processes that this one has started."""
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return {int(pid) for pid in listed.split()}


async def test_it_has_the_least_priority_and_ends_with_the_one_who_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = children()
    asked = asyncio.create_task(background.verb(["venue", "--port", "0"], {}))
    await until(lambda: children() - before)
    (pid,) = children() - before
    await until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == 19)
    assert os.sched_getscheduler(pid) == os.SCHED_IDLE
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert not children() - before
