"""The ledger's INSERTs as texts, written once for a dialect. No rows, no order, no transaction."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Final, TypeAlias

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bot.ledger import rows, tables

KEPT_SNAPSHOTS: Final = 3
"""The newest of a run: one that is damaged gives way to the one before."""

_Marks: TypeAlias = Callable[[str], str]


class Insert:
    """An INSERT that takes many rows in few statements.

    A statement of many rows lets the driver's thread work without the interpreter lock, so the
    loop goes on meanwhile; row by row it would have to win the lock back for each.
    """

    CHUNKS: Final = (512, 64, 8, 1)

    def __init__(
        self,
        table: Table,
        columns: tuple[str, ...],
        marks: _Marks,
        more: str = "DO NOTHING",
        chunks: tuple[int, ...] = CHUNKS,
    ) -> None:
        head = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608
        row = f"({', '.join('?' * len(columns))})"
        self._texts = {
            count: marks(f"{head}{', '.join([row] * count)} ON CONFLICT {more}") for count in chunks
        }

    async def execute(self, connection: AsyncConnection, many: list[rows.Row]) -> None:
        done = 0
        for count, text in self._texts.items():
            while len(many) - done >= count:
                values = tuple(chain.from_iterable(many[done : done + count]))
                await connection.exec_driver_sql(text, values)
                done += count


class Statements:
    """The prepared texts for one dialect. SQLAlchemy's own binding costs ten times the insert."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._numbered = engine.dialect.paramstyle == "numeric_dollar"
        self.facts = {
            kind: self._insert(table, rows.fact_columns(kind))
            for kind, table in rows.TABLE_OF.items()
        }
        self.events = {
            tables.predictions: self._insert(tables.predictions, rows.PREDICTION_COLUMNS),
            tables.commands: self._insert(tables.commands, rows.COMMAND_COLUMNS),
            tables.equity: self._insert(tables.equity, rows.EQUITY_COLUMNS),
            tables.postings: self._insert(tables.postings, rows.POSTING_COLUMNS),
            tables.quotes: self._insert(tables.quotes, rows.QUOTE_COLUMNS),
            tables.positions: self._insert(tables.positions, rows.POSITION_COLUMNS),
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

    def _insert(self, table: Table, columns: tuple[str, ...]) -> Insert:
        return Insert(table, columns, self._marked)

    def _latest(self, table: Table, columns: tuple[str, ...]) -> Insert:
        """Keep the newest row of a symbol; one statement may touch it only once."""
        sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
        newer = f"excluded.position > {table.name}.position"
        more = f"(run_id, symbol) DO UPDATE SET {sets} WHERE {newer}"
        return Insert(table, columns, self._marked, more, chunks=(1,))

    def _marked(self, statement: str) -> str:
        """Write ``?`` as the dialect's driver wants it."""
        if not self._numbered:
            return statement
        first, *others = statement.split("?")
        return first + "".join(f"${index}{text}" for index, text in enumerate(others, 1))
