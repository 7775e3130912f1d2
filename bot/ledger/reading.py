"""One question to the ledger, asked and answered: what the reading verbs use. Creates nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, create_engine

from bot.ledger.database import (
    BUSY_MS,
    clear_errors,
    is_file,
    parse_url,
    require_current,
    require_file,
)

P = ParamSpec("P")
R = TypeVar("R")


def read(
    text_url: str, question: Callable[Concatenate[Connection, P], R], *args: P.args, **kw: P.kwargs
) -> R:
    """Ask one question of ``queries`` and close again. Raises LedgerError.

    Creates nothing: a SQLite file that is not there is an error.
    """
    url = parse_url(text_url)

    def ask(connection: Connection) -> R:
        require_current(connection)
        return question(connection, *args, **kw)

    if not is_file(url):
        # The asynchronous side costs 0.08 s, which readers of a SQLite file need not pay.
        from bot.ledger.connect import with_connection  # noqa: PLC0415

        return with_connection(text_url, ask)
    require_file(url)
    engine = create_engine(url.set(drivername="sqlite"))
    try:
        with clear_errors(url, "cannot be read"), engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_MS}")
            connection.exec_driver_sql("PRAGMA query_only=ON")
            return ask(connection)
    finally:
        engine.dispose()
