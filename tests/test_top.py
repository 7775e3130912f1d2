"""`bot top`: one screen of a run."""

from __future__ import annotations

from rich.console import Console

from bot.top import screen_of
from tests.operate.test_metrics import made
from tests.processes import bot, one_line, told


def test_the_screen_has_money_positions_latencies_and_queues():
    console = Console(width=160, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(screen_of(made(untrained=["analyzer"], open_gaps=["linear:BTCUSDT"])))
    text = captured.get()
    for words in (
        "9999.00000001",
        "-0.5",
        "inference",
        "linear.1",
        "reducing",
        "UNTRAINED",
        "unknown now",
    ):
        assert words in text, words


def test_json_tells_the_ledgers_state_once(recorded):
    state = told(bot("top", "--json", cwd=recorded.folder))
    assert (state["run"], state["status"]) == (recorded.summary["run"], "finished")
    assert state["counts"]["fills"] == recorded.summary["fills"]
    assert state["money"]["realized_pnl"] == str(recorded.summary["realized_pnl"])


def test_an_address_that_is_none_or_does_not_answer_is_one_line(tmp_path):
    assert "no dashboard's address" in one_line(bot("top", "--url", "http://x/", cwd=tmp_path))
    nobody = "http://127.0.0.1:1/?token=secret-secret-secret"
    line = one_line(bot("top", "--url", nobody, cwd=tmp_path))
    assert "no dashboard answers" in line
    assert "secret" not in line
