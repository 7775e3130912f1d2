"""The ledger's INSERTs as texts, written once for a dialect. No order, no transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, Protocol, TypeAlias

from msgspec import Struct
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.ledger import rows, shadows, tables

Statement: TypeAlias = tuple[str, tuple[Any, ...]]
"""A text in the driver's own style, and what is bound to it."""
KEPT_SNAPSHOTS: Final = 3
"""The newest of a run: one that is damaged gives way to the one before."""


class Insert(Protocol):
    """An INSERT of many rows in few statements; a row that is there already stays as it is."""

    def of(self, many: list[rows.Row]) -> Iterator[Statement]: ...


class Added(Struct, frozen=True, gc=False):
    """Rows whose keys only this run's next step can make: none is there yet, unless the run is
    stepped again. So they may be copied in, and ``insert`` is for when they were there."""

    table: str
    columns: tuple[str, ...]
    rows: list[rows.Row]
    insert: Insert


class Adds:
    """Such rows of one table."""

    def __init__(self, table: Table, columns: tuple[str, ...], insert: Insert) -> None:
        self._table, self._columns, self._insert = table.name, columns, insert

    def of(self, many: list[rows.Row]) -> Iterator[Added]:
        yield Added(self._table, self._columns, many, self._insert)


def inserted(written: Iterable[Statement | Added]) -> Iterator[Statement]:
    """All as statements: what is added becomes INSERTs."""
    for one in written:
        if isinstance(one, Added):
            yield from one.insert.of(one.rows)
        else:
            yield one


class WideInsert:
    """For SQLite: hundreds of rows a statement.

    The driver's thread then works without the interpreter lock, so the loop goes on meanwhile; row
    by row it would have to win the lock back for each. So the rows that are left over go in one
    statement of their own length.
    """

    def __init__(self, table: Table, columns: tuple[str, ...], more: str, most: int) -> None:
        self._head = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608
        self._row = f"({', '.join('?' * len(columns))})"
        self._more = f" ON CONFLICT {more}"
        self._most = most
        self._full = self._text(most)

    def of(self, many: list[rows.Row]) -> Iterator[Statement]:
        for start in range(0, len(many), self._most):
            some = many[start : start + self._most]
            text = self._full if len(some) == self._most else self._text(len(some))
            yield text, tuple(chain.from_iterable(some))

    def _text(self, count: int) -> str:
        return self._head + ", ".join([self._row] * count) + self._more


class ArrayInsert:
    """For Postgres: an array a column, so that any number of rows is one short statement.

    It is parsed and planned once, whatever its length. The driver encodes on the event loop, so a
    statement takes no more rows than a millisecond encodes.
    """

    MOST: Final = 64

    def __init__(
        self, engine: AsyncEngine, table: Table, columns: tuple[str, ...], more: str, most: int
    ) -> None:
        types = [table.c[name].type.compile(engine.dialect) for name in columns]
        arrays = ", ".join(f"${index}::{each}[]" for index, each in enumerate(types, 1))
        self._text = (
            f"INSERT INTO {table.name} ({', '.join(columns)}) "  # noqa: S608 - our own names
            f"SELECT * FROM unnest({arrays}) ON CONFLICT {more}"
        )
        self._most = min(most, self.MOST)

    def of(self, many: list[rows.Row]) -> Iterator[Statement]:
        for start in range(0, len(many), self._most):
            some = many[start : start + self._most]
            yield self._text, tuple(map(list, zip(*some, strict=True)))


class Statements:
    """The prepared texts for one dialect. SQLAlchemy's own binding costs ten times the insert."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._numbered = engine.dialect.paramstyle == "numeric_dollar"
        self.facts = {
            kind: self._adds(table, rows.fact_columns(kind))
            for kind, table in rows.TABLE_OF.items()
        }
        self.events: dict[Table, Insert | Adds] = {
            tables.predictions: self._adds(tables.predictions, rows.PREDICTION_COLUMNS),
            tables.commands: self._insert(tables.commands, rows.COMMAND_COLUMNS),
            tables.funding_rates: self._insert(tables.funding_rates, rows.RATE_COLUMNS),
            tables.equity: self._insert(tables.equity, rows.EQUITY_COLUMNS),
            tables.candles: self._insert(tables.candles, rows.CANDLE_COLUMNS),
            tables.predictions_scored: self._adds(tables.predictions_scored, rows.SCORE_COLUMNS),
            tables.postings: self._adds(tables.postings, rows.POSTING_COLUMNS),
            tables.quotes: self._adds(tables.quotes, rows.QUOTE_COLUMNS),
            tables.positions: self._adds(tables.positions, rows.POSITION_COLUMNS),
            tables.shadow_fills: self._adds(tables.shadow_fills, shadows.FILL_COLUMNS),
            tables.shadow_outcomes: self._adds(tables.shadow_outcomes, shadows.OUTCOME_COLUMNS),
            tables.shadow_equity: self._insert(tables.shadow_equity, shadows.EQUITY_COLUMNS),
            tables.instruments: self._latest(tables.instruments, rows.INSTRUMENT_COLUMNS),
        }
        self.gap_begins = self._insert(tables.gaps, rows.GAP_COLUMNS)
        self.gap_ends = self._marked(
            "UPDATE gaps SET end_position = ?, end_ts = ? WHERE run_id = ? AND symbol = ? "
            "AND end_position IS NULL AND position <= ?"
        )
        self.snapshots = self._insert(tables.snapshots, rows.SNAPSHOT_COLUMNS)
        self.snapshots_go = self._marked(
            "DELETE FROM snapshots WHERE run_id = ? AND position NOT IN (SELECT position FROM "
            "snapshots WHERE run_id = ? ORDER BY position DESC LIMIT ?)"
        )
        # A run that is stepped again from the start must not seem shorter meanwhile.
        self.run_advances = self._marked(
            "UPDATE runs SET digest = ?, facts = ? WHERE id = ? AND facts <= ?"
        )

    def _adds(self, table: Table, columns: tuple[str, ...]) -> Adds:
        return Adds(table, columns, self._insert(table, columns))

    def _insert(
        self, table: Table, columns: tuple[str, ...], more: str = "DO NOTHING", most: int = 512
    ) -> Insert:
        if self._numbered:
            return ArrayInsert(self._engine, table, columns, more, most)
        return WideInsert(table, columns, more, most)

    def _latest(self, table: Table, columns: tuple[str, ...]) -> Insert:
        """Keep the newest row of a symbol; one statement may touch it only once."""
        sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
        newer = f"excluded.position > {table.name}.position"
        return self._insert(
            table, columns, f"(run_id, symbol) DO UPDATE SET {sets} WHERE {newer}", most=1
        )

    def _marked(self, statement: str) -> str:
        """Write ``?`` as the dialect's driver wants it."""
        if not self._numbered:
            return statement
        first, *others = statement.split("?")
        return first + "".join(f"${index}{text}" for index, text in enumerate(others, 1))
