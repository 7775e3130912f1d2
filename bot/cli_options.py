"""Options that many verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Db: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="The ledger: sqlite:///PATH or postgresql://USER@HOST/NAME "
        "(default: the config's, sqlite:///data/kvtrader.db)."
    ),
]
Config: TypeAlias = Annotated[
    Path | None, typer.Option(help="Settings (default: ./config.yaml, else the built-in ones).")
]
Run: TypeAlias = Annotated[str | None, typer.Option(help="The run (default: the latest).")]
Symbol: TypeAlias = Annotated[
    str | None, typer.Option(help="Only this symbol, for example linear:BTCUSDT.")
]
Limit: TypeAlias = Annotated[int, typer.Option(min=1, help="At most so many rows.")]
