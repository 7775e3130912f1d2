"""Small archive files of every kind, written as Bybit writes them."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

T0_S = 1_735_689_600
"""2025-01-01 00:00 UTC."""
T0_MS = T0_S * 1000
T0 = T0_S * 10**9
LINEAR_HEADER = (
    "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,"
    "foreignNotional"
)
SPOT_HEADER = "id,timestamp,price,volume,side"
CANDLE_HEADER = "ts_ms,open,high,low,close,volume"


def gz(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))
    return path


def linear_row(at_s: float, side: str, qty: str, price: str, symbol: str = "BTCUSDT") -> str:
    return f"{at_s},{symbol},{side},{qty},{price},PlusTick,6f1-{at_s},1e+11,{qty},100"


def linear_trades(path: Path, *rows: str, header: str = LINEAR_HEADER) -> Path:
    return gz(path, "\n".join([header, *rows]) + "\n")


def spot_trades(path: Path, *rows: str, header: str = SPOT_HEADER) -> Path:
    return gz(path, "\n".join([header, *rows]) + "\n")


def message(
    u: int,
    at_ms: int = T0_MS,
    *,
    bids: Sequence[tuple[str, str]] = (),
    asks: Sequence[tuple[str, str]] = (),
    kind: str = "delta",
    cts: int | None = None,
    name: str = "XRPUSDT",
) -> str:
    data = {"s": name, "b": bids, "a": asks, "u": u, "seq": 1000 + u}
    line: dict = {"topic": f"orderbook.500.{name}", "type": kind, "ts": at_ms, "data": data}
    return json.dumps(line if cts is None else line | {"cts": cts})


def snapshot(u: int, at_ms: int = T0_MS, **more) -> str:
    levels = {"bids": [("1.95", "10"), ("1.94", "5")], "asks": [("1.96", "7")]}
    return message(u, at_ms, kind="snapshot", **(levels | more))


def book_zip(path: Path, *lines: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(path.name.removesuffix(".zip"), "".join(f"{line}\n" for line in lines))
    return path


def candle_rows(count: int, step_min: int = 1, first_ms: int = T0_MS) -> list[str]:
    step_ms = step_min * 60_000
    return [f"{first_ms + n * step_ms},{100 + n},{102 + n},{99 + n},{101 + n},{n}.5"
            for n in range(count)]  # fmt: skip


def candle_table(path: Path, rows: Sequence[str], header: str = CANDLE_HEADER) -> Path:
    return gz(path, "\n".join([header, *rows]) + "\n")
