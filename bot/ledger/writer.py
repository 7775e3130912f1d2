"""Facts and recorded events into the database, in batches, each batch one transaction.

``add`` is for the event loop's hot path and touches no database. ``commit`` writes only what the
journal already holds on disk, and the postings and snapshots of facts with the facts. Keys are
(run, fact number) and (run, position), so that stepping again after a crash writes nothing twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from itertools import chain, islice
from typing import Final

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.core.events import (
    Candle,
    Command,
    Event,
    Fact,
    FeedDown,
    FeedUp,
    FundingRate,
    Instrument,
    Prediction,
)
from bot.ledger import rows, shadows, tables
from bot.ledger.connect import to_its_end
from bot.ledger.database import clear_errors
from bot.ledger.digest import FactDigest, plain
from bot.ledger.postings import POSTED, transfers_of
from bot.ledger.statements import KEPT_SNAPSHOTS, Added, Statement, Statements
from bot.ledger.transactions import transactions_of

MAX_BATCH: Final = 2_000
"""Entries that one transaction takes at most; a longer backlog takes more transactions, so that a
process which soon dies again has written some of it."""
_NAMED: Final = {kind for kind, table in rows.TABLE_OF.items() if table is tables.order_events}
"""Facts whose table holds several kinds."""
_SLICE_S: Final = 0.001
"""Entries are made into rows for so long before the event loop looks at its other tasks."""
_FREED: Final = 512
"""Rows that go at once, in a quarter of a millisecond."""


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A run's whole state before the input at ``position``, to restart from."""

    position: int
    ts: int
    body: bytes


class Entry(msgspec.Struct, gc=False):
    """A step's rows; its facts are numbered from ``first_fact`` on."""

    position: int
    first_fact: int
    event: Event | None = None
    facts: tuple[Fact, ...] = ()
    rows: tuple[tuple[Table, rows.Row], ...] = ()
    snapshot: Snapshot | None = None


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
        self._sql = Statements(engine)
        self._transactions = transactions_of(engine)
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

    def hexdigest_at(self, facts: int) -> str:
        """The digest of the run's first ``facts`` facts, the last of which may still wait."""
        assert self._committed_facts <= facts <= self._next_fact, "facts that are not at hand"
        digest = self._digest.copy()
        waiting = chain.from_iterable(entry.facts for entry in self._entries)
        for fact in islice(waiting, facts - self._committed_facts):
            digest.update(fact)
        return digest.hexdigest()

    def add(self, position: int, event: Event | None, facts: Sequence[Fact]) -> None:
        """Take a step's event and facts; positions never go down."""
        if facts:
            self._entries.append(Entry(position, self._next_fact, event, tuple(facts)))
            self._next_fact += len(facts)
        elif type(event) in self._recorded:
            self._entries.append(Entry(position, self._next_fact, event))

    def add_equity(self, position: int, ts: int, equity: Decimal, wallet: Decimal) -> None:
        row = (self.run_id, ts, position, plain(equity), plain(wallet))
        self.add_rows(position, [(tables.equity, row)])

    def add_shadow(self, position: int, policy: str, first: int, facts: Sequence[Fact]) -> None:
        """Take a shadow account's facts, numbered from ``first``."""
        self.add_rows(position, [*shadows.rows_of(self.run_id, policy, position, first, facts)])

    def add_shadow_equity(
        self, position: int, policy: str, ts: int, equity: Decimal, wallet: Decimal
    ) -> None:
        row = shadows.equity_row(self.run_id, policy, position, ts, equity, wallet)
        self.add_rows(position, [row])

    def add_scores(self, position: int, scored: Sequence[msgspec.Struct]) -> None:
        """Take predictions whose outcome the event at ``position`` told: the table's columns."""
        table, key = tables.predictions_scored, (self.run_id, position)
        self.add_rows(position, [(table, key + astuple(one)) for one in scored])

    def add_rows(self, position: int, more: Sequence[tuple[Table, rows.Row]]) -> None:
        """Take rows that stand beside the facts of ``position``."""
        self._entries.append(Entry(position, self._next_fact, rows=tuple(more)))

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Take the state after everything that was added; all of it is committed with it."""
        last = snapshot.position - 1
        self._entries.append(Entry(last, self._next_fact, snapshot=snapshot))

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
        clock = asyncio.get_running_loop().time
        slice_ends_s = clock() + _SLICE_S
        for entry in entries:
            batch.take(entry)
            if clock() >= slice_ends_s:
                await asyncio.sleep(0)
                slice_ends_s = clock() + _SLICE_S
        facts = self._committed_facts + batch.facts
        with clear_errors(self._engine.url, "the ledger cannot be written"):
            await self._transactions.write(lambda: self._written(batch, facts))
        for _ in entries:
            self._entries.popleft()
        self._digest, self._committed_facts = batch.digest, facts
        for listener in self.listeners:
            for entry in entries:
                listener(entry)
        await batch.let_go()
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

    def _written(self, batch: _Batch, facts: int) -> Iterator[Statement | Added]:
        sql = self._sql
        for kind, many in batch.fact_rows.items():
            yield from sql.facts[kind].of(many)
        for table, many in batch.event_rows.items():
            yield from sql.events[table].of(many)
        for gap in batch.gaps:  # few, and their order counts
            match gap:
                case (position, FeedDown() as down):
                    yield from sql.gap_begins.of([rows.gap_row(self.run_id, position, down)])
                case (position, FeedUp() as up):
                    yield sql.gap_ends, (position, up.ts, self.run_id, up.symbol, position)
        if batch.snapshots:
            yield from sql.snapshots.of(batch.snapshots)
            yield sql.snapshots_go, (self.run_id, self.run_id, KEPT_SNAPSHOTS)
        if batch.facts:
            yield sql.run_advances, (batch.digest.hexdigest(), facts, self.run_id, facts)


class _Batch:
    """The rows of one transaction, by statement, and the digest after them."""

    def __init__(self, run_id: str, digest: FactDigest) -> None:
        self._run_id = run_id
        self.digest = digest.copy()
        self.facts = 0
        self.fact_rows: dict[type[Fact], list[rows.Row]] = {}
        self.event_rows: defaultdict[Table, list[rows.Row]] = defaultdict(list)
        self.gaps: list[tuple[int, FeedDown | FeedUp]] = []
        self.snapshots: list[rows.Row] = []

    def take(self, entry: Entry) -> None:
        facts, first = entry.facts, entry.first_fact
        if facts:
            place = (self._run_id, first, entry.position)
            self.digest.take(facts, place, _NAMED, self.fact_rows)
            self.facts += len(facts)
            for n, fact in enumerate(facts, first):
                if type(fact) in POSTED:
                    self._post(n, entry.position, fact)
        if entry.event is not None:
            self._take_event(entry.position, entry.event)
        for table, row in entry.rows:
            self.event_rows[table].append(row)
        if entry.snapshot is not None:
            self.snapshots.append(self._snapshot_row(entry.snapshot, first + len(facts)))

    def _post(self, n: int, position: int, fact: Fact) -> None:
        legs = rows.posting_rows(self._run_id, n, position, fact.ts, transfers_of(fact))
        self.event_rows[tables.postings] += legs

    async def let_go(self) -> None:
        """Free the rows piece by piece: all at once would keep the event loop for milliseconds."""
        for many in (*self.fact_rows.values(), *self.event_rows.values()):
            while many:
                del many[-_FREED:]
                await asyncio.sleep(0)

    def _snapshot_row(self, snapshot: Snapshot, facts: int) -> rows.Row:
        body = snapshot.body
        check = hashlib.sha256(body).hexdigest()
        where = (self._run_id, snapshot.position, snapshot.ts, facts)
        return (*where, self.digest.hexdigest(), check, body)

    def _take_event(self, position: int, event: Event) -> None:
        run_id, found = self._run_id, self.event_rows
        match event:
            case Prediction():
                found[tables.predictions] += rows.prediction_rows(run_id, position, event)
            case Command():
                found[tables.commands].append(rows.command_row(run_id, position, event))
            case Instrument():
                found[tables.instruments].append(rows.instrument_row(run_id, position, event))
            case FundingRate():
                found[tables.funding_rates].append(rows.rate_row(run_id, position, event))
            case Candle():
                found[tables.candles].append(rows.candle_row(run_id, position, event))
            case FeedDown() | FeedUp():
                self.gaps.append((position, event))
            case _:
                pass  # the journal has it
