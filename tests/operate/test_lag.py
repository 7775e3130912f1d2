"""How late the loop wakes a sleeper, and how much of that its own work explains."""

from __future__ import annotations

import asyncio
import time

from bot.core.histogram import LatencyHistogram
from bot.operate.lag import EVERY_S, watch_lag

HELD_UP_S = 0.1
NS = 10**9


async def watched(hold_up: object) -> tuple[LatencyHistogram, LatencyHistogram]:
    lag, own = LatencyHistogram(), LatencyHistogram()
    watching = asyncio.create_task(watch_lag(lag, own))
    await asyncio.sleep(0)
    hold_up()  # type: ignore[operator]
    await asyncio.sleep(2 * EVERY_S)
    watching.cancel()
    return lag, own


async def test_a_loop_that_only_waited_is_late_through_others() -> None:
    lag, own = await watched(lambda: time.sleep(HELD_UP_S))
    late_ns = round((HELD_UP_S - EVERY_S) * NS)
    assert lag.quantile(1.0) >= late_ns
    assert own.quantile(1.0) < late_ns / 2


async def test_a_loop_that_computed_is_late_through_itself() -> None:
    def compute() -> None:
        ends_ns = time.thread_time_ns() + HELD_UP_S * NS
        while time.thread_time_ns() < ends_ns:
            pass

    lag, own = await watched(compute)
    assert own.total == lag.total
    assert own.quantile(1.0) >= (HELD_UP_S - EVERY_S) * NS
