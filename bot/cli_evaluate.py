"""The verb that holds models against baselines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from bot import show
from bot.cli_options import Config, Json

COLUMNS = ("symbol", "horizon", "metric", "value", "interval", "n", "n_independent")


Data: TypeAlias = Annotated[
    Path, typer.Option(help="A candle file, a store, a capture, a journal or an archive.")
]
Named: TypeAlias = Annotated[
    str | None, typer.Option("--symbol", help="Only this one; names a file's symbol too.")
]
Interval: TypeAlias = Annotated[str | None, typer.Option(help="Bybit's name: 1, 5, 15, 60, D.")]
File: TypeAlias = Annotated[
    Path | None, typer.Option("--checkpoint", help="A .safetensors file. [the config's]")
]
Since: TypeAlias = Annotated[
    datetime | None, typer.Option(help="Score from then on (UTC); what is before is context.")
]
Repair: TypeAlias = Annotated[bool, typer.Option("--repair", help="Go on over damage and holes.")]
Cost: TypeAlias = Annotated[
    float, typer.Option(min=0, help="What trading a unit costs, in basis points.")
]
CacheDtype: TypeAlias = Annotated[
    Literal["float32", "float16", "int8", "fp8_e4m3", "int4", "k8v4"],
    typer.Option(help="How the model's cache is kept."),
]
Caches: TypeAlias = Annotated[
    bool, typer.Option("--caches", help="What each kind of cache and window costs instead.")
]
Note: TypeAlias = Annotated[
    bool, typer.Option("--note", help="Write rank IC and differences to --checkpoint's card.")
]
Html: TypeAlias = Annotated[Path | None, typer.Option(help="Write a page with plots.")]


def register(app: typer.Typer) -> None:
    app.command()(evaluate)


def evaluate(
    data: Data,
    symbol: Named = None,
    interval: Interval = None,
    checkpoint: File = None,
    since: Since = None,
    repair: Repair = False,
    cost_bps: Cost = 5.5,
    kv_cache_dtype: CacheDtype = "int8",
    caches: Caches = False,
    html: Html = None,
    note: Note = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Hold a model against simple rules, regression and boosted trees on the same rows.

    Runs the checkpoint through its cache; nothing is trained. Intervals are block-bootstrap, 95 %.

    Examples: `bot evaluate --data BTCUSDT_5.csv.gz --html page.html` ·
    `bot evaluate --data data/store --symbol linear:ETHUSDT --interval 15 --json`
    """
    from bot import config as settings_file
    from bot import evaluate as evaluating
    from bot import evaluate_caches
    from bot.model.registry import Registry
    from bot.model.streamed import Running
    from bot.research import evaluation_page
    from bot.research.teaching import figures

    options = evaluating.Options(
        data, symbol, interval, checkpoint, _ns(since), repair, cost_bps / 1e4,
        Running(kv_cache_dtype=kv_cache_dtype),
    )  # fmt: skip
    settings = settings_file.load(config)
    with show.progressing() as started:
        if caches:
            costs = evaluate_caches.costs(settings, options, started)
        else:
            found = evaluating.evaluate(settings, options, started)
    if caches:
        columns = evaluate_caches.COLUMNS
        show.as_json(costs) if as_json else show.as_table("caches", costs, columns)
        return
    card = found.checkpoint.card
    if note:
        if checkpoint is None:
            raise typer.BadParameter("--note needs --checkpoint, whose card it changes")
        figures.write_figures(Registry().path_of("", checkpoint), found.rows)
    if html is not None:
        evaluation_page.write(html, card, found.subjects, found.rows, notes=found.notes,
                              cost=options.cost)  # fmt: skip
    if as_json:
        for line in found.notes:
            typer.echo(line, err=True)
        show.as_json(found.rows)
    else:
        _print(card.name, [evaluation_page.verdict(card, found.rows), *found.notes], found.rows)


def _ns(time: datetime | None) -> int:
    """A time of the command line, UTC unless it says otherwise, in ns; 0 for none."""
    if time is None:
        return 0
    return round(time.replace(tzinfo=time.tzinfo or UTC).timestamp()) * 10**9


def _print(name: str, lines: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    for line in lines:
        typer.echo(line)
    baselines = sorted({one for row in rows for one in row["baselines"]})
    show.as_table(name, [_shown(row) for row in rows], (*COLUMNS, *baselines))
    typer.echo("* the paired 95 % interval of the difference to the model excludes 0")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row for people; a star where the paired difference to a baseline excludes zero."""
    cells = {key: row[key] for key in ("symbol", "metric", "n", "n_independent")}
    cells["horizon"] = f"{row['horizon']:g} s"
    cells["value"] = f"{row['value']:.4f}" if row["value"] is not None else ""
    cells["interval"] = _range(row)
    for name, found in row["baselines"].items():
        gap = found["difference"]
        is_sure = gap["lo"] is not None and (gap["lo"] > 0 or gap["hi"] < 0)
        value = found["value"]
        cells[name] = "" if value is None else f"{value:.4f}{' *' if is_sure else ''}"
    return cells


def _range(found: dict[str, Any]) -> str:
    lo, hi = found["lo"], found["hi"]
    return "" if lo is None or hi is None else f"{lo:.4f} .. {hi:.4f}"
