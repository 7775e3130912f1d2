"""Options that many verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DEFAULT_DB = "sqlite:///data/kvtrader.db"
"""Under the working directory; the same for every verb, and for the settings."""
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Db: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="The ledger: sqlite:///PATH or postgresql://USER@HOST/NAME "
        f"(default: the config's, {DEFAULT_DB})."
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
