"""Paper runs end to end: real processes, real sockets, real signals."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import TRADING
from tests.processes import Bot, bot, one_line, told

NO_MODELS = {"BOT__MODELS__PREDICTOR__ENABLED": "false", "BOT__MODELS__ANALYZER__ENABLED": "false"}
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
