"""Making, upgrading and checking the ledger's schema, with Alembic; opening it for writing.

An empty database is given the schema when it is opened for writing. An old one is not touched
before `bot db upgrade` says so: a copy may be wanted first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.ledger.columns import metadata
from bot.ledger.connect import engine_for, with_connection
from bot.ledger.database import (
    REVISIONS,
    LedgerError,
    clear_errors,
    parse_url,
    require_current,
    require_file,
    revision_of,
    shown,
)
from bot.ledger.views import create_views, drop_views

ANSWER_S: Final = 10.0
"""A database that hangs so long over a statement is one that is away."""


async def open_ledger(text_url: str) -> AsyncEngine:
    """An engine on a ledger that is ready to be written; an empty database gets its schema.

    Raises LedgerError for a database that cannot be reached, is older, newer or not ours.
    """
    engine = engine_for(text_url, ANSWER_S)
    try:
        with clear_errors(engine.url, "cannot be opened"):
            async with engine.begin() as connection:
                await connection.run_sync(_make_or_require)
    except BaseException:
        await engine.dispose()
        raise
    return engine


def upgrade(text_url: str, revision: str = "head") -> str:
    """Bring the schema to ``revision`` in one transaction; returns the revision."""

    def work(connection: Connection) -> str:
        found = revision_of(connection)
        if found is not None and found not in REVISIONS:
            require_current(connection)
        _migrate(connection, revision)
        return revision_of(connection) or "none"

    return with_connection(text_url, work)


def current(text_url: str) -> str | None:
    """The database's revision, None where it has none. Raises LedgerError."""
    require_file(parse_url(text_url))
    return with_connection(text_url, revision_of)


def check(text_url: str) -> list[str]:
    """Compare the database with the tables that this program uses: the differences, [] for none."""
    require_file(parse_url(text_url))

    def work(connection: Connection) -> list[str]:
        require_current(connection)
        return differences(connection)

    return with_connection(text_url, work)


def differences(connection: Connection) -> list[str]:
    """How the database's own tables differ from ``tables.metadata``."""
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables,
        },
    )
    return [str(each) for each in compare_metadata(context, metadata)]


def migrations_folder() -> Path:
    """Where the migrations lie: beside the package in the source tree, inside it in a wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def _make_or_require(connection: Connection) -> None:
    if revision_of(connection) is not None:
        require_current(connection)
        return
    foreign = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables))
    if foreign:
        raise LedgerError(
            f"{shown(connection.engine.url)}: has tables of other origin with the ledger's names "
            f"({', '.join(foreign)}); use another --db"
        )
    _migrate(connection, "head")


def _migrate(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    drop_views(connection)
    if revision == "base":
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)
    if revision_of(connection) == REVISIONS[-1]:
        create_views(connection)
