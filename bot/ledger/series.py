"""What a run looks like over time, in bounded pages: for charts and for watching.

Like ``queries``: each takes a connection, money is plain text, times are integer ns.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, func, select

from bot.ledger import tables
from bot.ledger.digest import plain

Record: TypeAlias = dict[str, Any]


def candles(
    connection: Connection, run_id: str, *, symbol: str, interval: str, limit: int
) -> list[Record]:
    """The last ``limit`` closed bars, oldest first."""
    table = tables.candles
    statement = select(
        table.c.open_ts, table.c.open, table.c.high, table.c.low, table.c.close, table.c.volume
    ).where(table.c.run_id == run_id, table.c.symbol == symbol, table.c.interval == interval)
    rows = _newest(connection, statement.order_by(table.c.open_ts.desc()), limit)
    names = ("open", "high", "low", "close", "volume")
    return [{"open_ts": row["open_ts"], **{n: plain(row[n]) for n in names}} for row in rows]


def intervals(connection: Connection, run_id: str, *, symbol: str) -> list[str]:
    """The intervals of which there are bars."""
    table = tables.candles
    statement = (
        select(table.c.interval)
        .where(table.c.run_id == run_id, table.c.symbol == symbol)
        .distinct()
        .order_by(table.c.interval)
    )
    return [str(name) for name in connection.scalars(statement)]


def equity_after(
    connection: Connection, run_id: str, *, after_ts: int, limit: int
) -> list[tuple[int, str]]:
    """(ts, equity) of the first ``limit`` points after a time, oldest first."""
    table = tables.equity
    statement = (
        select(table.c.ts, table.c.equity)
        .where(table.c.run_id == run_id, table.c.ts > after_ts)
        .order_by(table.c.ts)
        .limit(limit)
    )
    return [(row.ts, plain(row.equity)) for row in connection.execute(statement)]


def forecasts(
    connection: Connection, run_id: str, *, symbol: str, model: str, limit: int
) -> list[Record]:
    """The last ``limit`` answers of a model for its nearest horizon, oldest first."""
    table = tables.predictions
    statement = (
        select(
            table.c.read_ts,
            table.c.price,
            table.c.horizon_ns,
            table.c.expected_return,
            table.c.up_probability,
            table.c.trained,
            table.c.rebuilt,
        )
        .where(
            table.c.run_id == run_id,
            table.c.symbol == symbol,
            table.c.model == model,
            table.c.horizon == 0,
            table.c.horizon_ns.is_not(None),
        )
        .order_by(table.c.read_ts.desc())
    )
    return _newest(connection, statement, limit)


def newest_forecast(
    connection: Connection, run_id: str, *, symbol: str, model: str
) -> list[Record]:
    """A model's newest answer, a row per horizon; [] before the first."""
    table = tables.predictions
    of_model = (
        table.c.run_id == run_id, table.c.symbol == symbol, table.c.model == model
    )  # fmt: skip
    newest = select(func.max(table.c.read_ts)).where(*of_model).scalar_subquery()
    statement = select(table).where(*of_model, table.c.read_ts == newest)
    rows = connection.execute(statement.order_by(table.c.position, table.c.horizon)).mappings()
    found = [dict(row) for row in rows]
    return [row for row in found if row["position"] == found[-1]["position"]]


def _newest(connection: Connection, newest_first: Select[Any], limit: int) -> list[Record]:
    found = connection.execute(newest_first.limit(limit)).mappings()
    return [dict(row) for row in found][::-1]
