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
    """A loopback socket to the strategy's callback, without journal and ledger.

    Beside it, in turns: picows with msgspec and a dict book, pybit's raw callback, and the same
    frames in this process. A capture is read in this process only.

    Example: `bot bench feed --json`
    """
    if input_ is None:
        from bot.research.bench import feed as socket_feed

        result = socket_feed.feed(messages=messages, rounds=rounds)
    else:
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
