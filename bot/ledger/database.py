"""Which database, and is it ours: URLs, engines, revisions, and errors that name the way out.

Quick to import: no Alembic, no asyncio, no driver.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from bot.core.errors import PlainError

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0006", "0007", "0008", "0012")
"""Every schema this program knows, oldest first; the last is the one it uses."""
_SECRET_QUERIES: Final = ("password", "passfile", "sslpassword")
_VERSION_TABLE: Final = "alembic_version"
BUSY_MS: Final = 10_000


class LedgerError(PlainError):
    """The ledger cannot be used; one line says which database, why, and the way out."""


def parse_url(text_url: str) -> URL:
    """Take what users write; the drivers are chosen here. Raises LedgerError."""
    try:
        url = make_url(text_url)
    except (ArgumentError, ValueError):
        # The text and its errors stay out of the message: they may hold a password.
        raise LedgerError(
            "not a database URL: use sqlite:///path.db or postgresql://user:password@host/name"
        ) from None
    match url.get_backend_name():
        case "sqlite":
            return url.set(drivername="sqlite+aiosqlite")
        case "postgresql" | "postgres":
            return url.set(drivername="postgresql+asyncpg")
        case other:
            raise LedgerError(
                f"no ledger can be kept in {other!r}: use sqlite:///path.db or "
                "postgresql://user:password@host/name"
            )


def shown(url: URL) -> str:
    """A URL as errors may show it: the file, or host and database; never a secret."""
    if url.get_backend_name() == "sqlite":
        return url.database or "the database in memory"
    return f"{url.host or url.query.get('host', 'localhost')}/{url.database}"


def secrets_of_url(text_url: str) -> list[str]:
    """The passwords in what users write as a URL, as written and as meant."""
    try:
        url = make_url(text_url)
    except (ArgumentError, ValueError):
        return re.findall(r"://[^:/@]*:(.+)@", text_url)
    values = [url.password, *(url.query.get(key) for key in _SECRET_QUERIES)]
    texts = [value for value in values if isinstance(value, str)]
    return [*texts, *(quote(text, safe="") for text in texts)]


def redacted(text_url: str) -> str:
    """What users write as a URL, without its passwords."""
    try:
        url = make_url(text_url)
    except (ArgumentError, ValueError):
        return "(not a database URL)"
    query = {key: "***" if key in _SECRET_QUERIES else url.query[key] for key in url.query}
    return url.set(query=query).render_as_string(hide_password=True)


def is_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")


def require_file(url: URL) -> None:
    """Raises LedgerError for a SQLite file that is not there: reading makes none."""
    if is_file(url) and not Path(url.database or "").is_file():
        raise LedgerError(
            f"{url.database}: no such ledger; name one with --db, or run `bot paper` first"
        )


@contextmanager
def clear_errors(url: URL, doing: str) -> Iterator[None]:
    """Turn the drivers' errors into one line each. Those of SQLAlchemy carry whole statements."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise LedgerError(f"{shown(url)}: {doing}: {_one_line(cause)}") from error
    except TimeoutError as error:
        raise LedgerError(f"{shown(url)}: {doing}: it does not answer") from error
    except OSError as error:
        raise LedgerError(f"{shown(url)}: {doing}: {_one_line(error)}") from error


def listen(engine: Engine) -> None:
    """Make SQLite wait, sync and roll back like a database that is written for weeks."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        del record
        connection.isolation_level = None  # the driver's own BEGIN leaves DDL out
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={BUSY_MS}",
            "journal_mode=WAL",
            "synchronous=NORMAL",  # a power cut may lose commits, never the journal behind them
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")


# --- Revisions --------------------------------------------------------------------------


def revision_of(connection: Connection) -> str | None:
    """The schema's revision, None for a database without one."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608
    return found.scalar_one_or_none()


def require_current(connection: Connection) -> None:
    """Raises LedgerError unless the schema is the one that this program uses."""
    name = shown(connection.engine.url)
    revision = revision_of(connection)
    if revision is None:
        raise LedgerError(f"{name}: holds no ledger yet; `bot paper` or `bot db upgrade` makes one")
    if revision not in REVISIONS:
        raise LedgerError(
            f"database {name} has schema {revision!r}, newer than this program knows "
            f"({REVISIONS[-1]}); upgrade kvtrader or use another --db"
        )
    if revision != REVISIONS[-1]:
        raise LedgerError(
            f"database {name} has schema {revision!r}, older than this program uses "
            f"({REVISIONS[-1]}); run `bot db upgrade`"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
