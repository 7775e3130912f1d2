"""How late the event loop is: the time between when a sleeper should wake and when it does."""

from __future__ import annotations

import asyncio
import time

from bot.core.histogram import LatencyHistogram

EVERY_S = 0.02


async def watch_lag(lag: LatencyHistogram, own: LatencyHistogram) -> None:
    """Count the lag fifty times a second, until cancelled.

    ``own`` counts of each lag at most what the loop's thread computed since the wake before: what
    other threads, processes and guests of the machine took from it is left out.
    """
    clock = asyncio.get_running_loop().time
    computed_ns = time.thread_time_ns()
    while True:
        due_s = clock() + EVERY_S
        await asyncio.sleep(EVERY_S)
        late_ns = round((clock() - due_s) * 1e9)
        lag.add(late_ns)
        before_ns, computed_ns = computed_ns, time.thread_time_ns()
        own.add(min(late_ns, computed_ns - before_ns))
