"""One UTC day of a run, summed up from its rows: money, orders, gaps, the worst fall."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Table, func, select

from bot.core.instrument import amount
from bot.ledger import tables
from bot.ledger.digest import plain
from bot.ledger.folds import fee_in_quote

_SUMS = ("realized_pnl", "fees", "funding", "turnover")


def day(connection: Connection, *, run: str, start_ns: int, end_ns: int) -> dict[str, Any]:
    """What a run did from ``start_ns`` on and before ``end_ns``; money as exact text."""

    def rows(table: Table) -> Iterator[dict[str, Any]]:
        within = (table.c.run_id == run, table.c.ts >= start_ns, table.c.ts < end_ns)
        statement = select(table).where(*within).order_by(*table.primary_key.columns)
        return (dict(row) for row in connection.execute(statement).mappings())

    def count(table: Table, *more: Any) -> int:
        within = (table.c.run_id == run, table.c.ts >= start_ns, table.c.ts < end_ns)
        statement = select(func.count()).select_from(table).where(*within, *more)
        return int(connection.execute(statement).scalar_one())

    symbols = _symbols(rows(tables.fills), rows(tables.funding_paid))
    kind = tables.order_events.c.kind
    gaps = _gaps(connection, run, start_ns, end_ns)
    return {
        "run": run,
        "start_ts": start_ns,
        "end_ts": end_ns,
        **_totals(symbols),
        **_equity(rows(tables.equity)),
        "orders": count(tables.orders),
        "refusals": count(tables.order_events, kind == "Refusal"),
        "rejections": count(tables.order_events, kind == "Rejected"),
        "liquidations": count(tables.liquidations),
        "predictions": count(tables.predictions, tables.predictions.c.horizon == 0),
        "commands": count(tables.commands),
        "gaps": sum(each["gaps"] for each in gaps),
        "gap_s": sum(each["seconds"] for each in gaps),
        "gaps_by_symbol": gaps,
        "symbols": [{"symbol": name, **_plain(sums)} for name, sums in sorted(symbols.items())],
    }


def _gaps(connection: Connection, run: str, start_ns: int, end_ns: int) -> list[dict[str, Any]]:
    """When books were unknown, by symbol; of a gap over midnight what lies within the day."""
    gaps = tables.gaps.c
    statement = select(gaps.symbol, gaps.reason, gaps.ts, gaps.end_ts).where(
        gaps.run_id == run, gaps.ts < end_ns, gaps.end_ts.is_(None) | (gaps.end_ts > start_ns)
    )
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for symbol, reason, ts, end_ts in connection.execute(statement):
        within_ns = min(end_ts or end_ns, end_ns) - max(ts, start_ns)
        found[symbol].append((within_ns, reason))
    return [
        {
            "symbol": symbol,
            "gaps": len(each),
            "seconds": sum(within_ns for within_ns, _ in each) / 1e9,
            "longest_s": max(within_ns for within_ns, _ in each) / 1e9,
            "reasons": dict(sorted(Counter(reason for _, reason in each).items())),
        }
        for symbol, each in sorted(found.items())
    ]


def _symbols(fills: Iterator[Any], funding: Iterator[Any]) -> dict[str, dict[str, Any]]:
    """What each symbol came to."""
    found: dict[str, dict[str, Any]] = defaultdict(
        lambda: {**dict.fromkeys(_SUMS, Decimal(0)), "fills": 0, "maker_fills": 0}
    )
    for fill in fills:
        sums = found[fill["symbol"]]
        sums["realized_pnl"] += fill["realized_pnl"]
        sums["fees"] += amount(
            fee_in_quote(fill["symbol"], fill["fee"], fill["fee_coin"], fill["price"])
        )
        sums["turnover"] += fill["price"] * fill["qty"]
        sums["fills"] += 1
        sums["maker_fills"] += fill["maker"]
        sums["position"] = fill["position_qty"]
    for paid in funding:
        found[paid["symbol"]]["funding"] += paid["amount"]
    return found


def _totals(symbols: dict[str, dict[str, Any]]) -> dict[str, Any]:
    names = (*_SUMS, "fills", "maker_fills")
    total = {name: sum((each[name] for each in symbols.values()), Decimal(0)) for name in names}
    total["net_pnl"] = total["realized_pnl"] - total["fees"] - total["funding"]
    counts = {name: int(total.pop(name)) for name in ("fills", "maker_fills")}
    return {**_plain(total), **counts}


def _equity(rows: Iterator[Any]) -> dict[str, Any]:
    """The first and the last worth, and the deepest fall from a peak within the day."""
    first = last = peak = None
    fall = Decimal(0)
    for row in rows:
        last = row["equity"]
        first = last if first is None else first
        peak = last if peak is None or last > peak else peak
        fall = max(fall, peak - last)
    shown = {"equity_start": first, "equity_end": last, "drawdown": fall}
    return {name: None if value is None else plain(value) for name, value in shown.items()}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: plain(value) if isinstance(value, Decimal) else value
        for name, value in values.items()
    }
