"""How results look: rich tables for people, JSON for tools. Nothing here asks for anything."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from bot.core.events import Input

_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode
_PROGRESS_EVERY = 1000
_FILE_WIDTH = 160
_DIGEST_SHOWN = 12
_HEADINGS = {
    "exchange_ts": "time",
    "ts": "time",
    "fill_id": "fill",
    "order_id": "order",
    "position_qty": "position",
    "order_type": "type",
    "realized_pnl": "realized",
}


def as_json(value: Any) -> None:
    """Print one JSON value; money is an exact number."""
    sys.stdout.write(_encode(value).decode() + "\n")
    sys.stdout.flush()


def as_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with a header line; objects as JSON, nothing for no value."""
    if not rows:
        return
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(rows[0])
    for row in rows:
        lines.writerow(
            _encode(value).decode() if isinstance(value, dict | list) else value
            for value in row.values()
        )
    sys.stdout.flush()


def as_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print chosen columns of the rows, numbers to the right."""
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        is_number = any(_is_number(row.get(column)) for row in rows)
        is_time = _is_time(column)
        heading = _HEADINGS.get(column, column.replace("_", " "))
        justify: Literal["right", "left"] = "right" if is_number and not is_time else "left"
        table.add_column(heading, justify=justify, no_wrap=is_time)
    for row in rows:
        cells = {column: _cell(column, row.get(column)) for column in columns}
        if "digest" in cells:
            cells["digest"] = cells["digest"][:_DIGEST_SHOWN]
        table.add_row(*cells.values())
    console().print(table)
    if not rows:
        Console(stderr=True).print("nothing here yet", style="dim")


def as_summary(title: str, pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, a line each."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name.replace("_", " "), _cell(name, value))
    console().print(table)


def console() -> Console:
    """A terminal's width, or enough that a file or a pipe gets whole lines."""
    return Console() if sys.stdout.isatty() else Console(width=_FILE_WIDTH)


def as_check(name: str, detail: str, *, ok: bool) -> None:
    """Print one check in one line."""
    mark = "[green]ok     [/]" if ok else "[bold red]PROBLEM[/]"
    Console(soft_wrap=True).print(f"{mark} {name:<16} {_escaped(detail)}", highlight=False)


def error(text: str) -> None:
    """Print one line on stderr."""
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {_escaped(text)}")


def address(url: str) -> None:
    """Print where the dashboard is, in one line on stderr that can be clicked. It may hold the
    token, so it goes past the log."""
    sys.stderr.write(f"dashboard: {url}\n")
    sys.stderr.flush()


def counted(inputs: Iterable[Input]) -> Iterable[Input]:
    """Pass inputs on, with their count on stderr while it is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        task = progress.add_task("inputs", total=None)
        for number, item in enumerate(inputs):
            if number % _PROGRESS_EVERY == 0:
                progress.update(task, completed=number)
            yield item


@contextmanager
def backtesting(start_ns: int | None, end_ns: int | None) -> Iterator[Callable[[Any], None] | None]:
    """Progress on stderr while it is a terminal: market time and inputs of a run."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[inputs]}"))
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        total = None if start_ns is None or end_ns is None else end_ns - start_ns
        task = progress.add_task("reading", total=total, inputs="")

        def told(at: Any) -> None:
            day = datetime.fromtimestamp(at.ts / 1e9, UTC)
            progress.update(
                task,
                description=f"{day:%Y-%m-%d %H:%M}",
                completed=None if start_ns is None else at.ts - start_ns,
                inputs=f"{at.inputs:,} inputs",
            )

        yield told


@contextmanager
def progressing() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Progress on stderr while it is a terminal: say what begins, then (done, total)."""
    if not sys.stderr.isatty():
        yield lambda _: lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as progress:

        def started(name: str) -> Callable[[int, int], None]:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield started


@contextmanager
def saying() -> Iterator[Callable[[str], None]]:
    """Progress on stderr while it is a terminal: say in words what is being done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True,
    ) as progress:  # fmt: skip
        task = progress.add_task("starting", total=None)
        yield lambda text: progress.update(task, description=text)


def _cell(column: str, value: object) -> str:
    if value is None:
        return ""
    if _is_time(column) and isinstance(value, int) and value:
        return f"{datetime.fromtimestamp(value / 1e9, UTC):%m-%d %H:%M:%S.%f}"[:-3]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return _escaped(str(value))


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _is_number(value: object) -> bool:
    """Money comes as exact text."""
    if isinstance(value, str):
        return value.lstrip("-").replace(".", "", 1).isdigit()
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_time(column: str) -> bool:
    return column == "ts" or column.endswith("_ts")
