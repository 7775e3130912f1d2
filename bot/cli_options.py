"""Options and words that many verbs share."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

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

Csv: TypeAlias = Annotated[bool, typer.Option("--csv", help="Print CSV with a header line.")]
StrategyName: TypeAlias = Annotated[str | None, typer.Option(help="Only this strategy.")]
Side: TypeAlias = Annotated[
    Literal["Buy", "Sell"] | None, typer.Option(case_sensitive=False, help="Only this side.")
]
Since: TypeAlias = Annotated[
    str | None, typer.Option(help="From then on: 90s, 10m, 2h, 7d ago, or 2026-11-24T07:00 (UTC).")
]
Until: TypeAlias = Annotated[str | None, typer.Option(help="Before then; as --since.")]


def moment(text: str | None) -> int | None:
    """A time ago (2h) or a UTC time (2026-11-24T07:00) in ns. Raises typer.BadParameter."""
    if text is None:
        return None
    if re.fullmatch(r"\d+(?:\.\d+)?[smhd]", text):
        return time.time_ns() - round((seconds(text) or 0) * 1e9)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time: write 90s, 10m, 2h or 7d (ago), or 2026-11-24T07:00"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e9)


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
