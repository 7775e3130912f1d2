"""One transaction of what is to be written, taken by each database as it does it best."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bot.ledger.database import is_file, listen
from bot.ledger.statements import Added, Statement, inserted

SWITCH_S: Final = 0.001
"""How long a thread waits for the interpreter's lock before it asks for it, where Python's own
5 ms are longer. A transaction takes the lock some dozen times, for microseconds each."""
_UNIQUE_VIOLATION: Final = "23505"
"""Of SQL's states."""
Written: TypeAlias = Callable[[], Iterable[Statement | Added]]
"""What a transaction writes, in order; asked for again where it has to be written again."""


class Transactions(Protocol):
    """Writes all or nothing. Raises the driver's errors as SQLAlchemy has them.

    A statement is asked for when the one before it was written, so making it may take its time;
    perhaps from another thread.
    """

    async def write(self, written: Written) -> None: ...


def transactions_of(engine: AsyncEngine) -> Transactions:
    """How the database of ``engine`` is written."""
    if engine.dialect.name == "postgresql":
        return ByCopy(engine)
    return InThread(engine) if is_file(engine.url) else InMemory(engine)


class ByCopy:
    """Postgres: rows by COPY, the rest statement by statement.

    COPY costs the server two thirds of an INSERT and the loop a quarter, but it cannot pass over a
    row that is there already. A transaction that meets one is written again with INSERTs: so it
    goes for a while after a crash, when a run is stepped again.
    """

    MOST: Final = 256
    """Rows a COPY: encoded on the loop, in half a millisecond, into less than the driver sends
    without waiting, so that its own timeout sees a server that hangs."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        driver = engine.dialect.loaded_dbapi.asyncpg
        unfit = TypeError, ValueError, OverflowError  # a value that its column cannot hold
        self._errors: Any = (driver.PostgresError, driver.InterfaceError, *unfit)

    async def write(self, written: Written) -> None:
        try:
            await self._write(written())
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _UNIQUE_VIOLATION:
                raise
            await self._write(inserted(written()))

    async def _write(self, written: Iterable[Statement | Added]) -> None:
        async with self._engine.begin() as connection:
            await connection.exec_driver_sql("SELECT")  # begins the transaction; COPY would not
            for one in written:
                if isinstance(one, Added):
                    await self._copy(connection, one)
                else:
                    await connection.exec_driver_sql(*one)

    async def _copy(self, connection: AsyncConnection, added: Added) -> None:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            for start in range(0, len(added.rows), self.MOST):
                some = added.rows[start : start + self.MOST]
                await driver.copy_records_to_table(added.table, columns=added.columns, records=some)
        except self._errors as error:
            if driver.is_closed():
                await connection.invalidate(error)
            raise DBAPIError(f"COPY {added.table}", None, error) from error


class InMemory:
    """SQLite in memory: statement by statement through the asynchronous driver."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def write(self, written: Written) -> None:
        async with self._engine.begin() as connection:
            for text, values in inserted(written()):
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

    async def write(self, written: Written) -> None:
        await asyncio.to_thread(self._write, inserted(written()))

    def _write(self, statements: Iterable[Statement]) -> None:
        with self._engine.begin() as connection:
            for text, values in statements:
                connection.exec_driver_sql(text, values)

    def _dispose(self, engine: Engine) -> None:
        del engine
        self._engine.dispose()
