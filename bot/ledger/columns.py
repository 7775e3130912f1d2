"""What the ledger's tables are made of: their metadata, their kinds of columns and of tables."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

from bot.ledger.digest import plain

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Money(TypeDecorator[Decimal]):
    """An exact decimal as plain text. SQLite's NUMERIC would make it a float without a word."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Raises TypeError for what is not an exact number."""
        del dialect
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, Decimal | int):
            raise TypeError(f"money must be a Decimal, not {type(value).__name__} {value!r}")
        return plain(Decimal(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        del dialect
        return None if value is None else Decimal(value)


def run_key() -> Column[str]:
    """The run that a row is of; its rows go with it."""
    return Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


def number(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[int]:
    """An integer: a count, a position, or ns."""
    return Column(name, BigInteger, primary_key=primary_key, nullable=nullable, autoincrement=False)


def text(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    """Text."""
    return Column(name, Text, primary_key=primary_key, nullable=nullable)


def money(name: str, *, nullable: bool = False) -> Column[Decimal]:
    """An exact decimal."""
    return Column(name, Money, nullable=nullable)


def flag(name: str) -> Column[bool]:
    """True or false."""
    return Column(name, Boolean, nullable=False)


def fact_table(name: str, *columns: Column[Any], by_order: bool = False) -> Table:
    """A table of one kind of fact, keyed by (run, fact number)."""
    table = Table(
        name,
        metadata,
        run_key(),
        number("n", primary_key=True),
        number("position"),
        *columns,
        sqlite_with_rowid=False,  # the key is the table: a fifth less to write and to store
    )
    if by_order:
        Index(None, table.c.run_id, table.c.order_id)
    return table


def event_table(name: str, *columns: Column[Any]) -> Table:
    """A table of one kind of event, keyed by (run, journal position)."""
    return Table(
        name,
        metadata,
        run_key(),
        number("position", primary_key=True),
        *columns,
        sqlite_with_rowid=False,
    )
