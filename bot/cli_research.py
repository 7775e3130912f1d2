"""`bot backtest`, `bot report` and `bot compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from bot import cli_data, show
from bot.cli_inspect import database_of
from bot.cli_options import Config, Db, Json
from bot.core.errors import PlainError

_LINES = ("market", "ended_by", "wall_s", "inputs_per_s", "gaps", "predictions", "untrained",
          "orders", "fills", "realized_pnl", "fees", "funding", "equity", "digest",
          "db")  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(backtest)
    app.command()(report)
    app.command()(compare)


Paths: TypeAlias = Annotated[
    list[Path] | None,
    typer.Argument(help="Archives, candle files, folders, one capture or one journal "
                        "(default: the store's candles)."),
]  # fmt: skip
From: TypeAlias = Annotated[
    str | None, typer.Option("--from", help="UTC: 2025-01-31 or 2025-01-31T12:00.")
]
To: TypeAlias = Annotated[str | None, typer.Option("--to", help="As --from; not included.")]
Only: TypeAlias = Annotated[
    list[str] | None, typer.Option("--symbol", help="Only linear:BTCUSDT, ...; repeat for more.")
]
Strategy: TypeAlias = Annotated[
    str | None, typer.Option(help="module.Class in place of the config's strategies.")
]
Param: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of --strategy; repeat for more.")
]
Seed: TypeAlias = Annotated[int | None, typer.Option(min=0, help="Of the latency draws.")]
CheckLookahead: TypeAlias = Annotated[
    bool, typer.Option("--check-lookahead", help="Rerun with the future cut off; no ledger.")
]


def backtest(
    paths: Paths = None,
    symbol: Only = None,
    from_: From = None,
    to: To = None,
    strategy: Strategy = None,
    param: Param = None,
    predictions: Annotated[
        Literal["recorded", "chunked", "none"] | None,
        typer.Option(help="Default: recorded for a journal, else chunked."),
    ] = None,
    seed: Seed = None,
    check_lookahead: CheckLookahead = False,
    store: cli_data.StoreFolder = Path("data/store"),
    delay_ms: cli_data.DelayMs = 0.0,
    repair: cli_data.Repair = False,
    build_candles: cli_data.BuildCandles = "",
    archive_symbol: cli_data.ArchiveSymbol = None,
    config: Config = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Trade over history through the same code as the live bot, into the ledger.

    Examples: `bot backtest BTCUSDT_15.csv.gz --strategy strategies.threshold.Threshold` ·
    `bot backtest --symbol linear:ETHUSDT --from 2025-01-01 --to 2025-07-01 --json` ·
    `bot backtest data/runs/20261124-101500-3f2a --check-lookahead`
    """
    from bot import backtest as backtesting
    from bot import backtest_market as markets
    from bot import config as settings_file
    from bot.operate import log

    settings = settings_file.load(config, db=db)
    log.configure(settings.log.format, settings.log.level)
    chosen = settings_file.varied(settings, strategy=strategy, params=param or (), seed=seed)
    options = markets.BacktestOptions(
        paths=tuple(paths or ()),
        store=store,
        symbols=tuple(symbol or ()),
        start_ns=None if from_ is None else cli_data.time_ns(from_),
        end_ns=None if to is None else cli_data.time_ns(to),
        predictions=predictions,
        archive=cli_data.archive_options(delay_ms, build_candles, archive_symbol, repair=repair),
    )
    is_chosen = config is not None or strategy is not None or seed is not None
    if check_lookahead:
        _check_lookahead(chosen, options, is_chosen=is_chosen, as_json=as_json)
        return
    with show.backtesting(options.start_ns, options.end_ns) as progress:
        summary = backtesting.backtest(chosen, options, is_chosen=is_chosen, progress=progress)
    summary = {name: value for name, value in summary.items() if name not in ("prices", "days")}
    summary["db"] = chosen.ledger.db
    if as_json:
        show.as_json(summary)
    else:
        show.as_summary(f"backtest {summary['run']}", ((k, summary[k]) for k in _LINES))


def _check_lookahead(settings: Any, options: Any, *, is_chosen: bool, as_json: bool) -> None:
    from bot import lookahead

    result = lookahead.check(settings, options, is_chosen=is_chosen)
    show.as_json(result) if as_json else show.as_summary("look-ahead check", result.items())
    if not result["ok"]:
        raise typer.Exit(1)


def report(
    run: Annotated[str | None, typer.Argument(help="The run (default: the latest).")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page here: one file.")] = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Sum up a run: in the terminal, as JSON, or as one HTML file that needs no network.

    Examples: `bot report` · `bot report 20261124-101500-3f2a --html report.html`
    """
    from bot.ledger import reading
    from bot.research import report as reports
    from bot.research import report_page

    found = reading.read(database_of(db), reports.gather, run)
    if html is not None:
        try:
            html.write_text(report_page.page(found), encoding="utf-8")
        except OSError as error:
            raise PlainError(f"{html}: cannot be written: {error.strerror}") from error
    if as_json:
        show.as_json(found)
        return
    for note in found["notes"]:
        typer.echo(note)
    lines = {**found["metrics"], **found["variants"]}
    if html is not None:
        lines["html"] = str(html)
    show.as_summary(f"report of {found['run']['id']}", lines.items())


def compare(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more.")],
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Runs side by side; where two over the same input part, and why.

    Example: `bot compare 20261124-101500-3f2a 20261125-090000-77aa`
    """
    from bot.ledger import reading
    from bot.research import compare as comparing

    found = reading.read(database_of(db), comparing.compare, runs)
    if as_json:
        show.as_json(found)
        return
    show.as_table("runs", found["rows"], ["metric", *runs])
    for pair in found["pairs"]:
        show.as_summary(f"{pair['first']} and {pair['second']}", comparing.lines(pair))
