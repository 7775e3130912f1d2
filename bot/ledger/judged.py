"""How the models did: what a judgement reads of the ledger, and the rows that it leaves there.

Like ``queries``: each takes a connection. Times are integer ns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection, insert, select

from bot.core.events import Candle
from bot.ledger.tables import candles, evaluations, model_switches, predictions_scored, runs

Record: TypeAlias = dict[str, Any]


def bars(
    connection: Connection, instance: str, *, symbols: Sequence[str], interval: str, bar_ns: int
) -> list[Candle]:
    """The closed bars that the instance's runs read, each once, in order of symbol and time."""
    statement = (
        select(candles)
        .join(runs, runs.c.id == candles.c.run_id)
        .where(
            runs.c.instance == instance,
            candles.c.symbol.in_(symbols),
            candles.c.interval == interval,
        )
        .order_by(candles.c.symbol, candles.c.open_ts)
    )
    found: dict[tuple[str, int], Candle] = {}
    for row in connection.execute(statement):
        close_ts = row.open_ts + bar_ns
        found[row.symbol, row.open_ts] = Candle(
            close_ts, close_ts, row.symbol, interval, row.open_ts,
            row.open, row.high, row.low, row.close, row.volume, row.volume * row.close,
        )  # fmt: skip
    return list(found.values())


def said(
    connection: Connection, instance: str, *, since_ts: int, limit: int
) -> dict[tuple[str, int], list[Any]]:
    """What each model said at each horizon (ns) and what came of it: the newest ``limit`` rows
    {symbol, read_ts, expected_return, up_probability, outcome}, by symbol and time."""
    table = predictions_scored
    ours = table.join(runs, runs.c.id == table.c.run_id)
    mine = (runs.c.instance == instance, table.c.read_ts >= since_ts)
    kinds = select(table.c.model, table.c.horizon_ns).select_from(ours).where(*mine).distinct()
    found = {}
    for model, horizon_ns in connection.execute(kinds).all():
        newest = (
            select(
                table.c.symbol, table.c.read_ts, table.c.expected_return,
                table.c.up_probability, table.c.outcome,
            )
            .select_from(ours)
            .where(*mine, table.c.model == model, table.c.horizon_ns == horizon_ns)
            .order_by(table.c.read_ts.desc())
            .limit(limit)
        )  # fmt: skip
        rows = connection.execute(newest).all()
        found[model, horizon_ns] = sorted(rows, key=lambda row: (row.symbol, row.read_ts))
    return found


def add_evaluations(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    connection.execute(insert(evaluations), rows)


def add_switch(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(model_switches).values(**row))


def switches(connection: Connection, *, limit: int) -> list[Record]:
    """The newest comparisons of a challenger with its champion, oldest first."""
    statement = select(model_switches).order_by(model_switches.c.ts.desc()).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()][::-1]
