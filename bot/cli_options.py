"""Options and words that many verbs share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from bot.config import Settings

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


def seconds(text: str | None) -> float | None:
    """``90``, ``90s``, ``10m``, ``2h`` or ``7d`` in seconds. Raises typer.BadParameter."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no time: write 90s, 10m, 2h or 7d")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]


def start_log(settings: Settings) -> None:
    """Log as the settings say, without their secrets. Raises ConfigError."""
    from bot import secret_values
    from bot.operate import log

    log.configure(settings.log.format, settings.log.level, secret_values.known(settings))
