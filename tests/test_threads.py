"""Threads beside the event loop let it go first."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from bot.threads import behind_the_loop, stand_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has them by thread")


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_the_loops_helpers_stand_behind_it_and_it_stays_where_it_was() -> None:
    before = nice()
    with behind_the_loop() as helpers:
        asyncio.get_running_loop().set_default_executor(helpers)
        assert await asyncio.to_thread(nice) == min(before + 10, 19)
    assert nice() == before


def test_what_a_thread_behind_starts_is_behind_and_nobody_falls_below_the_least() -> None:
    seen: list[int] = []

    def child() -> None:
        seen.append(nice())
        stand_back()
        seen.append(nice())

    def parent() -> None:
        stand_back()
        thread = threading.Thread(target=child)
        thread.start()
        thread.join()

    before = nice()
    thread = threading.Thread(target=parent)
    thread.start()
    thread.join()
    assert seen == [min(before + 10, 19), 19]
