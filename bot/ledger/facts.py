"""A run's facts read back from the tables, exact and in order, and their digest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from sqlalchemy import Connection, Table, func, select

from bot.core.events import Fact, Fill
from bot.ledger.digest import FactDigest
from bot.ledger.rows import TABLE_OF, fact_of

_WINDOW: Final = 10_000
_TABLES: Final[tuple[Table, ...]] = tuple(dict.fromkeys(TABLE_OF.values()))


class StoredFact(NamedTuple):
    n: int
    position: int
    fact: Fact


def read_facts(connection: Connection, run_id: str, first: int = 0) -> Iterator[StoredFact]:
    """The facts of a run from number ``first`` on, in order; memory stays bounded."""
    end = max(
        connection.execute(
            select(func.coalesce(func.max(table.c.n), -1)).where(table.c.run_id == run_id)
        ).scalar_one()
        for table in _TABLES
    )
    for start in range(first, end + 1, _WINDOW):
        found: list[StoredFact] = []
        for table in _TABLES:
            window = select(table).where(
                table.c.run_id == run_id, table.c.n >= start, table.c.n < start + _WINDOW
            )
            found.extend(
                StoredFact(row["n"], row["position"], fact_of(table, dict(row)))
                for row in connection.execute(window).mappings()
            )
        yield from sorted(found, key=lambda each: each.n)


def fills_from(connection: Connection, run_id: str, first: int, limit: int) -> list[StoredFact]:
    """The next ``limit`` fills of a run, from fact number ``first`` on, in order."""
    fills = TABLE_OF[Fill]
    statement = (
        select(fills)
        .where(fills.c.run_id == run_id, fills.c.n >= first)
        .order_by(fills.c.n)
        .limit(limit)
    )
    return [
        StoredFact(row["n"], row["position"], fact_of(fills, dict(row)))
        for row in connection.execute(statement).mappings()
    ]


def digest_of(connection: Connection, run_id: str, facts: int | None = None) -> FactDigest:
    """The digest of a run's first ``facts`` facts, or of all, made again from the tables."""
    digest = FactDigest()
    for stored in read_facts(connection, run_id):
        if facts is not None and stored.n >= facts:
            break
        digest.update(stored.fact)
    return digest
