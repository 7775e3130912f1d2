"""`bot bench backtest`: two years of candles with the shipped predictor, an hour of order books.

The markets are made up; what is timed is a whole backtest as `bot backtest` makes one, from the
files (the books: from frames in memory) to the ledger's last commit, models and all.
"""

from __future__ import annotations

import asyncio
import csv
import heapq
import importlib
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bot.backtest import over
from bot.backtest_market import BacktestOptions, Market, market
from bot.config import Settings, parse
from bot.core.events import Frame, Input
from bot.research.bench.made_feed import Maker, opening
from bot.research.timing import with_ticks

Row = dict[str, Any]

BARS = 70_080
"""15-minute bars of two years."""
PART_BARS = 768
"""Of each symbol, token by token: more than the model's window."""
_SHORT_PART = 8
"""A run of a part's eighth tells what a run costs before its first bar, which is counted once."""
COINS = ("BTC", "ETH", "SOL", "BNB")
_START_MS = 1_672_531_200_000
_BAR_MS = 900_000
_STEP_NS = 20_000_000
"""Between a symbol's messages: 50 a second."""
_HUGE = 1_000_000_000
_LOOSE = {"max_position_notional": _HUGE, "max_order_notional": _HUGE, "max_daily_loss": _HUGE,
          "max_orders_per_s": 1_000, "max_open_orders": 1_000}  # fmt: skip


def rows(
    *, bars: int = BARS, minutes: int = 60, say: Callable[[str], None] = lambda _: None
) -> Iterator[Row]:
    """The measurements, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _candles(folder, bars, say)
        say(f"{minutes} minutes of order books of two symbols")
        yield _books(folder, minutes)


# --- candles ----------------------------------------------------------------------------------


def _candles(folder: Path, bars: int, say: Callable[[str], None]) -> Iterator[Row]:
    importlib.import_module("bot.inference")  # torch loads once, outside what is timed
    say(f"{bars} candles of {len(COINS)} symbols with the shipped predictor")
    paths = tuple(_written(folder, coin, bars) for coin in COINS)
    options = BacktestOptions(paths=paths)
    whole = _timed(folder, options, "auto")
    part_bars = min(PART_BARS, bars)
    say(f"the first {part_bars} of them token by token in torch")
    short, part = (
        _timed(folder, _until(paths, count), "torch", ahead_tokens=1)
        for count in (part_bars // _SHORT_PART, part_bars)
    )
    told = part["predictions"] - short["predictions"]
    more = (whole["predictions"] - short["predictions"]) / told
    slow_s, slow_cpu_s = (
        short[name] + (part[name] - short[name]) * more for name in ("wall_s", "cpu_s")
    )
    yield {
        "measure": "candles",
        "symbols": len(COINS),
        "bars": bars,
        **whole,
        "token_by_token_part_bars": part_bars,
        "token_by_token_part_s": part["wall_s"],
        "token_by_token_us": round((part["wall_s"] - short["wall_s"]) * 1e6 / told),
        "token_by_token_s": round(slow_s, 1),
        "speedup": round(slow_s / whole["wall_s"], 1),
        "speedup_cpu": round(slow_cpu_s / whole["cpu_s"], 1),
    }


def _until(paths: tuple[Path, ...], bars: int) -> BacktestOptions:
    return BacktestOptions(paths=paths, end_ns=(_START_MS + (bars + 1) * _BAR_MS) * 1_000_000)


def _timed(folder: Path, options: BacktestOptions, decode: str, **changes: Any) -> Row:
    """A whole run: opening the files, loading the model, stepping, and the ledger."""
    settings = _settings(
        folder,
        symbols=[f"linear:{coin}USDT" for coin in COINS],
        feed={"interval": "15"},
        models={
            "decode": decode,
            "predictor": {"checkpoint": "predictor"},
            "analyzer": {"enabled": False},
        },
        strategies=[
            {"use": "strategies.threshold.Threshold", "params": {"edge": -0.001}}
        ],
    )  # fmt: skip
    began = _Began()
    found = market(settings, options, is_chosen=True)
    return _told(asyncio.run(over(replace(found, **changes), options)), began)


def _written(folder: Path, coin: str, bars: int) -> Path:
    """A random walk as a candle file."""
    dice = random.Random(coin)  # noqa: S311 - a market, no secret
    path, price = folder / f"linear_{coin}USDT_15m.csv", 30_000.0
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("ts_ms", "open", "high", "low", "close", "volume"))
        for bar in range(bars):
            opened, price = price, price * math.exp(dice.gauss(0, 0.003))
            high = max(opened, price) * math.exp(abs(dice.gauss(0, 0.001)))
            low = min(opened, price) * math.exp(-abs(dice.gauss(0, 0.001)))
            shown = (f"{number:.1f}" for number in (opened, high, low, price))
            lines.writerow((_START_MS + bar * _BAR_MS, *shown, f"{dice.expovariate(0.01):.3f}"))
    return path


# --- order books ------------------------------------------------------------------------------


def _books(folder: Path, minutes: int) -> Row:
    symbols = [f"linear:{coin}USDT" for coin in COINS[:2]]
    settings = _settings(
        folder,
        symbols=symbols,
        account={"usdt": _HUGE},
        models={"predictor": {"enabled": False}, "analyzer": {"enabled": False}},
        strategies=[{"use": "strategies.market_maker.MarketMaker",
                     "params": {"half_spread": 2e-6, "max_inventory": 1e6}}],
    )  # fmt: skip
    count = minutes * 60 * 10**9 // _STEP_NS
    makers = [Maker(seed, f"{coin}USDT", _STEP_NS) for seed, coin in enumerate(COINS[:2])]
    feeds = [maker.feed(count).frames for maker in makers]
    frames: list[Frame] = list(heapq.merge(*feeds, key=lambda frame: frame.ts))
    first, *others = opening()
    rules = [replace(first, symbol=symbol) for symbol in symbols]

    def make() -> Iterator[Input]:
        return with_ticks([*rules, *others, *frames], 10**9)

    found = Market(settings, make, "none", "events")
    began = _Began()
    told = _told(asyncio.run(over(found, BacktestOptions())), began)
    return {
        "measure": "books",
        "symbols": len(symbols),
        "minutes": minutes,
        "messages": len(frames),
        **told,
        "wall_s_per_symbol": round(told["wall_s"] / len(symbols), 2),
    }


def _settings(folder: Path, **keys: Any) -> Settings:
    return parse(
        {"ledger": {"db": f"sqlite:///{folder}/bench.db"}, "risk": _LOOSE, **keys}, "bench"
    )


class _Began:
    """When, on the clock and in this process's time."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()


def _told(summary: Row, began: _Began) -> Row:
    wall_s = time.perf_counter() - began.wall
    kept = ("inputs", "predictions", "orders", "fills", "facts")
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(time.process_time() - began.cpu, 2),
        "stepping_s": summary["wall_s"],
        "inputs_per_s": round(summary["inputs"] / wall_s),
        **{name: summary[name] for name in kept},
    }
