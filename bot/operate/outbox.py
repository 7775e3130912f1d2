"""What waits for the broker: bounded telemetry, and the news that the ledger holds new fills."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from bot.operate.messages import encode


class Parcel(Struct, frozen=True, gc=False):
    """A payload for a topic below the instance's own."""

    topic: str
    payload: bytes
    retain: bool = False


class Outbox:
    """Telemetry: beyond ``limit`` the oldest is dropped and counted. Fills: the ledger has them."""

    def __init__(self, limit: int) -> None:
        self.filled = asyncio.Event()
        self.fills_due = asyncio.Event()
        self.fills_due.set()  # of what earlier processes committed and did not send
        self.dropped = 0
        self._limit = limit
        self._parcels: deque[Parcel] = deque()

    def __len__(self) -> int:
        return len(self._parcels)

    def put(self, topic: str, message: Struct, *, retain: bool = False) -> None:
        """Take a message in. Never blocks."""
        if len(self._parcels) >= self._limit:
            self._parcels.popleft()
            self.dropped += 1
        self._parcels.append(Parcel(topic, encode(message), retain))
        self.filled.set()

    def take(self, most: int) -> list[Parcel]:
        """The oldest parcels, none where nothing waits."""
        taken = [self._parcels.popleft() for _ in range(min(most, len(self._parcels)))]
        if not self._parcels:
            self.filled.clear()
        return taken

    def put_back(self, parcels: Sequence[Parcel]) -> None:
        """Return what was taken and not sent; what finds no room is dropped."""
        room = max(0, self._limit - len(self._parcels))
        kept = parcels[len(parcels) - room :] if room < len(parcels) else parcels
        self.dropped += len(parcels) - len(kept)
        self._parcels.extendleft(reversed(kept))
        if self._parcels:
            self.filled.set()


class FillCursor:
    """The number of the first fact whose fill may not have been delivered, kept in a file."""

    def __init__(self, path: Path) -> None:
        """A file that is missing or cannot be read means that nothing was delivered."""
        self._path = path
        try:
            self.next_fact = max(0, msgspec.json.decode(path.read_bytes(), type=int))
        except (OSError, msgspec.MsgspecError):
            self.next_fact = 0

    def advance(self, next_fact: int) -> None:
        """Remember that fills before ``next_fact`` were delivered. Raises OSError."""
        self.next_fact = next_fact
        draft = self._path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(next_fact))
        draft.replace(self._path)
