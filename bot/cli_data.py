"""The verbs that bring data in: download, record, doctor; and how `bot replay` reads archives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

Also: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--also", help="Merge this archive or folder too; repeat for more."),
]
DelayMs: TypeAlias = Annotated[
    float, typer.Option(min=0.0, help="Archives: modelled time from the exchange to the bot.")
]
Repair: TypeAlias = Annotated[
    bool, typer.Option("--repair", help="Archives: go on over damage, and count it.")
]
BuildCandles: TypeAlias = Annotated[
    str, typer.Option(help="Archives: build candles of this interval from trades (1, 5, 60, D).")
]
ArchiveSymbol: TypeAlias = Annotated[
    str | None, typer.Option(help="Archives: the symbol of files that do not name it.")
]


def archive_options(delay_ms: float, candles: str, symbol: str | None, *, repair: bool) -> Any:
    """How archives are read. Raises typer.BadParameter for an unknown interval."""
    from bot.venue.answers import interval_ns
    from bot.venue.archive_feed import ArchiveOptions

    if candles:
        try:
            interval_ns(candles)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return ArchiveOptions(round(delay_ms * 1e6), repair, candles, symbol)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    del app
