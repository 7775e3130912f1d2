"""The daily report on paper."""

from __future__ import annotations

import json

from bot.operate.daily import text, write

REPORT = {
    "run": "r1", "start_ts": 1, "end_ts": 2, "net_pnl": "1.5", "realized_pnl": "2", "fees": "0.5",
    "funding": "0", "turnover": "100", "equity_start": None, "equity_end": "10", "drawdown": "0",
    "orders": 7, "fills": 1, "maker_fills": 1, "refusals": 0, "rejections": 0, "liquidations": 0,
    "predictions": 9, "commands": 0, "gaps": 1, "gap_s": 0.5,
    "gaps_by_symbol": [{"symbol": "linear:BTCUSDT", "gaps": 3, "seconds": 0.5, "longest_s": 0.25,
                        "reasons": {"gap": 1, "stale": 2}}],
    "symbols": [{"symbol": "linear:BTCUSDT", "fills": 1, "realized_pnl": "2", "fees": "0.5",
                 "funding": "0", "turnover": "100", "maker_fills": 1, "position": "0.1"}],
}  # fmt: skip


def test_every_figure_is_in_the_text():
    lines = text("2026-11-23", REPORT).splitlines()
    assert lines[0] == "2026-11-23 UTC, run r1"
    assert "  net pnl        1.5" in lines
    assert "  equity start   -" in lines
    assert lines[-4].split() == ["linear:BTCUSDT", "1", "2", "0.5", "0", "0.1"]
    assert lines[-2].split() == ["symbol", "gaps", "seconds", "longest", "s", "reasons"]
    assert lines[-1].split(maxsplit=4) == ["linear:BTCUSDT", "3", "0.5", "0.25", "1 gap, 2 stale"]


def test_the_newest_days_stay_in_both_forms(tmp_path):
    other = tmp_path / "notes.txt"
    other.touch()
    for day in range(1, 5):
        path = write(tmp_path, f"2026-11-0{day}", REPORT, keep=2)
    assert path.read_text() == text("2026-11-04", REPORT)
    assert json.loads(path.with_suffix(".json").read_text()) == REPORT
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "2026-11-03.json", "2026-11-03.txt", "2026-11-04.json", "2026-11-04.txt", "notes.txt",
    ]  # fmt: skip
