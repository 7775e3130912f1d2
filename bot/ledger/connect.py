"""Connections through the asynchronous drivers: aiosqlite, asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bot.ledger.database import LedgerError, clear_errors, is_file, listen, parse_url

R = TypeVar("R")

CONNECT_S: Final = 10.0


def engine_for(text_url: str, answer_s: float | None = None) -> AsyncEngine:
    """An engine for what users write; makes a SQLite file's folder. Raises LedgerError.

    A Postgres that takes longer than ``answer_s`` over a statement counts as away; without it, it
    may take as long as it likes.
    """
    url = parse_url(text_url)
    if is_file(url):
        folder = Path(url.database or "").parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"{folder}: cannot be made: {error.strerror}") from error
    waits = (
        {}
        if url.get_backend_name() == "sqlite"
        else {"timeout": CONNECT_S, "command_timeout": answer_s}
    )
    engine = create_async_engine(url, connect_args=waits)
    listen(engine.sync_engine)
    return engine


def with_connection(text_url: str, work: Callable[[Connection], R]) -> R:
    """Run ``work`` in one transaction of a fresh connection. Raises LedgerError."""

    async def run() -> R:
        engine = engine_for(text_url)
        try:
            with clear_errors(engine.url, "cannot be used"):
                async with engine.begin() as connection:
                    return await connection.run_sync(work)
        finally:
            await engine.dispose()

    return asyncio.run(run())


async def to_its_end(transaction: Coroutine[Any, Any, R]) -> R:
    """Await a transaction; a cancellation takes effect once it has ended.

    One that is cut off in the middle leaves SQLite locked by a connection that nobody owns.
    """
    task = asyncio.ensure_future(transaction)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        await asyncio.wait({task})
        if not task.cancelled():
            raise cancelled from task.exception()
        raise
