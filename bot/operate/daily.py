"""The daily report as a person reads it, and as files: DAY.json, DAY.txt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

_MONEY = ("net_pnl", "realized_pnl", "fees", "funding", "turnover",
          "equity_start", "equity_end", "drawdown")  # fmt: skip
_COUNTS = ("orders", "fills", "maker_fills", "refusals", "rejections", "liquidations",
           "predictions", "commands", "gaps", "gap_s")  # fmt: skip
_GAPS = ("symbol", "gaps", "seconds", "longest_s", "reasons")
_SYMBOL = ("symbol", "fills", "realized_pnl", "fees", "funding", "position")


def text(day: str, report: Mapping[str, Any]) -> str:
    """A day of a run in plain text."""
    lines = [f"{day} UTC, run {report['run']}", ""]
    for name in (*_MONEY, *_COUNTS):
        value = report[name]
        lines.append(f"  {name.replace('_', ' '):<14} {'-' if value is None else value}")
    lines += _table(_SYMBOL, report["symbols"])
    gaps = [
        {**each, "reasons": ", ".join(f"{n} {reason}" for reason, n in each["reasons"].items())}
        for each in report["gaps_by_symbol"]
    ]
    lines += _table(_GAPS, gaps)
    return "\n".join(lines) + "\n"


def _table(names: Sequence[str], found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows under a head, after an empty line; nothing for no rows."""
    if not found:
        return []
    rows = [
        [name.replace("_", " ") for name in names],
        *([str(each.get(name, "")) for name in names] for each in found),
    ]
    widths = [max(len(row[index]) for row in rows) for index in range(len(names))]
    return ["", *(
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )]  # fmt: skip


def write(folder: Path, day: str, report: Mapping[str, Any], keep: int) -> Path:
    """Write both files and leave the newest ``keep`` days; the text's path. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{day}.txt"
    encoded = msgspec.json.format(msgspec.json.encode(dict(report)), indent=2)
    (folder / f"{day}.json").write_bytes(encoded + b"\n")
    path.write_text(text(day, report), encoding="utf-8")
    for suffix in ("txt", "json"):
        for old in sorted(folder.glob(f"????-??-??.{suffix}"))[:-keep]:
            old.unlink()
    return path
