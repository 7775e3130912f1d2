"""Words to calls, no logic. A verb imports what it needs, so that the reading ones start fast."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bot import (
    cli_bench,
    cli_config,
    cli_data,
    cli_evaluate,
    cli_inspect,
    cli_models,
    cli_mqtt,
    cli_record,
    cli_research,
    cli_train,
    show,
)
from bot.cli_options import Config, Db, Json, Run, seconds, start_log
from bot.core.errors import PlainError

app = typer.Typer(
    name="bot",
    help="Paper trading on Bybit: live, replayed, and on record.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
cli_inspect.register(app)
cli_data.register(app)
cli_record.register(app)
cli_evaluate.register(app)
cli_research.register(app)
app.add_typer(cli_inspect.database, name="db")
app.add_typer(cli_bench.bench, name="bench")
app.add_typer(cli_config.settings, name="config")
app.add_typer(cli_train.train, name="train")
app.add_typer(cli_models.models, name="models")
app.add_typer(cli_mqtt.mqtt, name="mqtt")


def main() -> None:
    """Run the command line. Expected trouble is one line and exit code 2."""
    try:
        app()
    except PlainError as error:
        show.error(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _secrets(pairs: Iterable[str]) -> dict[str, str]:
    """``KEY:SECRET`` texts as a mapping."""
    secrets = {}
    for pair in pairs:
        key, colon, secret = pair.partition(":")
        if not (key and colon and secret):
            raise typer.BadParameter(f"{pair!r} is no key: write KEY:SECRET")
        secrets[key] = secret
    return secrets


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("config.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a `config.yaml` with every setting explained.

    Example: `bot init`, then edit, then `bot paper`
    """
    from bot import config

    config.write_default(path, overwrite=force)
    typer.echo(f"wrote {path}")


@app.command()
def paper(
    venue: Annotated[
        Literal["bybit", "local"], typer.Option(help="Bybit, or a market on this machine.")
    ] = "bybit",
    for_: Annotated[
        str | None, typer.Option("--for", help="Stop after this time: 90s, 10m, 2h, 7d.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Start a new run though one is unfinished.")
    ] = False,
    config: Config = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Trade on paper on live data, until the time is up or Ctrl-C.

    Continues the database's unfinished run, if there is one.

    Examples: `bot paper` · `bot paper --venue local --for 2m` · `bot paper --new --json`
    """
    from bot import app as running
    from bot import config as settings_file

    settings = settings_file.load(config, db=db)
    start_log(settings)
    options = running.PaperOptions(venue, seconds(for_), new, config)
    summary = asyncio.run(running.paper(settings, options, show.address))
    if as_json:
        show.as_json(summary)
    else:
        show.as_summary(f"paper run {summary['run']}", cli_inspect.run_lines(summary))
    if not summary["clean"]:
        raise typer.Exit(1)


@app.command()
def dashboard(
    run: Annotated[str | None, typer.Argument(help="The run (default: the latest).")] = None,
    config: Config = None,
    db: Db = None,
) -> None:
    """Show a run that is in the ledger in the browser, until Ctrl-C.

    A run under way shows more on the page that it serves itself; its address is printed when it
    starts.

    Examples: `bot dashboard` · `bot dashboard 20261124-101500-3f2a --db postgresql://bot@db/bot`
    """
    from bot import config as settings_file
    from bot import serve_dashboard

    settings = settings_file.load(config, db=db)
    start_log(settings)
    asyncio.run(serve_dashboard.stored(settings, run, show.address))


@app.command()
def top(
    run: Run = None,
    url: Annotated[
        str | None, typer.Option(help="The dashboard's address as `bot paper` printed it: more.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    config: Config = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Watch a run in the terminal until Ctrl-C; `--json` prints how it stands, once.

    Examples: `bot top` · `bot top --url "http://127.0.0.1:8787/?token=..."` · `bot top --json`
    """
    from bot import config as settings_file
    from bot import top as watching

    if url is None:
        ask = watching.by_ledger(settings_file.load(config, db=db).ledger.db, run)
    else:
        ask = watching.by_page(url)
    if as_json:
        show.as_json(ask())
    else:
        watching.watch(ask, every_s=every)


@app.command()
def replay(
    path: Annotated[
        Path,
        typer.Argument(help="A journal, a run's folder, a raw capture, an archive or its folder."),
    ],
    predictions: Annotated[
        Literal["recorded", "recompute", "none"] | None,
        typer.Option(help="Default: recorded for a journal, none for a capture."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with the ledger of the run.")
    ] = False,
    bbo: Annotated[
        Path | None, typer.Option(help="Write the best prices after each book message (CSV).")
    ] = None,
    also: cli_data.Also = None,
    delay_ms: cli_data.DelayMs = 0.0,
    repair: cli_data.Repair = False,
    build_candles: cli_data.BuildCandles = "",
    symbol: cli_data.ArchiveSymbol = None,
    config: Config = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Step a recorded session through the same code as the live bot.

    Examples: `bot replay data/runs/20261124-101500-3f2a --verify` ·
    `bot replay BYBIT.jsonl.zst --bbo best.csv --json` ·
    `bot replay 2024-12-01_XRPUSDT_ob500.data.zip --also XRPUSDT2024-12-01.csv.gz`
    """
    from bot import config as settings_file
    from bot import replay as replaying

    defaults = settings_file.load(config, db=db)
    start_log(defaults)
    archive = cli_data.archive_options(delay_ms, build_candles, symbol, repair=repair)
    options = replaying.ReplayOptions(
        predictions, verify, bbo, defaults.ledger.db, tuple(also or ()), archive
    )
    result = replaying.replay(
        path,
        defaults,
        options,
        is_chosen=config is not None,
        progress=show.counted if sys.stderr.isatty() else iter,
    )
    if as_json:
        show.as_json(result)
    else:
        scores = result.pop("scores")
        show.as_summary(f"replay of {path}", result.items())
        if scores:
            show.as_table("its predictions", scores, list(scores[0]))


@app.command()
def venue(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8765,
    symbol: Annotated[
        list[str] | None, typer.Option(help="linear:BTCUSDT, ...; repeat for more.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same market.")] = 7,
    events_per_s: Annotated[
        float, typer.Option(min=0.01, max=5000, help="Book events per second and symbol.")
    ] = 40.0,
    funding_minutes: Annotated[
        int, typer.Option(min=1, max=1440, help="Funding is settled every so often.")
    ] = 480,
    capture: Annotated[
        Path | None, typer.Option(help="Play back this raw capture instead.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY:SECRET",
            help="An account's API key; repeat for more. [demo-key:demo-secret]",
        ),
    ] = None,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Serve a local Bybit v5 venue: WebSockets and REST on 127.0.0.1.

    Signed requests and /v5/private take the key demo-key with the secret demo-secret, unless
    --key names others; docs/local-venue.md has the faults it makes on demand.

    Examples: `bot venue` · `bot venue --port 0 --json` · `bot venue --capture BYBIT.jsonl.zst`
    """
    from bot import serve_venue

    def listening(urls: dict[str, str]) -> None:
        if as_json:
            show.as_json(urls)
        else:
            show.as_summary("local venue, Ctrl-C ends it", urls.items())

    asyncio.run(
        serve_venue.serve(
            port=port,
            symbols=symbol,
            seed=seed,
            events_per_s=events_per_s,
            funding_minutes=funding_minutes,
            capture=capture,
            secrets=_secrets(key or ()),
            until_eof=until_eof,
            listening=listening,
        )
    )


@app.command()
def scenarios(
    path: Annotated[Path, typer.Argument(help="A scenario file, or a folder of them.")],
    as_json: Json = False,
) -> None:
    """Hold the paper exchange against small markets with a known outcome.

    Example: `bot scenarios tests/scenarios`
    """
    from bot.research import scenarios as golden

    failed: list[dict[str, Any]] = []
    paths = golden.find(path)
    for file in paths:
        failure = golden.run(file)
        if failure is not None:
            failed.append({"name": failure.name, "differences": failure.differences})
    passed = len(paths) - len(failed)
    if as_json:
        show.as_json({"passed": passed, "failed": failed})
    else:
        for failure_row in failed:
            show.error(f"{failure_row['name']}: {'; '.join(failure_row['differences'])}")
        typer.echo(f"{passed} passed, {len(failed)} failed")
    if failed:
        raise typer.Exit(1)
