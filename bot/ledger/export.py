"""``bot db export``: a run's tables and views as CSV or Parquet, a file each.

Tables keep money as exact text, as they hold it; the views have numbers.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, Result, text

from bot.core.errors import PlainError
from bot.ledger import queries
from bot.ledger.columns import metadata
from bot.ledger.reading import read
from bot.ledger.views import VIEWS

Format: TypeAlias = Literal["csv", "parquet"]
_BATCH: Final = 10_000
_TABLES: Final = tuple(
    name for name, table in metadata.tables.items() if "run_id" in table.c and name != "snapshots"
)


class ExportError(PlainError):
    """The files cannot be written; the text says which and why."""


def export(
    text_url: str, folder: Path, format_: Format, run: str | None = None
) -> list[dict[str, Any]]:
    """Write the files: a row {table, rows, file} each. Raises ExportError, LedgerError."""
    write = _csv if format_ == "csv" else _parquet()

    def work(connection: Connection) -> list[dict[str, Any]]:
        run_id = queries.run_of(connection, run)
        written = []
        for name in (*sorted(_TABLES), *VIEWS):
            path = folder / f"{name}.{format_}"
            count = write(path, _rows(connection, name, run_id))
            written.append({"table": name, "rows": count, "file": str(path)})
        return written

    try:
        folder.mkdir(parents=True, exist_ok=True)
        return read(text_url, work)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written: {error.strerror}") from error


def _rows(connection: Connection, name: str, run_id: str) -> Result[Any]:
    return connection.execute(
        text(f"SELECT * FROM {name} WHERE run_id = :run"),  # noqa: S608 - our own names
        {"run": run_id},
    )


def _csv(path: Path, rows: Result[Any]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(rows.keys())
        for batch in _batches(rows):
            lines.writerows(batch)
            count += len(batch)
    return count


def _batches(rows: Result[Any]) -> Iterator[Sequence[Any]]:
    while batch := rows.fetchmany(_BATCH):
        yield batch


def _parquet() -> Callable[[Path, Result[Any]], int]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ExportError(
            "Parquet needs pyarrow: `pip install 'kvtrader[parquet]'`, or use --format csv"
        ) from error

    def write(path: Path, rows: Result[Any]) -> int:
        names = list(rows.keys())
        columns = list(zip(*rows.fetchall(), strict=True)) or [()] * len(names)
        table = pa.table(dict(zip(names, map(pa.array, columns), strict=True)))
        parquet.write_table(table, path, compression="zstd")
        return int(table.num_rows)

    return write
