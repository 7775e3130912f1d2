"""The one queue: whatever can change a decision is stamped here and so has one total order."""

from __future__ import annotations

import asyncio
import time
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
        self._items: list[Input] = []
        self._ready: list[Input] = []
        self._filled = asyncio.Event()
        self._last_ns = 0
        self._longest = 0

    def __len__(self) -> int:
        return len(self._items) + len(self._ready)

    @property
    def longest(self) -> int:
        """The most that it ever held. It only shrinks when taken from, so that is looked at."""
        return max(self._longest, len(self))

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
        self._items.append(item)
        self._filled.set()
        if len(self) >= self._limit:
            self.has_room.clear()

    def put_frames(self, conn: str, messages: Sequence[bytes]) -> bool:
        """Take in what one read of a socket brought, with one stamp.

        Returns whether there is room for more.
        """
        ts = self.now()
        self._items.extend([Frame(ts, conn, data) for data in messages])
        self._filled.set()
        if len(self) < self._limit:
            return True
        self.has_room.clear()
        return False

    async def take(self, most: int) -> list[Input]:
        """Wait for something, then take up to ``most`` inputs, oldest first."""
        await self._filled.wait()
        items, ready = self._items, self._ready
        self._longest = self.longest
        if not ready:
            # The newest come first in it: what is taken is cut off its end, at no cost per input.
            ready[:] = items[::-1]
            items.clear()
        taken = ready[: -most - 1 : -1]
        del ready[-most:]
        if not (ready or items):
            self._filled.clear()
        if len(self) < self._limit:
            self.has_room.set()
        return taken
