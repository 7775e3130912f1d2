"""The one queue: whatever can change a decision is stamped here and so has one total order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from bot.core.events import Input


class Inbox:
    """A bounded queue for one event loop. Sockets stop being read while it is full.

    ``limit`` is where it counts as full; what was already received still goes in, so nothing is
    ever dropped.
    """

    def __init__(self, limit: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.longest = 0
        self._limit = limit
        self._clock_ns = clock_ns
        self._items: deque[Input] = deque()
        self._filled = asyncio.Event()
        self._last_ns = 0

    def __len__(self) -> int:
        return len(self._items)

    def now(self) -> int:
        """Local time in ns. Never decreases, whatever the system's clock does."""
        now_ns = self._clock_ns()
        if now_ns > self._last_ns:
            self._last_ns = now_ns
        return self._last_ns

    def start_after(self, ts: int) -> None:
        """Make no stamp earlier than ``ts``, that of the last input of an earlier process."""
        self._last_ns = max(self._last_ns, ts)

    def put(self, item: Input) -> None:
        """Take an input in; the caller has stamped it with ``now``. Never blocks."""
        items = self._items
        if not items:
            self._filled.set()
        items.append(item)
        if len(items) > self.longest:
            self.longest = len(items)
        if len(items) >= self._limit:
            self.has_room.clear()

    async def take(self, most: int) -> list[Input]:
        """Wait for something, then take up to ``most`` inputs, oldest first."""
        await self._filled.wait()
        items = self._items
        taken = [items.popleft() for _ in range(min(most, len(items)))]
        if not items:
            self._filled.clear()
        if len(items) < self._limit:
            self.has_room.set()
        return taken
