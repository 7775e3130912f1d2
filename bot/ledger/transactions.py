"""One transaction of finished statements, taken by each database as it does it best."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.ledger.database import is_file, listen

SWITCH_S: Final = 0.001
"""How long a thread waits for the interpreter's lock before it asks for it, where Python's own
5 ms are longer. A transaction takes the lock some dozen times, for microseconds each."""
Statement: TypeAlias = tuple[str, tuple[Any, ...]]
"""A text in the driver's own style, and what is bound to it."""


class Transactions(Protocol):
    """Writes all of some statements or none. Raises the driver's errors as SQLAlchemy has them.

    A statement is asked for when the one before it was written, so making it may take its time;
    perhaps from another thread.
    """

    async def write(self, statements: Iterable[Statement]) -> None: ...


def transactions_of(engine: AsyncEngine) -> Transactions:
    """How the database of ``engine`` is written."""
    return InThread(engine) if is_file(engine.url) else OverNetwork(engine)


class OverNetwork:
    """Statement by statement through the asynchronous driver; a database in memory, too."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def write(self, statements: Iterable[Statement]) -> None:
        async with self._engine.begin() as connection:
            for text, values in statements:
                await connection.exec_driver_sql(text, values)


class InThread:
    """A SQLite file, through a connection of its own: the whole transaction is one call.

    Through aiosqlite each statement is three, and each of them waits until a busy loop turns to it
    and lends its thread the interpreter's lock; then nearly nothing is written before the loop
    rests.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        sys.setswitchinterval(min(SWITCH_S, sys.getswitchinterval()))
        self._engine: Engine = create_engine(engine.url.set(drivername="sqlite"))
        listen(self._engine)
        event.listen(engine.sync_engine, "engine_disposed", self._dispose)

    async def write(self, statements: Iterable[Statement]) -> None:
        await asyncio.to_thread(self._write, statements)

    def _write(self, statements: Iterable[Statement]) -> None:
        with self._engine.begin() as connection:
            for text, values in statements:
                connection.exec_driver_sql(text, values)

    def _dispose(self, engine: Engine) -> None:
        del engine
        self._engine.dispose()
