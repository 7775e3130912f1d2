"""The one queue: whatever can change a decision is stamped here and so has one total order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from bot.core.events import Frame, Input


class Inbox:
    """A bounded queue for one event loop. Sockets stop being read while it is full.

    ``limit`` is where it counts as full; what was already received still goes in, so nothing is
    ever dropped.
    """

    def __init__(self, limit: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.has_room = asyncio.Event()
        self.has_room.set()
        self._limit = limit
        self._clock_ns = clock_ns
        self._items: deque[Input] = deque()
        self._filled = asyncio.Event()
        self._last_ns = 0
        self._longest = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def longest(self) -> int:
        """The most that it ever held. It only shrinks when taken from, so that is looked at."""
        return max(self._longest, len(self._items))

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
        if len(items) >= self._limit:
            self.has_room.clear()

    def put_frames(self, conn: str, messages: Sequence[bytes]) -> bool:
        """Take in what one read of a socket brought, with one stamp; whether there is room for more."""
        ts = self.now()
        items = self._items
        if not items:
            self._filled.set()
        items.extend([Frame(ts, conn, data) for data in messages])
        if len(items) < self._limit:
            return True
        self.has_room.clear()
        return False

    async def take(self, most: int) -> list[Input]:
        """Wait for something, then take up to ``most`` inputs, oldest first."""
        await self._filled.wait()
        items = self._items
        count = len(items)
        if count > self._longest:
            self._longest = count
        if count <= most:
            taken = [*items]
            items.clear()
            self._filled.clear()
        else:
            taken = [items.popleft() for _ in range(most)]
        if len(items) < self._limit:
            self.has_room.set()
        return taken
