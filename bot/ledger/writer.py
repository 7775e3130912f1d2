"""Facts and recorded events into the database, in batches, each batch one transaction.

``add`` is for the event loop's hot path and touches no database. ``commit`` writes only what the
journal already holds on disk. Keys are (run, fact number) and (run, position), so that stepping
again after a crash writes nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from itertools import chain, islice
from typing import Final, TypeAlias

import msgspec
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bot.core.events import (
    Candle,
    Command,
    Event,
    Fact,
    FeedDown,
    FeedUp,
    Instrument,
    Prediction,
)
from bot.ledger import rows, tables
from bot.ledger.connect import to_its_end
from bot.ledger.database import clear_errors
from bot.ledger.digest import FactDigest, plain, plain_values

MAX_BATCH: Final = 20_000
"""Entries that one transaction takes at most; a longer backlog takes more transactions."""


class Entry(msgspec.Struct, gc=False):
    """A step's rows; its facts are numbered from ``first_fact`` on."""

    position: int
    first_fact: int
    event: Event | None
    facts: tuple[Fact, ...]
    equity: rows.Row | None = None


class LedgerWriter:
    """Collects a run's rows and commits them behind the journal.

    A failed commit raises LedgerError and keeps its rows; a later one writes them. ``pending``
    tells how many steps wait, and grows while the database is away. ``listeners`` hear of every
    entry, in order, once it is in the database; they must be quick.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        run_id: str,
        *,
        next_fact: int = 0,
        digest: FactDigest | None = None,
        recorded: AbstractSet[type] = rows.RECORDED,
    ) -> None:
        """``next_fact`` is the number that the next fact gets, ``digest`` that of those before;
        ``recorded`` are the events that get rows."""
        assert next_fact == 0 or digest is not None, "a digest goes with the facts before"
        self._engine, self.run_id = engine, run_id
        self._next_fact, self._committed_facts = next_fact, next_fact
        self._digest = digest or FactDigest()
        self._recorded = recorded
        self._entries: deque[Entry] = deque()
        self._sql = _Statements(engine)
        self._lock = asyncio.Lock()
        self.listeners: list[Callable[[Entry], None]] = []

    @property
    def pending(self) -> int:
        """Steps with rows that are not in the database."""
        return len(self._entries)

    @property
    def next_fact(self) -> int:
        """The number that the next fact gets: how many facts the run has made."""
        return self._next_fact

    @property
    def committed_facts(self) -> int:
        return self._committed_facts

    def hexdigest(self) -> str:
        """The digest of the committed facts."""
        return self._digest.hexdigest()

    def add(self, position: int, event: Event | None, facts: Sequence[Fact]) -> None:
        """Take a step's event and facts; positions never go down."""
        if facts:
            self._entries.append(Entry(position, self._next_fact, event, tuple(facts)))
            self._next_fact += len(facts)
        elif type(event) in self._recorded:
            self._entries.append(Entry(position, self._next_fact, event, ()))

    def add_equity(self, position: int, ts: int, equity: Decimal, wallet: Decimal) -> None:
        row = (self.run_id, ts, position, plain(equity), plain(wallet))
        self._entries.append(Entry(position, self._next_fact, None, (), row))

    async def commit(self, durable_position: int | None) -> int:
        """Write what is below ``durable_position`` (None: all); how many facts that were.

        Raises LedgerError; then nothing of the batch is in the database, and all of it is kept.
        A cancellation waits for the transaction under way.
        """
        written = 0
        async with self._lock:
            while entries := self._durable(durable_position):
                written += await to_its_end(self._commit(entries))
        return written

    async def _commit(self, entries: list[Entry]) -> int:
        batch = _Batch(self.run_id, self._digest)
        for entry in entries:
            batch.take(entry)
        facts = self._committed_facts + batch.facts
        with clear_errors(self._engine.url, "the ledger cannot be written"):
            async with self._engine.begin() as connection:
                await self._write(connection, batch, facts)
        for _ in entries:
            self._entries.popleft()
        self._digest, self._committed_facts = batch.digest, facts
        for listener in self.listeners:
            for entry in entries:
                listener(entry)
        return batch.facts

    def _durable(self, durable_position: int | None) -> list[Entry]:
        first = islice(self._entries, MAX_BATCH)
        if durable_position is None:
            return list(first)
        entries = []
        for entry in first:
            if entry.position >= durable_position:
                break
            entries.append(entry)
        return entries

    async def _write(self, connection: AsyncConnection, batch: _Batch, facts: int) -> None:
        sql = self._sql
        for kind, many in batch.fact_rows.items():
            await sql.facts[kind].execute(connection, many)
        for table, many in batch.event_rows.items():
            await sql.events[table].execute(connection, many)
        for gap in batch.gaps:  # few, and their order counts
            match gap:
                case (position, FeedDown() as down):
                    row = rows.gap_row(self.run_id, position, down)
                    await sql.gap_begins.execute(connection, [row])
                case (position, FeedUp() as up):
                    row = (position, up.ts, self.run_id, up.symbol, position)
                    await connection.exec_driver_sql(sql.gap_ends, row)
        if batch.facts:
            row = (batch.digest.hexdigest(), facts, self.run_id, facts)
            await connection.exec_driver_sql(sql.run_advances, row)


class _Batch:
    """The rows of one transaction, by statement, and the digest after them."""

    def __init__(self, run_id: str, digest: FactDigest) -> None:
        self._run_id = run_id
        self.digest = digest.copy()
        self.facts = 0
        self.fact_rows: dict[type[Fact], list[rows.Row]] = {}
        self.event_rows: dict[Table, list[rows.Row]] = {}
        self.gaps: list[tuple[int, FeedDown | FeedUp]] = []

    def take(self, entry: Entry) -> None:
        n = entry.first_fact
        for fact in entry.facts:
            kind = type(fact)
            values = plain_values(fact)
            self.digest.update_plain(kind, values)
            if rows.TABLE_OF[kind] is tables.order_events:
                row = (self._run_id, n, entry.position, kind.__name__, *values)
            else:
                row = (self._run_id, n, entry.position, *values)
            self.fact_rows.setdefault(kind, []).append(row)
            n += 1
        self.facts += len(entry.facts)
        self._take_event(entry.position, entry.event)
        if entry.equity is not None:
            self._add(tables.equity, entry.equity)

    def _take_event(self, position: int, event: Event | None) -> None:
        run_id = self._run_id
        match event:
            case Prediction():
                for row in rows.prediction_rows(run_id, position, event):
                    self._add(tables.predictions, row)
            case Command():
                self._add(tables.commands, rows.command_row(run_id, position, event))
            case Instrument():
                self._add(tables.instruments, rows.instrument_row(run_id, position, event))
            case Candle():
                self._add(tables.candles, rows.candle_row(run_id, position, event))
            case FeedDown() | FeedUp():
                self.gaps.append((position, event))
            case _:
                pass  # the journal has it

    def _add(self, table: Table, row: rows.Row) -> None:
        self.event_rows.setdefault(table, []).append(row)


_Marks: TypeAlias = Callable[[str], str]


class _Insert:
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


class _Statements:
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
            tables.candles: self._insert(tables.candles, rows.CANDLE_COLUMNS),
            tables.instruments: self._latest(tables.instruments, rows.INSTRUMENT_COLUMNS),
        }
        self.gap_begins = self._insert(tables.gaps, rows.GAP_COLUMNS)
        self.gap_ends = self._marked(
            "UPDATE gaps SET end_position = ?, end_ts = ? WHERE run_id = ? AND symbol = ? "
            "AND end_position IS NULL AND position <= ?"
        )
        # A run that is stepped again from the start must not seem shorter meanwhile.
        self.run_advances = self._marked(
            "UPDATE runs SET digest = ?, facts = ? WHERE id = ? AND facts <= ?"
        )

    def _insert(self, table: Table, columns: tuple[str, ...]) -> _Insert:
        return _Insert(table, columns, self._marked)

    def _latest(self, table: Table, columns: tuple[str, ...]) -> _Insert:
        """Keep the newest row of a symbol; one statement may touch it only once."""
        sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
        newer = f"excluded.position > {table.name}.position"
        more = f"(run_id, symbol) DO UPDATE SET {sets} WHERE {newer}"
        return _Insert(table, columns, self._marked, more, chunks=(1,))

    def _marked(self, statement: str) -> str:
        """Write ``?`` as the dialect's driver wants it."""
        if not self._numbered:
            return statement
        first, *others = statement.split("?")
        return first + "".join(f"${index}{text}" for index, text in enumerate(others, 1))
