"""A run's facts read back from the tables, exact and in order, and their digest."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, Final, NamedTuple, get_type_hints

from sqlalchemy import Connection, Table, TextClause, func, select, text

from bot.core.events import Fact
from bot.ledger.digest import FIELDS, FactDigest
from bot.ledger.rows import TABLE_OF, column_of, fact_of
from bot.ledger.tables import order_events

_WINDOW: Final = 10_000
_TABLES: Final[tuple[Table, ...]] = tuple(dict.fromkeys(TABLE_OF.values()))


class StoredFact(NamedTuple):
    n: int
    position: int
    fact: Fact


def read_facts(connection: Connection, run_id: str, first: int = 0) -> Iterator[StoredFact]:
    """The facts of a run from number ``first`` on, in order; memory stays bounded."""
    for start in range(first, _end_of(connection, run_id), _WINDOW):
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


def _end_of(connection: Connection, run_id: str) -> int:
    """One more than the highest number of a fact."""
    last: int = max(
        connection.execute(
            select(func.coalesce(func.max(table.c.n), -1)).where(table.c.run_id == run_id)
        ).scalar_one()
        for table in _TABLES
    )
    return last + 1


def digest_of(connection: Connection, run_id: str, facts: int | None = None) -> FactDigest:
    """The digest of a run's first ``facts`` facts, or of all, made again from the tables.

    The stored texts go into the lines as they are, so a million facts take seconds.
    """
    digest = FactDigest()
    end = _end_of(connection, run_id) if facts is None else facts
    for start in range(0, end, _WINDOW):
        until = min(end, start + _WINDOW)
        found = [
            each for kind in TABLE_OF for each in _plain(connection, run_id, kind, start, until)
        ]
        found.sort(key=itemgetter(0))
        for _, kind, values in found:
            digest.update_plain(kind, values)
    return digest


def _plain(
    connection: Connection, run_id: str, kind: type[Any], start: int, until: int
) -> Iterator[tuple[int, type[Any], list[Any]]]:
    """(number, kind, plain values) of the facts of one kind with start <= number < until."""
    rows = connection.execute(_PLAIN[kind], {"run": run_id, "start": start, "until": until})
    flags = _FLAGS[kind]
    for n, *values in rows:
        for index in flags:  # SQLite keeps them as 0 and 1
            values[index] = bool(values[index])
        yield n, kind, values


def _select(kind: type[Any]) -> TextClause:
    table = TABLE_OF[kind]
    columns = ", ".join(column_of(kind, field) for field in FIELDS[kind])
    only = f" AND kind = '{kind.__name__}'" if table is order_events else ""
    return text(
        f"SELECT n, {columns} FROM {table.name} "  # noqa: S608 - our own names
        f"WHERE run_id = :run AND n >= :start AND n < :until{only}"
    )


_PLAIN: Final = {kind: _select(kind) for kind in TABLE_OF}
_FLAGS: Final = {
    kind: [at for at, name in enumerate(FIELDS[kind]) if get_type_hints(kind)[name] is bool]
    for kind in TABLE_OF
}
