"""How results look: rich tables for people, JSON for tools. Nothing here asks for anything."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from bot.core.events import Input

_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode
_PROGRESS_EVERY = 1000


def as_json(value: Any) -> None:
    """Print one JSON value; money is an exact number."""
    sys.stdout.write(_encode(value).decode() + "\n")
    sys.stdout.flush()


def as_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print chosen columns of the rows, numbers to the right."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        is_number = any(isinstance(row.get(column), int | float | Decimal) for row in rows)
        is_time = _is_time(column)
        table.add_column(column, justify="right" if is_number and not is_time else "left")
    for row in rows:
        table.add_row(*(_cell(column, row.get(column)) for column in columns))
    Console().print(table)
    if not rows:
        Console(stderr=True).print("nothing here yet", style="dim")


def as_summary(title: str, pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, a line each."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, _cell(name, value))
    Console().print(table)


def as_check(name: str, detail: str, *, ok: bool) -> None:
    """Print one check in one line."""
    mark = "[green]ok     [/]" if ok else "[bold red]PROBLEM[/]"
    Console(soft_wrap=True).print(f"{mark} {name:<16} {_escaped(detail)}", highlight=False)


def error(text: str) -> None:
    """Print one line on stderr."""
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {_escaped(text)}")


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


def _cell(column: str, value: object) -> str:
    if value is None:
        return ""
    if _is_time(column) and isinstance(value, int) and value:
        return f"{datetime.fromtimestamp(value / 1e9, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return _escaped(str(value))


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _is_time(column: str) -> bool:
    return column == "ts" or column.endswith("_ts")
