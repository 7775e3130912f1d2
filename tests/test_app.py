"""Paper runs end to end: real processes, real sockets, real signals."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bot.ledger.runs import start_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from tests.builders import rules
from tests.conftest import TRADING
from tests.processes import Bot, bot, environment, one_line, told

NO_MODELS = {"BOT__MODELS__PREDICTOR__ENABLED": "false", "BOT__MODELS__ANALYZER__ENABLED": "false"}
QUOTING = """\
symbols: [linear:BTCUSDT]
strategies:
  - {use: strategies.market_maker.MarketMaker, params: {notional: 200, half_spread: 0.000001}}
"""
OPEN = {"Sent", "New", "PartiallyFilled"}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "config.yaml").write_text(TRADING)
    return tmp_path


# --- Ctrl-C ---------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_run_cleanly_and_prints_one_summary(recorded):
    summary = recorded.summary
    assert summary["clean"]
    assert summary["ended_by"] == "user: SIGINT"
    assert recorded.venue_was_gone
    assert "Traceback" not in recorded.errors
    (run,) = told(bot("runs", "--json", cwd=recorded.folder))
    assert (run["id"], run["status"]) == (summary["run"], "finished")
    assert (run["digest"], run["facts"]) == (summary["digest"], summary["facts"])
    assert run["ended_ts"] > run["started_ts"]


def test_no_order_is_left_open_at_the_end_of_a_run(recorded):
    orders = told(bot("orders", "--limit", 100_000, "--json", cwd=recorded.folder))
    assert len(orders) == recorded.summary["orders"]
    assert {"Cancelled", "Filled"} <= {order["status"] for order in orders}
    assert not [order for order in orders if order["status"] in OPEN]
    assert {order["strategy"] for order in orders} == {"threshold", "maker"}


def test_every_line_of_a_runs_log_has_its_id_and_says_untrained(recorded):
    lines = recorded.errors.splitlines()
    assert all(f"run={recorded.summary['run']}" in line for line in lines)
    assert sum("UNTRAINED" in line for line in lines) == 2
    assert recorded.summary["untrained"] == ["analyzer", "predictor"]


# --- what the venue does wrong ----------------------------------------------------------------


def test_every_lost_book_is_a_gap_with_its_reason_that_ends(recorded):
    gaps = told(bot("gaps", "--json", cwd=recorded.folder))
    assert len(gaps) == recorded.summary["gaps"]
    assert all(gap["end_ts"] > gap["ts"] for gap in gaps)
    assert Counter(re.sub(r"\d+", "N", gap["reason"]) for gap in gaps) == {
        "a frame could not be read": 3,
        "best bid above best ask": 1,
        "connection lost": 2,
        "gap in u: N after N": 1,
    }


def test_every_skipped_frame_is_one_line_of_the_log_and_counted(recorded):
    skipped = [line for line in recorded.errors.splitlines() if "skipped a frame" in line]
    assert len(skipped) == recorded.summary["skipped"] >= 4
    kinds = " ".join(skipped)
    for words in ("truncated", "mystery.1.XYZUSDT", "got `null`"):
        assert words in kinds


def test_trading_goes_on_after_every_fault(recorded):
    gaps = told(bot("gaps", "--json", cwd=recorded.folder))
    fills = told(bot("fills", "--limit", 100_000, "--json", cwd=recorded.folder))
    assert max(fill["ts"] for fill in fills) > max(gap["end_ts"] for gap in gaps)


# --- kill and restart -------------------------------------------------------------------------


def test_a_killed_run_goes_on_as_the_same_run_and_replays_to_its_digest(folder):
    with Bot(folder) as first:
        first.wait_for(lambda: len(first.rows("fills")) >= 3, "fills")
        first.kill()
    (before,) = first.rows("runs")
    assert before["status"] == "running"
    assert before["facts"] > 0
    with Bot(folder) as second:
        second.wait_for(
            lambda: (
                len(second.rows("fills")) >= 10
                and second.rows("runs")[0]["facts"] >= before["facts"] + 20
            ),
            "new facts of the old run",
        )
        assert first.venue_is_gone
        summary = second.end(signal.SIGTERM)
    assert "run continued" in second.errors
    assert summary["run"] == before["id"]
    assert summary["ended_by"] == "user: SIGTERM"
    (run,) = second.rows("runs")
    assert (run["status"], run["digest"]) == ("finished", summary["digest"])

    again = told(bot("replay", summary["journal"], "--predictions", "recompute", "--verify",
                     "--json", cwd=folder))  # fmt: skip
    assert again["verified"]
    assert again["digest"] == summary["digest"]
    assert again["recomputed"] > 0
    assert all(model["ok"] for model in again["deviation"].values()), again["deviation"]


def test_new_leaves_an_unfinished_run_behind_and_starts_another(folder):
    with Bot(folder, **NO_MODELS) as first:
        first.wait_for(lambda: first.rows("runs") and first.rows("fills"), "run with a fill")
        refused = bot("paper", "--venue", "local", "--new", cwd=folder, **NO_MODELS)
        assert "is under way in another process" in one_line(refused)
        first.kill()
    with Bot(folder, "--new", "--for", "1s", **NO_MODELS) as second:
        summary = second.summary()
    assert summary["ended_by"] == "time: 1 s are over"
    new, old = second.rows("runs")
    assert new["id"] == summary["run"] != old["id"]
    assert (new["status"], old["status"]) == ("finished", "failed")


def test_a_run_whose_venue_dies_says_so_and_fails(folder):
    with Bot(folder, **NO_MODELS) as running:
        running.wait_for(lambda: running.rows("runs"), "run")
        (venue,) = running.children()
        os.kill(venue, signal.SIGKILL)
        summary = running.summary(code=1)
    assert summary["ended_by"] == "venue: the local venue ended with code -9"
    assert not summary["clean"]
    assert running.rows("runs")[0]["status"] == "failed"
    assert "Traceback" not in running.errors


# --- without REST ---------------------------------------------------------------------------------

REST_IS_REFUSED = """
import sys
from contextlib import asynccontextmanager
from bot import local_venue

started = local_venue.started

@asynccontextmanager
async def without_rest(settings):
    async with started(settings) as venue:
        venue.urls = local_venue.Urls(venue.urls.ws, "http://127.0.0.1:9")
        yield venue

local_venue.started = without_rest
from bot.cli import main
sys.argv = ["bot", "paper", "--venue", "local", "--for", "3s", "--json"]
main()
"""
"""A paper run whose venue streams, and answers no question."""


def without_rest(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", REST_IS_REFUSED], cwd=folder, env=environment(**NO_MODELS),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


async def remember_rules(folder: Path, *symbols: str) -> None:
    """A ledger with an earlier run that the venue told these rules."""
    (folder / "data").mkdir()
    ledger = await open_ledger(f"sqlite:///{folder}/data/kvtrader.db")
    try:
        await start_run(ledger, "earlier", mode="backtest", instance="i", started_ts=1, config={},
                        code_version="x")  # fmt: skip
        writer = LedgerWriter(ledger, "earlier")
        for symbol in symbols:
            writer.add(0, rules(symbol, tick_size="0.1", qty_step="0.001", min_qty="0.001"), ())
        await writer.commit(None)
    finally:
        await ledger.dispose()


async def test_a_run_starts_with_the_rules_that_the_ledger_keeps_where_rest_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text(QUOTING)
    await remember_rules(tmp_path, "linear:BTCUSDT")
    ended = await asyncio.to_thread(without_rest, tmp_path)
    summary = told(ended)
    assert summary["clean"]
    assert summary["orders"] > 0
    (rules_line,) = [line for line in ended.stderr.splitlines() if "of an earlier run" in line]
    assert "Connection refused" in rules_line
    assert "what=clock" in ended.stderr
    assert "what='candles of linear:BTCUSDT'" in ended.stderr


async def test_a_run_without_rest_says_in_one_line_which_rules_are_missing(tmp_path):
    (tmp_path / "config.yaml").write_text(QUOTING)
    await remember_rules(tmp_path, "linear:ETHUSDT")
    line = one_line(await asyncio.to_thread(without_rest, tmp_path))
    assert line == (
        "error: no rules of linear:BTCUSDT are kept from an earlier run, and "
        "http://127.0.0.1:9 cannot be reached: Connection refused."
    )
