"""Archives and downloads by command: from the files to the summary."""

from __future__ import annotations

import json

from tests.processes import ROOT, bot, one_line, told
from tests.venue.archive_files import (
    T0_MS,
    T0_S,
    book_zip,
    candle_rows,
    candle_table,
    linear_row,
    linear_trades,
    message,
    snapshot,
)
from tests.venue.real_data import real

LIGHT = ("torch", "pybit", "picows")
TRADER = """\
from bot.core.events import Trade


class Buyer:
    def __init__(self, symbols):
        self.state = 0

    def on_event(self, event, view):
        if isinstance(event, Trade) and not self.state:
            self.state = 1
            yield view.market(event.symbol, "Buy", 10.0)
"""
RULES = {
    "type": "Instrument", "ts": 1, "exchange_ts": 1, "symbol": "linear:XRPUSDT", "base": "XRP",
    "quote": "USDT", "tick_size": "0.0001", "qty_step": "0.1", "min_qty": "0.1",
    "min_notional": "5",
}  # fmt: skip


def trading(tmp_path) -> None:
    (tmp_path / "buyer.py").write_text(TRADER)
    (tmp_path / "config.yaml").write_text(
        "symbols: [linear:XRPUSDT]\nstrategies: [{use: buyer.Buyer}]\n"
        "exchange: {order_latency_ms: 10, response_latency_ms: 10, latency_jitter_ms: 0}\n"
    )


def day(tmp_path, *, is_gapped: bool = False):
    """An order book and its trades in a store's folders, with the rules beside them."""
    folder = tmp_path / "store" / "linear" / "XRPUSDT"
    (folder / "orderbook").mkdir(parents=True)
    lines = [snapshot(10, T0_MS), message(11, T0_MS + 100, asks=[("1.96", "30")]),
             message(13 if is_gapped else 12, T0_MS + 200)]  # fmt: skip
    book_zip(folder / "orderbook" / "2025-01-01_XRPUSDT_ob500.data.zip", *lines)
    linear_trades(
        folder / "trades" / "XRPUSDT2025-01-01.csv.gz",
        linear_row(f"{T0_S}.05", "Buy", "3", "1.96", "XRPUSDT"),
        linear_row(f"{T0_S}.15", "Sell", "3", "1.95", "XRPUSDT"),
    )
    (folder / "rules.json").write_text(json.dumps(RULES))
    return tmp_path / "store"


def test_a_strategy_trades_on_a_book_and_its_trades(tmp_path):
    trading(tmp_path)
    result = told(bot("replay", day(tmp_path), "--json", "--delay-ms", "5", cwd=tmp_path,
                      without=LIGHT, PYTHONPATH=f"{tmp_path}:{ROOT}"))  # fmt: skip
    # Decided at 50 + 5 ms, there at 65: still against the first book, 7 at 1.96.
    assert (result["orders"], result["fills"], result["gaps"]) == (1, 1, 0)
    assert (result["inputs"], result["frames"]) == (1 + 1 + 3 + 2, 0)


def test_files_are_named_one_by_one_and_merged(tmp_path):
    store = day(tmp_path)
    (book,) = store.rglob("*.zip")
    (trades,) = store.rglob("*.csv.gz")
    one = told(bot("replay", book, "--also", trades, "--json", cwd=tmp_path, without=LIGHT))
    other = told(bot("replay", store, "--json", cwd=tmp_path, without=LIGHT))
    assert {key: one[key] for key in ("inputs", "events", "digest")} == {
        key: other[key] for key in ("inputs", "events", "digest")
    }


def test_a_gap_is_one_clear_line_or_by_option_an_event(tmp_path):
    store = day(tmp_path, is_gapped=True)
    line = one_line(bot("replay", store, cwd=tmp_path, without=LIGHT))
    assert "2025-01-01_XRPUSDT_ob500.data.zip: line 3: u 13 after 11 (gap; --repair" in line
    result = bot("replay", store, "--repair", "--json", cwd=tmp_path, without=LIGHT)
    summary = told(result)
    assert (summary["gaps"], summary["repaired"]) == (1, {"gap": 1})


def test_candles_are_built_from_trades_on_request(tmp_path):
    rows = [linear_row(T0_S + n, "Buy", "1", "2") for n in range(0, 301, 10)]
    path = linear_trades(tmp_path / "t.csv.gz", *rows)
    result = told(bot("replay", path, "--build-candles", "1", "--json", cwd=tmp_path))
    assert result["inputs"] == 31 + 5
    wrong = bot("replay", path, "--build-candles", "7", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "want one of 1, 3, 5" in wrong.stderr.replace("\n", " ")


def test_a_journal_is_not_merged_with_archives(tmp_path):
    told(bot("record", "--venue", "local", "--for", "1s", "--out", "rec", "--json", cwd=tmp_path))
    path = candle_table(tmp_path / "BTCUSDT_1.csv.gz", candle_rows(3))
    line = one_line(bot("replay", "rec", "--also", path, cwd=tmp_path))
    assert "only archives are merged with others" in line


def test_the_real_ob500_file_replays_to_its_best_prices(tmp_path):
    path = real("bybit_archives/xrpusdt-ob500.data.zip")
    result = told(bot("replay", path, "--bbo", "best.csv", "--json", cwd=tmp_path, without=LIGHT))
    rows = (tmp_path / "best.csv").read_text().splitlines()
    assert (len(rows), result["gaps"]) == (51, 0)
    assert rows[1] == "XRPUSDT,linear,1733011200589,20254869,1.9531,6203,1.9532,10480"


def test_klines_and_rates_of_the_local_venue_come_into_the_store_once(tmp_path):
    words = ("download", "klines", "--venue", "local", "--symbol", "linear:BTCUSDT", "--interval",
             "5", "--from", "1d", "--store", "st", "--json")  # fmt: skip
    (first,) = told(bot(*words, cwd=tmp_path))
    assert 280 < first["rows"] <= 288
    assert (first["added"], first["missing"], first["gaps"]) == (first["rows"], 0, [])
    (second,) = told(bot(*words, cwd=tmp_path))
    assert second["added"] <= 1
    (funding,) = told(bot("download", "funding", "--venue", "local", "--symbol", "linear:BTCUSDT",
                          "--symbol", "spot:BTCUSDT", "--from", "2d", "--store", "st", "--json",
                          cwd=tmp_path))  # fmt: skip
    assert funding["series"] == "funding"
    assert funding["rows"] >= 5
    result = told(bot("replay", "st", "--json", cwd=tmp_path))
    assert result["inputs"] == 1 + second["rows"] + funding["rows"]


def test_times_and_intervals_that_are_none_are_usage_errors(tmp_path):
    for words in (("--from", "soon"), ("--interval", "7"), ("--from", "1d", "--to", "2d")):
        result = bot("download", "klines", *words, cwd=tmp_path)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr


def test_a_server_that_is_away_is_one_clear_line(tmp_path):
    line = one_line(bot("download", "klines", "--url", "http://127.0.0.1:9", cwd=tmp_path))
    assert "http://127.0.0.1:9 cannot be reached: Connection refused" in line
