"""How a fill came about: the chain from the market event to it, read from ledger and journal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import Connection, Table, select

from bot.core.events import Frame
from bot.ledger import queries, tables
from bot.ledger.database import LedgerError
from bot.ledger.digest import plain
from bot.ledger.journal import JournalError, JournalReader

Record: TypeAlias = dict[str, Any]
_SHOWN = 300
"""Characters of a frame that are shown."""


def explain(connection: Connection, fill_id: int, *, run: str | None = None) -> Record:
    """{run, fill, order, chain}: the chain's rows are {step, ts, n, position, what}, in order.

    Raises LedgerError for a fill that is not there.
    """
    row = queries.run(connection, run)
    run_id = row["id"]
    fill = _first(connection, tables.fills, run_id, tables.fills.c.fill_id == fill_id)
    if fill is None:
        raise LedgerError(f"run {run_id}: has no fill {fill_id}; `bot fills` lists them")
    life = queries.order(connection, fill["order_id"], run=run_id)
    order = life["order"]
    chain = [
        *_causes(connection, run_id, order),
        *_order(connection, run_id, order),
        *_life(life, fill),
        *_fill(fill, row["journal"]),
    ]
    return {"run": run_id, "fill": _plain(fill), "order": order, "chain": chain}


def _step(step: str, row: Record, what: str) -> Record:
    return {
        "step": step, "ts": row["ts"], "n": row.get("n"), "position": row["position"], "what": what,
    }  # fmt: skip


def _causes(connection: Connection, run_id: str, order: Record) -> Iterator[Record]:
    """The newest prediction of each model for the symbol, and the strategy's newest signal."""
    table = tables.predictions
    of_symbol = (table.c.symbol == order["symbol"], table.c.position <= order["position"])
    found = connection.execute(
        select(table.c.model).distinct().where(table.c.run_id == run_id, *of_symbol)
    )
    for model in sorted(found.scalars()):
        row = _last(connection, table, run_id, *of_symbol, table.c.model == model)
        assert row is not None
        untrained = "" if row["trained"] else " (UNTRAINED)"
        yield _step(
            "prediction",
            row,
            f"{model}{untrained} at {row['price']}: expects {row['expected_return']}, "
            f"up {row['up_probability']}; read input {row['read_position']}, ready "
            f"{(row['ready_ts'] - row['read_ts']) / 1e6:.3f} ms later",
        )
    signals = tables.signals.c
    signal = _last(
        connection, tables.signals, run_id, signals.n < order["n"],
        signals.strategy == order["strategy"], signals.symbol == order["symbol"],
    )  # fmt: skip
    if signal is not None:
        yield _step("signal", signal, f"wants {signal['target']}: {signal['reason']}")


def _order(connection: Connection, run_id: str, order: Record) -> Iterator[Record]:
    price = order["price"] or "the market"
    what = (
        f"{order['strategy']}: {order['side']} {order['qty']} {order['symbol']} at {price}, "
        f"{order['order_type']} {order['tif']}{', reduce only' if order['reduce_only'] else ''}"
    )
    quote = _first(connection, tables.quotes, run_id, tables.quotes.c.n == order["n"])
    if quote is not None and quote["bid"] is not None and quote["ask"] is not None:
        what += f"; the book was {plain(quote['bid'])} / {plain(quote['ask'])}"
    yield _step("order", order, what)


def _life(life: Record, fill: Record) -> Iterator[Record]:
    """Risk's decision, and what the venue answered until the fill."""
    refused = [each for each in life["events"] if each["kind"] == "Refusal"]
    order = life["order"]
    first = next((each for each in refused if each["n"] < fill["n"]), None)
    if first is None:
        yield _step("risk", order, "passed every limit")
    for each in life["events"]:
        if each["n"] >= fill["n"]:
            break
        match each["kind"]:
            case "Accepted":
                ahead = "unseen" if each["ahead"] is None else each["ahead"]
                late_ms = (each["exchange_ts"] - order["ts"]) / 1e6
                what = f"{each['qty']} at {each['price'] or 'the market'}, {ahead} ahead of it; "
                yield _step("accepted", each, what + f"{late_ms:.3f} ms after the decision")
            case "Refusal":
                yield _step("risk", each, f"refused {each['reason']}: {each['detail']}")
            case kind:
                yield _step(kind.lower(), each, each["reason"] or each["request"] or "")


def _fill(fill: Record, journal: str | None) -> Iterator[Record]:
    """The event that caused it, the queue as it arrived, and the fill."""
    why = {
        "take": "it took what the book displayed",
        "queue": "a trade at its price reached it",
        "through": "a trade went beyond its price",
        "cross": "the book met its price",
    }[fill["cause"]]
    yield _step("market", fill, f"{why}; seq {fill['cause_seq']}{_input(fill, journal)}")
    ahead = fill["ahead_at_arrival"]
    queue = "no queue" if ahead is None else f"{plain(ahead)} were ahead when it arrived"
    yield _step("queue", fill, f"{queue}; policy {fill['policy']}")
    money = f"fee {plain(fill['fee'])} {fill['fee_coin']}, realized {plain(fill['realized_pnl'])}"
    role = "maker" if fill["maker"] else "taker"
    quantity = f"{fill['side']} {plain(fill['qty'])} at {plain(fill['price'])}"
    yield _step(
        "fill", fill, f"{quantity} as {role}; {money}, position {plain(fill['position_qty'])}"
    )


def _input(fill: Record, journal: str | None) -> str:
    """The journal's input at the fill's position; "" where the journal is not here."""
    if journal is None or not Path(journal).is_dir():
        return ""
    try:
        item = next(islice(JournalReader(Path(journal), fill["position"]), 1), None)
    except JournalError:
        return ""
    text = item.data.decode(errors="replace") if isinstance(item, Frame) else str(item)
    return f"; input {fill['position']}: {text[:_SHOWN]}"


def _first(connection: Connection, table: Table, run_id: str, *where: Any) -> Record | None:
    statement = select(table).where(table.c.run_id == run_id, *where).limit(1)
    row = connection.execute(statement).mappings().first()
    return None if row is None else dict(row)


def _last(connection: Connection, table: Table, run_id: str, *where: Any) -> Record | None:
    key = [column.desc() for column in table.primary_key.columns]
    statement = select(table).where(table.c.run_id == run_id, *where).order_by(*key).limit(1)
    row = connection.execute(statement).mappings().first()
    return None if row is None else dict(row)


def _plain(row: Record) -> Record:
    kept = {name: value for name, value in row.items() if name != "run_id"}
    money = ("price", "qty", "fee", "ahead_at_arrival", "leaves", "realized_pnl", "position_qty")
    return kept | {name: plain(row[name]) for name in money if row[name] is not None}
