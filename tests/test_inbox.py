"""The one queue: one order, one clock, a limit that stops the sockets and drops nothing."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from bot.core.events import Tick
from bot.inbox import Inbox


@given(st.lists(st.integers(0, 100), min_size=1))
def test_its_clock_never_goes_back_whatever_the_systems_does(times):
    source = iter(times)
    inbox = Inbox(10, clock_ns=lambda: next(source))
    stamps = [inbox.now() for _ in times]
    assert stamps == sorted(stamps)
    assert stamps == [max(times[: index + 1]) for index in range(len(times))]


def test_its_clock_starts_after_the_last_input_of_an_earlier_process():
    inbox = Inbox(10, clock_ns=lambda: 5)
    inbox.start_after(9)
    assert inbox.now() == 9


async def test_what_goes_in_comes_out_once_and_in_order():
    inbox = Inbox(3)
    for ts in range(10):
        inbox.put(Tick(ts))
    assert len(inbox) == inbox.longest == 10
    taken = [await inbox.take(4), await inbox.take(4), await inbox.take(4)]
    assert [len(part) for part in taken] == [4, 4, 2]
    assert [item.ts for part in taken for item in part] == list(range(10))


async def test_reading_stops_while_it_is_full_and_goes_on_below_its_limit():
    inbox = Inbox(3)
    seen = []
    for ts in range(4):
        inbox.put(Tick(ts))
        seen.append(inbox.has_room.is_set())
    assert seen == [True, True, False, False]
    await inbox.take(1)
    assert not inbox.has_room.is_set()
    await inbox.take(1)
    assert inbox.has_room.is_set()


async def test_an_empty_queue_waits_for_its_next_input():
    inbox = Inbox(3)
    waiting = asyncio.create_task(inbox.take(5))
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.put(Tick(1))
    assert await waiting == [Tick(1)]
    again = asyncio.create_task(inbox.take(5))
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()
