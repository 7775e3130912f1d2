"""Backtests: exact money, the same fills as live, nothing of the future, one line for bad input.

They run in this process; exit codes and output are those of a process as a person starts it.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bot import backtest, backtest_market, config, lookahead, replay
from bot.core.errors import PlainError
from bot.core.events import Candle
from bot.ledger import queries, reading
from bot.model import ChunkedStream
from bot.research import compare, report, report_page
from bot.venue.archive_feed import ArchiveOptions
from tests.processes import bot, one_line, told
from tests.venue.real_data import real

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
log: {level: error}
"""
HALF = D("0.0005")
TAKER = D("0.00055")


class Planned:
    """Orders at the closes of given bars: number of the bar to (side, coins)."""

    def __init__(self, symbols, plan):
        self.state = 0
        self._plan = {int(bar): order for bar, order in plan.items()}

    def on_event(self, event, view):
        if isinstance(event, Candle):
            order = self._plan.get(self.state)
            self.state += 1
            if order:
                yield view.market(event.symbol, *order)


class Momentum:
    """``coins`` long where the close is above that of ``bars`` before, short where it is below."""

    def __init__(self, symbols, bars=20, coins=0.05):
        self.state: dict[str, list[float]] = {symbol: [] for symbol in symbols}
        self._bars, self._coins = bars, coins

    def on_event(self, event, view):
        if not isinstance(event, Candle):
            return
        closes = self.state[event.symbol]
        closes.append(float(event.close))
        if len(closes) <= self._bars or closes[-1] == closes[-1 - self._bars]:
            return
        target = self._coins if closes[-1] > closes[-1 - self._bars] else -self._coins
        change = target - view.position(event.symbol)
        if abs(change) > 1e-9:
            yield view.market(event.symbol, "Buy" if change > 0 else "Sell", abs(change))


class Cheat:
    """Reads the bars to come from the file itself."""

    def __init__(self, symbols, path, when="at the start"):
        self.state = 0
        self._path = path
        self._closes = self._read() if when == "at the start" else []

    def _read(self):
        return [float(line.split(",")[4]) for line in Path(self._path).read_text().split()[1:]]

    def on_event(self, event, view):
        if isinstance(event, Candle):
            self._closes = self._closes or self._read()
            self.state += 1
            if self.state < len(self._closes) and not view.position(event.symbol):
                is_up = self._closes[self.state] > float(event.close)
                yield view.market(event.symbol, "Buy" if is_up else "Sell", 0.1)


def bars(count: int) -> list[tuple[D, D, D, D]]:
    """Open, high, low, close on a grid of 0.1; an open is not the close before."""
    dice = random.Random(11)
    made, price = [], 30_000_0
    for _ in range(count):
        opened, price = price + dice.randint(-40, 40), price + dice.randint(-900, 900)
        high, low = max(opened, price) + dice.randint(0, 300), min(opened, price) - 50
        made.append(tuple(D(x) / 10 for x in (opened, high, low, price)))
    return made


def write(folder: Path, rows: list[tuple], name: str = "linear_BTCUSDT_1m.csv") -> Path:
    path = folder / name
    lines = [f"{START_MS + n * MINUTE_MS},{o},{h},{low},{c},1.5" for n, (o, h, low, c) in rows]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def planned(plan: dict[int, tuple[str, float]]) -> dict[str, Any]:
    params = {"plan": {str(bar): list(order) for bar, order in plan.items()}}
    return {"use": f"{__name__}.Planned", "params": params}


def settings(folder: Path, *strategies: dict[str, Any], **changes: Any) -> config.Settings:
    raw = yaml.safe_load(CONFIG) | {"strategies": list(strategies), **changes}
    raw["ledger"] = {"db": f"sqlite:///{folder}/test.db"}
    return config.parse(raw, "test")


def ran(
    folder: Path,
    paths: Path | list[Path],
    *strategies: dict[str, Any],
    repair: bool = False,
    start: str = "",
    end: str = "",
    progress: Callable[[Any], None] | None = None,
    predictions: Any = None,
    symbols: tuple[str, ...] = (),
    **changes: Any,
) -> dict[str, Any]:
    options = backtest_market.BacktestOptions(
        paths=tuple(paths) if isinstance(paths, list) else (paths,),
        symbols=symbols,
        start_ns=_ns(start),
        end_ns=_ns(end),
        predictions=predictions,
        archive=ArchiveOptions(repair=repair),
    )
    chosen = settings(folder, *strategies, **changes)
    return backtest.backtest(chosen, options, is_chosen=bool(strategies), progress=progress)


def _ns(text: str) -> int | None:
    return (
        round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9
        if text
        else None
    )


def asked(folder: Path, question: Callable, *args: Any, **only: Any) -> Any:
    return reading.read(f"sqlite:///{folder}/test.db", question, *args, **only)


def cents(number: object) -> D:
    return D(str(number)).quantize(D("0.01"))


# --- money ------------------------------------------------------------------------------------


def test_buy_and_hold_is_its_entry_its_fee_and_the_last_close(tmp_path):
    rows = bars(200)
    result = ran(tmp_path, write(tmp_path, [*enumerate(rows)]), planned({0: ("Buy", 0.5)}))
    entry = rows[1][0] * (1 + HALF)
    fee = entry * D("0.5") * TAKER
    expected = 10_000 + (rows[-1][3] - entry) * D("0.5") - fee
    assert (result["orders"], result["fills"]) == (1, 1)
    assert cents(result["equity"]) == cents(expected)
    assert cents(result["fees"]) == cents(fee)


def test_ten_trades_by_hand_agree_to_the_last_cent(tmp_path):
    rows = bars(60)
    dice = random.Random(3)
    plan = {n: (dice.choice(("Buy", "Sell")), dice.randint(1, 9) / 10) for n in range(2, 52, 5)}
    result = ran(tmp_path, write(tmp_path, [*enumerate(rows)]), planned(plan))
    cash = fees = held = D(0)  # no accounts, no average prices: only what was paid and is held
    for number, (side, coins) in plan.items():
        sign = 1 if side == "Buy" else -1
        price = rows[number + 1][0] * (1 + sign * HALF)
        cash -= sign * price * D(str(coins))
        held += sign * D(str(coins))
        fees += price * D(str(coins)) * TAKER
    assert (len(plan), result["fills"]) == (10, 10)
    assert cents(result["equity"]) == cents(10_000 + cash + held * rows[-1][3] - fees)
    assert cents(result["fees"]) == cents(fees)
    told_ = asked(tmp_path, report.gather)
    assert cents(told_["metrics"]["final_equity"]) == cents(result["equity"])
    assert told_["metrics"]["fills"] == 10


def vectorized(
    o: Any, c: Any, rates: Any, bars: int, coins: float, *, decides_last: bool
) -> tuple[float, float, int]:
    """Equity gained, fees and trades of Momentum over arrays, without orders, books or accounts.

    ``rates`` [n] is the funding rate settled at each bar's close, 0 for none; ``decides_last``
    says that the last close is seen, too, and what it decides is done at its price.
    """
    sign = np.zeros(len(c))
    sign[bars:] = np.sign(c[bars:] - c[:-bars])
    last = np.maximum.accumulate(np.where(sign != 0, np.arange(len(c)), 0))
    target = sign[last] * coins  # wanted at each close
    held = np.concatenate(([0.0], target[:-1]))  # during each bar
    target[-1] = target[-1] if decides_last else held[-1]
    traded = np.append(np.diff(held, prepend=0.0), target[-1] - held[-1])  # at each open
    price = np.append(o, c[-1]) * (1 + np.sign(traded) * float(HALF))  # the last at the end
    fees = np.sum(np.abs(traded) * price) * float(TAKER)
    funding = np.sum(held * c * rates)
    gained = target[-1] * c[-1] - np.sum(traded * price) - fees - funding
    return float(gained), float(fees), int(np.count_nonzero(traded))


def check_vectorized(
    folder: Path, files: list[Path], tables: list[Any], coins: float, **changes: Any
) -> int:
    decides_last = "end" not in changes
    strategy = {"use": f"{__name__}.Momentum", "params": {"coins": coins}}
    result = ran(folder, files, strategy, **changes)
    each = [vectorized(*table, 20, coins, decides_last=decides_last) for table in tables]
    gained, fees, trades = (sum(column) for column in zip(*each, strict=True))
    assert result["fills"] == trades
    assert cents(result["equity"]) == cents(10_000 + gained)
    assert cents(result["fees"]) == cents(fees)
    return trades


def test_a_vectorized_computation_of_the_same_strategy_agrees_to_the_last_cent(tmp_path):
    rows = bars(400)
    table = np.array([[float(x) for x in row] for row in rows])
    path = write(tmp_path, [*enumerate(rows)])
    trades = check_vectorized(
        tmp_path, [path], [(table[:, 0], table[:, 3], np.zeros(len(table)))], 0.5
    )
    assert trades > 20


def test_on_real_candles_of_two_symbols_with_funding_it_agrees_as_well(tmp_path):
    files, tables, first = [], [], 1_748_736_000_000
    for name in ("BTC", "ETH"):
        files += [real(f"bybit_candles/linear_{name}USDT_{kind}.csv.gz")
                  for kind in ("15m", "funding8h")]  # fmt: skip
        candles, funding = (np.loadtxt(path, delimiter=",", skiprows=1) for path in files[-2:])
        last = first + 10 * 86_400_000
        closed = candles[:, 0] + 900_000  # a bar is of the time at which it closes
        kept = candles[(closed >= first) & (closed <= last)]
        rates = dict(zip(funding[:, 0], funding[:, 1], strict=True))
        by_bar = np.array([rates.get(ts + 900_000, 0.0) for ts in kept[:, 0]])
        by_bar[-1] = 0.0  # the run ends before it
        tables.append((kept[:, 1], kept[:, 4], by_bar))
        assert np.count_nonzero(by_bar) > 25
    trades = check_vectorized(
        tmp_path, files, tables, 0.05, start="2025-06-01", end="2025-06-11",
        backtest={"candle_spread": 0.001, "warmup_candles": 0},
        symbols=("linear:BTCUSDT", "linear:ETHUSDT"),
    )  # fmt: skip
    assert trades > 100


# --- runs -------------------------------------------------------------------------------------


def test_two_runs_of_the_same_are_the_same_and_what_differs_is_told(tmp_path):
    path = write(tmp_path, [*enumerate(bars(50))])
    plan = planned({3: ("Buy", 0.1), 9: ("Sell", 0.1)})
    seeded = {"exchange": {"seed": 5}}
    first, second = (ran(tmp_path, path, plan, **seeded) for _ in range(2))
    assert first["digest"] == second["digest"]
    (pair,) = asked(tmp_path, compare.compare, (first["run"], second["run"]))["pairs"]
    assert pair["first_divergence"] == "none: the facts are the same"
    assert (pair["same_orders"], pair["causes"]) == (2, {})
    third = ran(tmp_path, path, plan, exchange={"seed": 5, "order_latency_ms": 900})
    other = ran(tmp_path, path, plan, exchange={"seed": 6})
    assert other["digest"] != first["digest"]
    (pair,) = asked(tmp_path, compare.compare, (first["run"], third["run"]))["pairs"]
    assert pair["first_divergence"].startswith("fact 1: ")
    assert pair["causes"] == {"latency": 2}
    assert "exchange.order_latency_ms" in pair["settings_that_differ"]
    assert asked(tmp_path, report.gather, first["run"])["variants"]["tried"] == 0  # under a day


def test_several_variants_of_one_input_deflate_the_sharpe_ratio(tmp_path):
    path = write(tmp_path, [(n * 240, row) for n, row in enumerate(bars(40))],
                 name="linear_BTCUSDT_4h.csv")  # fmt: skip
    for coins in (0.1, 0.2, -0.1):
        side = "Buy" if coins > 0 else "Sell"
        ran(tmp_path, path, planned({1: (side, abs(coins)), 9: (side, 0.1)}))
    variants = asked(tmp_path, report.gather)["variants"]
    assert variants["tried"] == 3
    assert 0 <= variants["deflated_sharpe"] <= 1


def test_shadow_policies_give_the_report_a_range(tmp_path):
    path = write(tmp_path, [*enumerate(bars(50))])
    ran(tmp_path, path, planned({3: ("Buy", 0.1)}),
        exchange={"policies": ["conservative", "none"]})  # fmt: skip
    rows = asked(tmp_path, report.gather)["policies"]
    assert [row["policy"] for row in rows] == ["conservative", "none"]
    assert len({cents(row["equity"]) for row in rows}) == 1  # takers only: no queue


def test_ctrl_c_leaves_a_run_that_can_be_reported(tmp_path):
    path = write(tmp_path, [*enumerate(bars(2_000))])

    seen: list[int] = []

    def interrupted(at: Any) -> None:
        seen.append(at.inputs)
        if sum(inputs >= 2_000 for inputs in seen) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    result = ran(tmp_path, path, planned({3: ("Buy", 0.1)}), progress=interrupted)
    assert result["ended_by"] == "user: SIGINT"
    assert 2_000 <= result["inputs"] < 4_000
    row = asked(tmp_path, queries.run)
    assert (row["status"], row["facts"]) == ("finished", result["facts"])
    assert len(asked(tmp_path, queries.fills)) == result["fills"] == 1
    told_ = asked(tmp_path, report.gather)
    assert any("user: SIGINT" in note for note in told_["notes"])
    assert cents(told_["metrics"]["final_equity"]) == cents(result["equity"])


def test_a_report_is_one_file_that_needs_no_network(tmp_path):
    path = write(tmp_path, [*enumerate(bars(300))])
    ran(tmp_path, path, planned({3: ("Buy", 0.1), 90: ("Sell", 0.1)}))
    page = report_page.page(asked(tmp_path, report.gather))
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") >= 4
    assert not [word for word in ("http:", "https:", "src=", "<script") if word in page]
    assert "decisions on the close" in page
    assert "the stop is first" in page


def test_a_start_lets_the_bars_before_pass_with_trading_paused(tmp_path):
    path = write(tmp_path, [*enumerate(bars(80))])
    result = ran(tmp_path, path, planned({3: ("Buy", 0.1), 50: ("Buy", 0.1)}),
                 start="2025-01-01T00:30", end="2025-01-01T01:10")  # fmt: skip
    assert (result["orders"], result["fills"]) == (2, 1)


# --- the future -------------------------------------------------------------------------------


def checked(folder: Path, path: Path, strategy: dict[str, Any], **changes: Any) -> dict[str, Any]:
    options = backtest_market.BacktestOptions(paths=(path,))
    return lookahead.check(settings(folder, strategy, **changes), options, is_chosen=True)


def test_decisions_do_not_change_when_the_future_is_cut_off(tmp_path):
    path = write(tmp_path, [*enumerate(bars(80))])
    result = checked(tmp_path, path, planned({3: ("Buy", 0.1), 50: ("Sell", 0.1)}))
    assert result["ok"]
    assert len(result["cuts"]) == 5
    assert not (tmp_path / "test.db").exists()


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_strategy_that_reads_the_input_by_itself_is_caught(tmp_path, when):
    path = write(tmp_path, [*enumerate(bars(80))])
    cheat = {"use": f"{__name__}.Cheat", "params": {"path": str(path), "when": when}}
    result = checked(tmp_path, path, cheat)
    assert not result["ok"]
    assert (result["strategy"], result["opened"]) == (__name__, str(path))
    copy = tmp_path / "notes.csv"  # its own file is its own affair
    copy.write_text(path.read_text())
    cheat["params"]["path"] = str(copy)
    assert checked(tmp_path, path, cheat)["ok"]


class Hindsight:
    """A model's stream that answers each token with what it says of the next one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = ChunkedStream.advance

        def advance(stream: ChunkedStream, tokens: list[Any]) -> list[Any]:
            said = honest(stream, tokens)
            return [*said[1:], *said[-1:]]

        monkeypatch.setattr(ChunkedStream, "advance", advance)


@pytest.mark.parametrize("cheats", [False, True])
def test_a_model_that_has_read_the_next_bar_is_caught(tmp_path, monkeypatch, cheats):
    path = write(tmp_path, [*enumerate(bars(120))])
    if cheats:
        Hindsight(monkeypatch)
    result = checked(
        tmp_path, path,
        {"use": "strategies.threshold.Threshold", "params": {"edge": -0.1, "notional": 900}},
        models={"predictor": {"window": 32, "checkpoint": None}, "analyzer": {"enabled": False}},
    )  # fmt: skip
    assert result["facts"] > 20
    assert result["ok"] is not cheats
    assert cheats == ("with_the_future" in result)


# --- a recorded run ---------------------------------------------------------------------------


def test_a_paper_run_its_replay_and_its_backtest_fill_the_same(recorded, tmp_path):
    """The market of the journal, with the latencies that were recorded in it."""
    journal, paper = recorded.journal, recorded.summary
    again = replay.replay(journal, settings(tmp_path), replay.ReplayOptions())
    rows = reading.read(f"sqlite:///{recorded.folder}/data/kvtrader.db", queries.fills)
    assert len(rows) == paper["fills"] >= 30
    for predictions in ("recorded", "chunked"):
        result = ran(tmp_path, journal, predictions=predictions)
        assert result["of_run"] == paper["run"]
        for name in ("digest", "fills", "orders", "fees", "realized_pnl", "equity", "gaps"):
            assert str(result[name]) == str(again[name]) == str(paper[name]), name
        assert asked(tmp_path, queries.fills) == rows
    found = asked(tmp_path, report.gather)
    assert found["run"]["mode"] == "backtest"


# --- bad input --------------------------------------------------------------------------------


def damaged(folder: Path) -> Iterator[tuple[str, list[Path], str]]:
    rows = [*enumerate(bars(30))]
    yield "gapped", [write(folder, rows[:10] + rows[15:])], "was due (gap"
    yield "unsorted", [write(folder, rows[:10] + rows[5:])], "unsorted"
    halves = rows[:10], rows[5:]
    yield "overlapping", [write(folder, half, name=f"BTCUSDT_1_{n}.csv")
                          for n, half in enumerate(halves)], "overlap"  # fmt: skip
    yield "empty", [write(folder, [])], "linear_BTCUSDT_1m.csv"
    corrupt = write(folder, rows)
    corrupt.write_text(corrupt.read_text().replace("1.5", "one", 1))
    yield "corrupt", [corrupt], "bad row"
    torn = folder / "BTCUSDT_1_torn.csv.gz"
    torn.write_bytes(b"\x1f\x8b\x08\x00 no more than a head")
    yield "torn", [torn], "BTCUSDT_1_torn.csv.gz"
    yield "absent", [folder / "nowhere.csv"], "no such file"


def test_files_that_are_no_whole_market_are_one_line(tmp_path):
    for name, paths, expected in damaged(tmp_path):
        with pytest.raises(PlainError) as caught:
            ran(tmp_path, paths, planned({3: ("Buy", 0.1)}))
        assert expected in str(caught.value), name
        assert "\n" not in str(caught.value), name


def test_a_hole_is_a_row_where_repair_is_asked_for(tmp_path):
    rows = [*enumerate(bars(30))]
    path = write(tmp_path, rows[:10] + rows[15:])
    result = ran(tmp_path, path, planned({9: ("Buy", 0.1)}), repair=True)
    assert (result["gaps"], result["fills"]) == (1, 1)
    (gap,) = asked(tmp_path, queries.gaps)
    assert gap["reason"] == "a bar is missing"
    assert gap["end_ts"] - gap["ts"] == 5 * MINUTE_MS * 10**6 - 1


def test_an_order_that_needs_no_time_is_refused_on_bars(tmp_path):
    path = write(tmp_path, [*enumerate(bars(30))])
    with pytest.raises(PlainError, match="order_latency_ms"):
        ran(tmp_path, path, planned({}), exchange={"order_latency_ms": 0})


def test_the_verbs_say_it_to_a_person_and_end_with_the_right_code(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    rows = [*enumerate(bars(30))]
    gapped = write(tmp_path, rows[:10] + rows[15:])
    assert "was due (gap" in one_line(bot("backtest", gapped, cwd=tmp_path))
    strategy = ("--strategy", f"{__name__}.Momentum", "--param", "bars=3", "--param", "coins=0.5")
    result = told(bot("backtest", gapped, "--repair", *strategy, "--json", cwd=tmp_path))
    assert result["gaps"] == 1
    assert result["fills"] > 0
    checked_ = told(bot("db", "check", "--json", cwd=tmp_path))
    assert all(each["ok"] for each in checked_), checked_
    shown = bot("report", "--html", "report.html", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
