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
def operate(
    seconds: Annotated[float, typer.Option(min=5, help="Length of a run.")] = 30.0,
    rounds: Annotated[int, typer.Option(min=1, help="Runs without and with the extras.")] = 3,
    messages_per_s: Annotated[float, typer.Option(min=10, help="Of all 10 symbols.")] = 2_000.0,
    as_json: Json = False,
) -> None:
    """The loop's lag on a busy local venue, and what dashboard and metrics cost.

    Example: `bot bench operate --seconds 20 --rounds 2 --json`
    """
    from bot.research.bench import operate as watching

    rows = watching.operate(seconds=seconds, rounds=rounds, messages_per_s=messages_per_s)
    show.as_json(rows) if as_json else show.as_table("bench operate", rows, list(rows[0]))
