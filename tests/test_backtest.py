"""Backtests in processes of their own: the same fills, exact money, and one line for bad input."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

import pytest

from tests.processes import bot, one_line, told

D = Decimal
MINUTE_MS = 60_000
START_MS = 1_735_689_600_000
HEADER = "ts_ms,open,high,low,close,volume"
CONFIG = """\
symbols: [linear:BTCUSDT]
account: {usdt: 10000}
models: {predictor: {enabled: false}, analyzer: {enabled: false}}
exchange: {latency_jitter_ms: 0}
backtest: {candle_spread: 0.001}
risk: {max_position_notional: 1000000, max_order_notional: 1000000, max_daily_loss: 1000000}
strategies: [{use: planned.Planned}]
log: {level: error}
"""
PLANNED = '''
from bot.core.events import Candle

PLAN = {plan!r}


class Planned:
    """Orders at the closes of given bars: (side, coins)."""

    def __init__(self, symbols):
        self.state = 0

    def on_event(self, event, view):
        if isinstance(event, Candle):
            side, qty = PLAN.get(self.state, ("", 0.0))
            self.state += 1
            if qty:
                yield view.market(event.symbol, side, qty)
'''


def bars(count: int) -> list[tuple[D, D, D, D]]:
    """Open, high, low, close on a grid of 0.1; an open is not the close before."""
    dice = random.Random(11)
    made, price = [], 30_000_0
    for _ in range(count):
        opened, price = price + dice.randint(-40, 40), price + dice.randint(-900, 900)
        high, low = max(opened, price) + dice.randint(0, 300), min(opened, price) - 50
        made.append(tuple(D(x) / 10 for x in (opened, high, low, price)))
    return made


def write(folder: Path, rows: list[tuple], plan: dict | None = None, name: str = "") -> Path:
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "planned.py").write_text(PLANNED.format(plan=plan or {}))
    path = folder / (name or "linear_BTCUSDT_1m.csv")
    lines = [f"{START_MS + n * MINUTE_MS},{o},{h},{low},{c},1.5" for n, (o, h, low, c) in rows]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def cents(number: object) -> D:
    return D(str(number)).quantize(D("0.01"))


# --- money ------------------------------------------------------------------------------------


def test_buy_and_hold_is_its_entry_its_fee_and_the_last_close(tmp_path):
    rows = bars(200)
    path = write(tmp_path, [*enumerate(rows)], {0: ("Buy", 0.5)})
    result = told(bot("backtest", path, "--json", cwd=tmp_path))
    entry = rows[1][0] * D("1.0005")
    fee = entry * D("0.5") * D("0.00055")
    expected = 10_000 + (rows[-1][3] - entry) * D("0.5") - fee
    assert (result["orders"], result["fills"]) == (1, 1)
    assert cents(result["equity"]) == cents(expected)
    assert cents(result["fees"]) == cents(fee)


def test_ten_trades_by_hand_agree_to_the_last_cent(tmp_path):
    rows = bars(60)
    dice = random.Random(3)
    plan = {n: (dice.choice(("Buy", "Sell")), dice.randint(1, 9) / 10) for n in range(2, 52, 5)}
    path = write(tmp_path, [*enumerate(rows)], plan)
    result = told(bot("backtest", path, "--json", cwd=tmp_path))
    cash = fees = held = D(0)  # no accounts, no average prices: only what was paid and is held
    for number, (side, coins) in plan.items():
        sign = 1 if side == "Buy" else -1
        price = rows[number + 1][0] * (1 + sign * D("0.0005"))
        cash -= sign * price * D(str(coins))
        held += sign * D(str(coins))
        fees += price * D(str(coins)) * D("0.00055")
    assert (len(plan), result["fills"]) == (10, 10)
    assert cents(result["equity"]) == cents(10_000 + cash + held * rows[-1][3] - fees)
    assert cents(result["fees"]) == cents(fees)
    report = told(bot("report", "--json", cwd=tmp_path))
    assert cents(report["metrics"]["final_equity"]) == cents(result["equity"])
    assert report["metrics"]["fills"] == 10


def test_two_runs_of_the_same_are_the_same_and_the_seed_is_told(tmp_path):
    path = write(tmp_path, [*enumerate(bars(50))], {3: ("Buy", 0.1), 9: ("Sell", 0.1)})
    first, second = (told(bot("backtest", path, "--seed", 5, "--json", cwd=tmp_path))
                     for _ in range(2))  # fmt: skip
    assert first["digest"] == second["digest"]
    found = told(bot("compare", first["run"], second["run"], "--json", cwd=tmp_path))
    (pair,) = found["pairs"]
    assert pair["first_divergence"] == "none: the facts are the same"
    assert (pair["same_orders"], pair["causes"]) == (2, {})
    third = told(bot("backtest", path, "--config", "config.yaml", "--json", cwd=tmp_path,
                     BOT__EXCHANGE__ORDER_LATENCY_MS="900"))  # fmt: skip
    found = told(bot("compare", first["run"], third["run"], "--json", cwd=tmp_path))
    (pair,) = found["pairs"]
    assert pair["first_divergence"].startswith("fact 1: ")
    assert pair["causes"] == {"latency": 2}
    assert "exchange.order_latency_ms" in pair["settings_that_differ"]


def test_a_report_is_one_file_that_needs_no_network(tmp_path):
    path = write(tmp_path, [*enumerate(bars(300))], {3: ("Buy", 0.1), 90: ("Sell", 0.1)})
    told(bot("backtest", path, "--json", cwd=tmp_path))
    result = bot("report", "--html", "report.html", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") >= 4
    assert not [word for word in ("http:", "https:", "src=", "<script") if word in page]
    assert "decisions on the close" in page


def test_decisions_do_not_change_when_the_future_is_cut_off(tmp_path):
    path = write(tmp_path, [*enumerate(bars(80))], {3: ("Buy", 0.1), 50: ("Sell", 0.1)})
    result = told(bot("backtest", path, "--check-lookahead", "--json", cwd=tmp_path))
    assert result["ok"]
    assert len(result["cuts"]) == 5
    assert not (tmp_path / "data").exists()


def test_a_start_lets_the_bars_before_pass_with_trading_paused(tmp_path):
    path = write(tmp_path, [*enumerate(bars(80))], {3: ("Buy", 0.1), 50: ("Buy", 0.1)})
    result = told(bot("backtest", path, "--from", "2025-01-01T00:30", "--to", "2025-01-01T01:10",
                      "--json", cwd=tmp_path))  # fmt: skip
    assert (result["orders"], result["fills"]) == (2, 1)


# --- a recorded run ---------------------------------------------------------------------------


@pytest.mark.parametrize("predictions", ["recorded", "chunked"])
def test_a_backtest_of_a_runs_journal_makes_the_runs_facts(recorded, tmp_path, predictions):
    db = f"sqlite:///{tmp_path}/again.db"
    result = told(bot("backtest", recorded.journal, "--predictions", predictions, "--db", db,
                      "--json", cwd=recorded.folder))  # fmt: skip
    assert result["of_run"] == recorded.summary["run"]
    for name in ("digest", "fills", "orders", "fees", "realized_pnl", "equity", "gaps"):
        assert result[name] == recorded.summary[name], name


# --- bad input --------------------------------------------------------------------------------


def test_files_that_are_no_whole_market_are_one_line(tmp_path):
    rows = [*enumerate(bars(30))]
    gapped = write(tmp_path, rows[:10] + rows[15:], {3: ("Buy", 0.1)})
    assert "was due (gap" in one_line(bot("backtest", gapped, cwd=tmp_path))
    unsorted = write(tmp_path, rows[:10] + rows[5:])
    assert "unsorted" in one_line(bot("backtest", unsorted, cwd=tmp_path))
    first = write(tmp_path, rows[:10], name="BTCUSDT_1_a.csv")
    second = write(tmp_path, rows[5:], name="BTCUSDT_1_b.csv")
    assert "overlap" in one_line(bot("backtest", first, second, cwd=tmp_path))
    empty = write(tmp_path, [])
    assert str(empty) in one_line(bot("backtest", empty, cwd=tmp_path))
    corrupt = write(tmp_path, rows)
    corrupt.write_text(corrupt.read_text().replace("1.5", "one", 1))
    assert "bad row" in one_line(bot("backtest", corrupt, cwd=tmp_path))
    assert "no such file" in one_line(bot("backtest", "nowhere.csv", cwd=tmp_path))


def test_a_hole_is_a_row_where_repair_is_asked_for(tmp_path):
    rows = [*enumerate(bars(30))]
    path = write(tmp_path, rows[:10] + rows[15:], {9: ("Buy", 0.1)})
    result = told(bot("backtest", path, "--repair", "--json", cwd=tmp_path))
    assert (result["gaps"], result["fills"]) == (1, 1)
    (gap,) = told(bot("gaps", "--json", cwd=tmp_path))
    assert gap["reason"] == "a bar is missing"
    assert gap["end_ts"] - gap["ts"] == 5 * MINUTE_MS * 10**6 - 1


def test_an_order_that_needs_no_time_is_refused_on_bars(tmp_path):
    path = write(tmp_path, [*enumerate(bars(30))])
    line = one_line(bot("backtest", path, cwd=tmp_path, BOT__EXCHANGE__ORDER_LATENCY_MS="0"))
    assert "order_latency_ms" in line
