"""The verbs that read the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from bot import show
from bot.cli_options import DEFAULT_DB, Db, Json, Limit, Run, Symbol

database = typer.Typer(help="Look after the ledger's database.", no_args_is_help=True)

_RUNS = ("id", "mode", "status", "started_ts", "ended_ts", "facts", "digest")
_ORDERS = ("order_id", "ts", "strategy", "symbol", "side", "tif", "qty", "price", "status",
           "filled_qty", "average_price", "reason")  # fmt: skip
_FILLS = ("fill_id", "exchange_ts", "symbol", "side", "qty", "price", "maker", "cause", "fee",
          "realized_pnl", "position_qty", "strategy")  # fmt: skip
_POSITIONS = ("symbol", "position", "average_entry", "realized_pnl", "fees", "fills")
_PNL = ("symbol", "realized_pnl", "fees", "funding", "net_pnl")
_GAPS = ("symbol", "ts", "end_ts", "reason")
_RUN_LINES = ("ended_by", "wall_s", "frames", "skipped", "gaps", "predictions", "orders", "fills",
              "realized_pnl", "fees", "funding", "equity", "digest", "journal", "db")  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (runs, orders, fills, positions, pnl, gaps):
        app.command()(verb)


def run_lines(summary: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """What a person wants to see at the end of a run."""
    for key in _RUN_LINES:
        if key == "predictions" and summary["untrained"]:
            names = ", ".join(summary["untrained"])
            yield key, f"{summary[key]} (UNTRAINED: {names})"
        else:
            yield key, summary[key]


def database_of(db: str | None) -> str:
    """The ledger asked for, the configured one, or the default."""
    if db is not None:
        return db
    is_configured = Path("config.yaml").exists() or any(
        name.startswith("BOT__LEDGER") for name in os.environ
    )
    if not is_configured:  # Settings cost a quarter of a second that a reader need not wait.
        return DEFAULT_DB
    from bot import config

    return config.load(None).ledger.db


def _report(
    rows: list[dict[str, Any]], title: str, columns: Sequence[str], *, as_json: bool
) -> None:
    if as_json:
        show.as_json(rows)
    else:
        show.as_table(title, rows, columns)


def _ask(question: str, db: str | None, **filters: Any) -> list[dict[str, Any]]:
    from bot.ledger import queries, reading

    rows: list[dict[str, Any]] = reading.read(
        database_of(db), getattr(queries, question), **filters
    )
    return rows


def runs(limit: Limit = 50, db: Db = None, as_json: Json = False) -> None:
    """List the runs, newest first. Example: `bot runs`"""
    _report(_ask("runs", db, limit=limit), "runs", _RUNS, as_json=as_json)


def orders(
    run: Run = None,
    symbol: Symbol = None,
    limit: Limit = 100,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """List a run's orders and what became of them. Example: `bot orders --limit 20`"""
    rows = _ask("orders", db, run=run, symbol=symbol, limit=limit)
    _report(rows, "orders", _ORDERS, as_json=as_json)


def fills(
    run: Run = None,
    symbol: Symbol = None,
    limit: Limit = 100,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """List a run's executions and what caused them. Example: `bot fills --json`"""
    rows = _ask("fills", db, run=run, symbol=symbol, limit=limit)
    _report(rows, "fills", _FILLS, as_json=as_json)


def positions(run: Run = None, symbol: Symbol = None, db: Db = None, as_json: Json = False) -> None:
    """Show what a run holds. Example: `bot positions`"""
    rows = _ask("positions", db, run=run, symbol=symbol)
    _report(rows, "positions", _POSITIONS, as_json=as_json)


def pnl(run: Run = None, symbol: Symbol = None, db: Db = None, as_json: Json = False) -> None:
    """Show what a run earned, without open profits. Example: `bot pnl`"""
    rows = _ask("pnl", db, run=run, symbol=symbol)
    _report(rows, "profit and loss", _PNL, as_json=as_json)


def gaps(
    run: Run = None,
    symbol: Symbol = None,
    limit: Limit = 100,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """List when a book was unknown, and why. Example: `bot gaps`"""
    rows = _ask("gaps", db, run=run, symbol=symbol, limit=limit)
    _report(rows, "gaps", _GAPS, as_json=as_json)


@database.command()
def upgrade(db: Db = None) -> None:
    """Bring the database's schema up to date. Example: `bot db upgrade`"""
    from bot.ledger import schema

    typer.echo(f"schema is at {schema.upgrade(database_of(db))}")
