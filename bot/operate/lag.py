"""How late the event loop is: the time between when a sleeper should wake and when it does."""

from __future__ import annotations

import asyncio

from bot.core.histogram import LatencyHistogram

EVERY_S = 0.02


async def watch_lag(histogram: LatencyHistogram) -> None:
    """Count the lag fifty times a second, until cancelled."""
    clock = asyncio.get_running_loop().time
    while True:
        due_s = clock() + EVERY_S
        await asyncio.sleep(EVERY_S)
        histogram.add(round((clock() - due_s) * 1e9))
