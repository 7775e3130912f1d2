"""The verbs that read the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bot import show
from bot.cli_options import (
    DEFAULT_DB,
    Csv,
    Db,
    Json,
    Limit,
    Run,
    Side,
    Since,
    StrategyName,
    Symbol,
    Until,
    moment,
)

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
    for verb in (runs, orders, fills, positions, pnl, gaps, explain):
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
    rows: list[dict[str, Any]], title: str, columns: Sequence[str], *, as_json: bool, as_csv: bool
) -> None:
    if as_json:
        show.as_json(rows)
    elif as_csv:
        show.as_csv(rows)
    else:
        show.as_table(title, rows, columns)


def _ask(question: str, db: str | None, **filters: Any) -> list[dict[str, Any]]:
    from bot.ledger import queries, reading

    for name in ("since", "until"):
        if name in filters:
            filters[name] = moment(filters[name])
    rows: list[dict[str, Any]] = reading.read(
        database_of(db), getattr(queries, question), **filters
    )
    return rows


def runs(limit: Limit = 50, db: Db = None, as_json: Json = False, as_csv: Csv = False) -> None:
    """List the runs, newest first. Example: `bot runs`"""
    rows = _ask("runs", db, limit=limit)
    _report(rows, "runs", _RUNS, as_json=as_json, as_csv=as_csv)


def orders(
    run: Run = None,
    symbol: Symbol = None,
    strategy: StrategyName = None,
    side: Side = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    db: Db = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List a run's orders and what became of them.

    Examples: `bot orders --limit 20` · `bot orders --strategy maker --side Buy --since 2h`
    """
    rows = _ask("orders", db, run=run, symbol=symbol, strategy=strategy, side=side, since=since,
                until=until, limit=limit)  # fmt: skip
    _report(rows, "orders", _ORDERS, as_json=as_json, as_csv=as_csv)


def fills(
    run: Run = None,
    symbol: Symbol = None,
    strategy: StrategyName = None,
    side: Side = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    db: Db = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List a run's executions and what caused them; `bot explain FILL` tells the whole story.

    Examples: `bot fills --json` · `bot fills --symbol linear:BTCUSDT --since 2026-11-24T07:00`
    """
    rows = _ask("fills", db, run=run, symbol=symbol, strategy=strategy, side=side, since=since,
                until=until, limit=limit)  # fmt: skip
    _report(rows, "fills", _FILLS, as_json=as_json, as_csv=as_csv)


def positions(
    run: Run = None,
    symbol: Symbol = None,
    until: Until = None,
    db: Db = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show what a run holds, or held. Examples: `bot positions` · `bot positions --until 1h`"""
    rows = _ask("positions", db, run=run, symbol=symbol, until=until)
    _report(rows, "positions", _POSITIONS, as_json=as_json, as_csv=as_csv)


def pnl(
    run: Run = None,
    symbol: Symbol = None,
    until: Until = None,
    db: Db = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show what a run earned, without open profits. Example: `bot pnl`"""
    rows = _ask("pnl", db, run=run, symbol=symbol, until=until)
    columns = ("policy", *_PNL) if rows and "policy" in rows[0] else _PNL
    _report(rows, "profit and loss", columns, as_json=as_json, as_csv=as_csv)


def gaps(
    run: Run = None,
    symbol: Symbol = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    db: Db = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List when a book was unknown, and why. Example: `bot gaps --since 24h`"""
    rows = _ask("gaps", db, run=run, symbol=symbol, since=since, until=until, limit=limit)
    _report(rows, "gaps", _GAPS, as_json=as_json, as_csv=as_csv)


def explain(
    fill: Annotated[int, typer.Argument(help="The fill's number, as `bot fills` shows it.")],
    run: Run = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Tell how a fill came about: market, prediction, signal, risk, order, queue, fill.

    Example: `bot explain 4`
    """
    from bot import explain as story
    from bot.ledger import reading

    told = reading.read(database_of(db), story.explain, fill, run=run)
    if as_json:
        show.as_json(told)
    else:
        show.as_table(f"fill {fill}", told["chain"], ("step", "ts", "n", "what"))


@database.command()
def upgrade(db: Db = None) -> None:
    """Bring the database's schema up to date. Example: `bot db upgrade`"""
    from bot.ledger import schema

    typer.echo(f"schema is at {schema.upgrade(database_of(db))}")


@database.command()
def check(run: Run = None, db: Db = None, as_json: Json = False) -> None:
    """Verify the schema and every invariant of every run; name the row that breaks one.

    Example: `bot db check`
    """
    from bot.ledger import checking

    found = checking.check(database_of(db), run)
    if as_json:
        show.as_json(found)
    else:
        for each in found:
            show.as_check(each["run"], each["detail"], ok=each["ok"])
    if not all(each["ok"] for each in found):
        raise typer.Exit(1)


@database.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where the files go; made if it is not there.")],
    format_: Annotated[
        Literal["csv", "parquet"], typer.Option("--format", help="Parquet needs pyarrow.")
    ] = "csv",
    run: Run = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Write a run's tables and views, a file each. Example: `bot db export out --format parquet`"""
    from bot.ledger import export as exporting

    files = exporting.export(database_of(db), folder, format_, run)
    if as_json:
        show.as_json(files)
    else:
        show.as_table(f"exported to {folder}", files, ("table", "rows", "file"))
