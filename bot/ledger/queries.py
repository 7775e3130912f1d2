"""Questions to the ledger. Each takes a connection and gives rows ready for a table or JSON.

Money is plain text, times are integer ns. ``run`` is a run's id, by default the latest run;
``limit`` keeps the last rows. Raises LedgerError for a run that is not there.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypeAlias, TypedDict, Unpack

from sqlalchemy import ColumnElement, Connection, Table, func, select

from bot.core.instrument import amount, to_decimal
from bot.ledger import shadows, tables
from bot.ledger.database import LedgerError, shown
from bot.ledger.digest import plain
from bot.ledger.folds import Account, order_outcome

Record: TypeAlias = dict[str, Any]


class Filters(TypedDict, total=False):
    """Which rows of a run: by column, and by local time in ns (``since`` <= ts < ``until``)."""

    symbol: str | None
    strategy: str | None
    side: str | None
    since: int | None
    until: int | None


def _conditions(table: Table, only: Filters) -> list[ColumnElement[bool]]:
    """The conditions on a table's columns; one that it lacks is no condition."""
    columns = table.c
    found: list[ColumnElement[bool]] = [
        columns[name] == value
        for name, value in only.items()
        if value is not None and name in columns
    ]
    since, until = only.get("since"), only.get("until")
    if since is not None:
        found.append(columns.ts >= since)
    if until is not None:
        found.append(columns.ts < until)
    return found


# --- Runs -------------------------------------------------------------------------------


def runs(connection: Connection, *, limit: int | None = None) -> list[Record]:
    """Every run, newest first; config, models and summary as objects."""
    statement = select(tables.runs).order_by(
        tables.runs.c.started_ts.desc(), tables.runs.c.id.desc()
    )
    return [_run(row) for row in connection.execute(statement.limit(limit)).mappings()]


def run(connection: Connection, run_id: str | None = None) -> Record:
    """One run's row, the latest by default."""
    statement = select(tables.runs).where(tables.runs.c.id == run_of(connection, run_id))
    return _run(connection.execute(statement).mappings().one())


def latest_run(connection: Connection) -> str:
    """The id of the run that started last."""
    newest = runs(connection, limit=1)
    if not newest:
        raise LedgerError(f"{shown(connection.engine.url)}: holds no run yet; start `bot paper`")
    return str(newest[0]["id"])


def run_of(connection: Connection, run_id: str | None) -> str:
    """Check a run's id, or find the latest."""
    if run_id is None:
        return latest_run(connection)
    if connection.scalar(select(tables.runs.c.id).where(tables.runs.c.id == run_id)) is None:
        raise LedgerError(
            f"{shown(connection.engine.url)}: holds no run {run_id!r}; `bot runs` lists them"
        )
    return run_id


def counts(connection: Connection, *, run: str | None = None) -> dict[str, int]:
    """How many rows of each kind a run has."""
    run_id = run_of(connection, run)
    found = {
        table.name: _count(connection, table, run_id)
        for table in (
            tables.signals,
            tables.orders,
            tables.fills,
            tables.funding_paid,
            tables.liquidations,
            tables.gaps,
            tables.commands,
        )
    }
    first = tables.predictions.c.horizon == 0
    found["predictions"] = _count(connection, tables.predictions, run_id, first)
    kind = tables.order_events.c.kind
    statement = (
        select(kind, func.count()).where(tables.order_events.c.run_id == run_id).group_by(kind)
    )
    by_kind = {row[0]: row[1] for row in connection.execute(statement)}
    for name in ("Accepted", "Amend", "Cancel", "Cancelled", "Refusal", "Rejected"):
        found[name.lower()] = by_kind.get(name, 0)
    return found


# --- Orders and fills -------------------------------------------------------------------


def orders(
    connection: Connection,
    *,
    run: str | None = None,
    limit: int | None = None,
    **only: Unpack[Filters],
) -> list[Record]:
    """Every order with what became of it.

    ``status`` is Sent (no answer yet), New, PartiallyFilled, Filled, Cancelled, Rejected or
    Refused; ``qty`` and ``price`` are as last accepted, ``average_price`` is of the fills.
    """
    run_id = run_of(connection, run)
    found = _last(connection, tables.orders, run_id, only, limit)
    if not found:
        return []
    first = min(row["order_id"] for row in found)
    events = _by_order(connection, tables.order_events, run_id, first)
    executions = _by_order(connection, tables.fills, run_id, first)
    return [
        _plain({**row, **order_outcome(row, events[row["order_id"]], executions[row["order_id"]])})
        for row in found
    ]


def order(connection: Connection, order_id: int, *, run: str | None = None) -> Record:
    """One order's whole life: its row, its events, its fills."""
    run_id = run_of(connection, run)

    def of(table: Table) -> list[Record]:
        statement = (
            select(table)
            .where(table.c.run_id == run_id, table.c.order_id == order_id)
            .order_by(table.c.n)
        )
        return [_plain(row) for row in connection.execute(statement).mappings()]

    found = of(tables.orders)
    if not found:
        raise LedgerError(f"run {run_id}: has no order {order_id}; `bot orders` lists them")
    return {"order": found[0], "events": of(tables.order_events), "fills": of(tables.fills)}


def fills(
    connection: Connection,
    *,
    run: str | None = None,
    limit: int | None = None,
    **only: Unpack[Filters],
) -> list[Record]:
    """Every execution with its cause, in order."""
    found = _last(connection, tables.fills, run_of(connection, run), only, limit)
    return [_plain(row) for row in found]


# --- Positions and profit ---------------------------------------------------------------


def positions(
    connection: Connection,
    *,
    run: str | None = None,
    **only: Unpack[Filters],
) -> list[Record]:
    """Every symbol that was traded: net position, average entry, profit without fees, fees."""
    run_id = run_of(connection, run)
    return [
        {
            "symbol": name,
            "position": plain(to_decimal(account.position.size)),
            "average_entry": _text(account.position.average_entry),
            "cost": plain(amount(account.position.cost)),
            "realized_pnl": plain(account.realized),
            "fees": plain(amount(account.fees)),
            "fills": account.fills,
        }
        for name, account in sorted(_accounts(connection, run_id, only).items())
    ]


def pnl(
    connection: Connection,
    *,
    run: str | None = None,
    **only: Unpack[Filters],
) -> list[Record]:
    """Profit per symbol and in total, in quote coins: net = realized - fees - funding.

    With shadow accounts each row names its policy, and theirs follow.
    """
    run_id = run_of(connection, run)
    sums: dict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0), Decimal(0)])
    for name, account in _accounts(connection, run_id, only).items():
        sums[name][0] += account.realized
        sums[name][1] += amount(account.fees)
    for row in _rows(connection, tables.funding_paid, run_id, only):
        sums[row["symbol"]][2] += row["amount"]
    total = [sum(column, Decimal(0)) for column in zip(*sums.values(), strict=True)]
    named = [*sorted(sums.items()), ("total", total or [Decimal(0)] * 3)]
    traded = [
        {
            "symbol": name,
            "realized_pnl": plain(realized),
            "fees": plain(fees),
            "funding": plain(funding),
            "net_pnl": plain(realized - fees - funding),
        }
        for name, (realized, fees, funding) in named
    ]
    others = shadows.pnl(connection, run_id, only.get("symbol"))
    if not others:
        return traded
    policies = json.loads(_run_config(connection, run_id))["exchange"]["policies"]
    return [{"policy": policies[0], **row} for row in traded] + others


def _run_config(connection: Connection, run_id: str) -> str:
    return str(connection.scalar(select(tables.runs.c.config).where(tables.runs.c.id == run_id)))


def _accounts(connection: Connection, run_id: str, only: Filters) -> dict[str, Account]:
    accounts: dict[str, Account] = defaultdict(Account)
    found = [
        *_rows(connection, tables.fills, run_id, only),
        *_rows(connection, tables.liquidations, run_id, only),
    ]
    for row in sorted(found, key=lambda each: int(each["n"])):
        account = accounts[row["symbol"]]
        if "loss" in row:
            account.liquidate(row["loss"])
        else:
            account.fill(row)
    return accounts


# --- Feed, models, money over time ------------------------------------------------------


def gaps(
    connection: Connection,
    *,
    run: str | None = None,
    limit: int | None = None,
    **only: Unpack[Filters],
) -> list[Record]:
    """When a symbol's book was unknown, and why; an open gap has no end."""
    found = _last(connection, tables.gaps, run_of(connection, run), only, limit)
    return [
        {**_plain(row), "duration_ns": row["end_ts"] and row["end_ts"] - row["ts"]} for row in found
    ]


def predictions(
    connection: Connection,
    *,
    run: str | None = None,
    limit: int | None = None,
    **only: Unpack[Filters],
) -> list[Record]:
    """What the models said, a row per horizon."""
    found = _last(connection, tables.predictions, run_of(connection, run), only, limit)
    return [{**_plain(row), "quantiles": json.loads(row["quantiles"] or "[]")} for row in found]


def scores(
    connection: Connection,
    *,
    run: str | None = None,
    limit: int | None = None,
    **only: Unpack[Filters],
) -> list[Record]:
    """Predictions and what came of them, by the time at which it was known."""
    run_id = run_of(connection, run)
    return [
        _plain(row) for row in _last(connection, tables.predictions_scored, run_id, only, limit)
    ]


def equity(
    connection: Connection, *, run: str | None = None, limit: int | None = None
) -> list[Record]:
    """The account's worth over time."""
    found = _last(connection, tables.equity, run_of(connection, run), {}, limit)
    return [_plain(row) for row in found]


# --- Rows -------------------------------------------------------------------------------


def _rows(connection: Connection, table: Table, run_id: str, only: Filters) -> Iterator[Record]:
    statement = select(table).where(table.c.run_id == run_id, *_conditions(table, only))
    for row in connection.execute(statement.order_by(*table.primary_key.columns)).mappings():
        yield dict(row)


def _last(
    connection: Connection, table: Table, run_id: str, only: Filters, limit: int | None
) -> list[Record]:
    """Take the last ``limit`` rows, in order."""
    statement = select(table).where(table.c.run_id == run_id, *_conditions(table, only))
    key = [column.desc() for column in table.primary_key.columns]
    found = connection.execute(statement.order_by(*key).limit(limit)).mappings()
    return [dict(row) for row in found][::-1]


def _by_order(
    connection: Connection, table: Table, run_id: str, first_order: int
) -> dict[int, list[Record]]:
    """Group the rows of the orders from ``first_order`` on by their order."""
    statement = (
        select(table)
        .where(table.c.run_id == run_id, table.c.order_id >= first_order)
        .order_by(table.c.n)
    )
    found: dict[int, list[Record]] = defaultdict(list)
    for row in connection.execute(statement).mappings():
        found[row["order_id"]].append(dict(row))
    return found


def _count(connection: Connection, table: Table, run_id: str, *more: ColumnElement[bool]) -> int:
    statement = select(func.count()).select_from(table)
    return int(connection.execute(statement.where(table.c.run_id == run_id, *more)).scalar_one())


def _run(row: Any) -> Record:
    return {
        **row,
        **{name: json.loads(row[name]) for name in ("config", "models", "summary")},
    }


def _plain(row: Any) -> Record:
    return {
        name: plain(value) if isinstance(value, Decimal) else value
        for name, value in row.items()
        if name != "run_id"
    }


def _text(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)
