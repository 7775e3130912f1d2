"""Strategies and kinds of KV cache over the same candles: what they return, and how fast they are.

    python examples/03_strategy_comparison.py                    # made-up candles
    python examples/03_strategy_comparison.py BTCUSDT_15.csv.gz  # `bot download klines` makes such

Every line is a whole backtest with fees, spread and order latency, in a ledger of its own. The
model is the shipped predictor; made-up candles are a random walk, so nothing can be earned there,
and what a strategy loses is what its trading costs. The equity curves are drawn to
strategy_comparison.svg, beside where you start it.
"""

from __future__ import annotations

import csv
import math
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bot.backtest import backtest
from bot.backtest_market import BacktestOptions
from bot.config import load
from bot.core.events import Candle, Decision
from bot.core.strategy import Seen, View
from bot.ledger import reading
from bot.operate import log
from bot.research import plots, report

BARS = 1_500
CONFIG = """\
symbols: [linear:BTCUSDT]
account: {{usdt: 10000}}
feed: {{interval: "15"}}
backtest: {{prediction_latency_ms: measured}}
risk: {{max_position_notional: 20000, max_order_notional: 20000, max_daily_loss: 20000}}
models:
  predictor: {{enabled: {predicts}, checkpoint: predictor}}
  analyzer: {{enabled: false}}
  cache: {{kind: {kind}, kv_cache_dtype: {dtype}}}
strategies:
  - {strategy}
"""
MODEL = "{use: strategies.threshold.Threshold, params: {notional: 9000, edge: -0.001}}"
CASES = (  # name, strategy, cache
    ("hold", f"{{use: {__name__}.Hold}}", None),
    ("trend", f"{{use: {__name__}.Trend}}", None),
    ("model", MODEL, ("paged", "int8")),
    ("model", MODEL, ("paged", "float32")),
    ("model", MODEL, ("quantized", "k8v4")),
    ("model", MODEL, ("quantized", "int4")),
)


class Hold:
    """Buys at the first close and waits."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self.state = False
        self._symbols = symbols

    def on_event(self, event: Seen, view: View) -> Iterator[Decision]:
        if isinstance(event, Candle) and not self.state:
            self.state = True
            yield view.market(event.symbol, "Buy", 9_000 / float(event.close))


class Trend:
    """Long above the exponential mean of the last closes, short below it."""

    def __init__(self, symbols: tuple[str, ...], bars: int = 200) -> None:
        self.state = dict.fromkeys(symbols, 0.0)
        self._weight = 2 / (bars + 1)

    def on_event(self, event: Seen, view: View) -> Iterator[Decision]:
        if not isinstance(event, Candle):
            return
        close = float(event.close)
        mean = self.state[event.symbol] or close
        self.state[event.symbol] = mean = mean + self._weight * (close - mean)
        side = 1 if close > mean else -1
        held = view.position(event.symbol)
        if held * side <= 0 and not view.orders(event.symbol):
            change = side * 9_000 / close - held
            yield view.market(event.symbol, "Buy" if change > 0 else "Sell", abs(change))


def made_up(path: Path, bars: int) -> Path:
    """A random walk whose steps are now small, now large."""
    dice, price, size = random.Random(4), 60_000.0, 0.003  # noqa: S311 - a market, no secret
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("ts_ms", "open", "high", "low", "close", "volume"))
        for bar in range(bars):
            size *= math.exp(dice.gauss(0, 0.1) - 0.05 * math.log(size / 0.003))
            walk = [price]
            for _ in range(8):
                walk.append(walk[-1] * math.exp(dice.gauss(0, size / 8**0.5)))
            price = walk[-1]
            shown = (f"{x:.1f}" for x in (walk[0], max(walk), min(walk), price))
            rows.writerow((1_735_689_600_000 + bar * 900_000, *shown, f"{1e5 * size:.3f}"))
    return path


def run(
    folder: Path, candles: Path, strategy: str, cache: tuple[str, str] | None
) -> dict[str, Any]:
    kind, dtype = cache or ("paged", "int8")
    config = folder / "config.yaml"
    config.write_text(
        CONFIG.format(predicts=cache is not None, kind=kind, dtype=dtype, strategy=strategy)
    )
    settings = load(config, db=f"sqlite:///{folder}/ledger.db")
    log.configure(settings.log.format, "error")
    summary = backtest(settings, BacktestOptions(paths=(candles,)), is_chosen=True)
    return reading.read(settings.ledger.db, report.gather, summary["run"])


def row(name: str, cache: tuple[str, str] | None, found: dict[str, Any]) -> str:
    numbers, summary = found["metrics"], found["summary"]
    latency = "".join(f"{each / 1e3:,.0f} us" for each in summary["prediction_latency_ns"].values())
    held = f"{summary['cache']['used_bytes'] / 1e3:,.0f} kB" if cache else ""
    return (
        f"{name:>6} {' '.join(cache or ('-',)):>14} {numbers['total_return']:>8.2%} "
        f"{numbers['max_drawdown']:>8.2%} {numbers['fills']:>6} {float(numbers['fees']):>8.2f} "
        f"{summary['wall_s']:>7.1f} s {latency:>10} {held:>9}"
    )


def draw(path: Path, curves: list[plots.Line]) -> None:
    style = (
        "<style>.grid{stroke:#8884}path{fill:none;stroke-width:1.6}text{font:12px sans-serif;"
        "fill:#777}svg{--c0:#2563eb;--c1:#d97706;--c2:#0f9d6b;--c3:#7c3aed;--c4:#d6454f;"
        "--c5:#0891b2}</style>"
    )
    chart = plots.chart(curves, x_label="days", y_label="equity, USDT")
    svg = chart.partition("</svg>")[0]
    head, _, body = svg.partition(">")
    path.write_text(f'{head} xmlns="http://www.w3.org/2000/svg">{style}{body}</svg>\n')


def main() -> None:
    given = [Path(name) for name in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        candles = given[0] if given else made_up(folder / "linear_BTCUSDT_15m.csv", BARS)
        print(
            f"{'':>6} {'cache':>14} {'return':>8} {'drawdown':>8} {'fills':>6} {'fees':>8} "
            f"{'backtest':>9} {'a step':>10} {'cache':>9}"
        )
        curves = []
        for title, strategy, cache in CASES:
            found = run(folder, candles, strategy, cache)
            print(row(title, cache, found), flush=True)
            start = found["equity"][0][0]
            points = [((ts - start) / 8.64e13, value) for ts, value in found["equity"]]
            curves.append(plots.Line(" ".join((title, *(cache or ()))), points))
    drawn = Path("strategy_comparison.svg")
    draw(drawn, curves)
    print(f"drawn to {drawn}; `a step` is the measured time of one token with a full window")


if __name__ == "__main__":
    main()
