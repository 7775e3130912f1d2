"""The command line as tools rely on it: help, JSON, exit codes, one line for what goes wrong."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer

from bot.cli import app, main
from bot.cli_options import seconds
from bot.config import default_config_path
from bot.ledger.database import REVISIONS
from tests.processes import ROOT, bot, environment, free_port, one_line, told

LIGHT = ("torch", "pybit", "picows")
LISTS = ("runs", "orders", "fills", "positions", "pnl", "gaps")


def verbs(command: Any, *path: str) -> dict[str, Any]:
    """Every verb by the words that call it."""
    inside = getattr(command, "commands", None)
    if inside is None:
        return {" ".join(path): command}
    found = {}
    for name, inner in inside.items():
        found |= verbs(inner, *path, name)
    return found


VERBS = verbs(typer.main.get_command(app))


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """``bot`` in this process, for what says its word at once."""

    def calling(*words: object, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["bot", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        output, errors = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, output, errors)

    return calling


# --- help -----------------------------------------------------------------------------------------


DOWNLOADS = ("klines", "funding", "rules", "trades", "orderbook")


def test_the_verbs_are_those_of_the_design():
    assert set(VERBS) == {"init", "paper", "replay", "venue", "scenarios", *LISTS,
                           "db upgrade", "db check", "db export", "explain", "bench ledger",
                           "bench operate", "bench backtest",
                           "bench feed", "bench replay", "bench decode",
                           "bench cache", "bench predict", "evaluate", "record", "doctor",
                           "config show", "config check", "config reference", "dashboard", "top",
                           "train candles", "train book", "train prepared", "train shipped",
                           "models list", "models show", "models activate",
                           "models evaluate", "models retrain", "models switches", "mqtt send",
                           "backtest", "report", "compare",
                          *(f"download {kind}" for kind in DOWNLOADS)}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_that_calls_it(verb):
    text = VERBS[verb].help or ""
    assert re.search(rf"Examples?: `bot {verb}", text), text


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_option_is_explained(verb):
    undocumented = [parameter.name for parameter in VERBS[verb].params
                    if not getattr(parameter, "hidden", False) and not parameter.help]  # fmt: skip
    assert undocumented in ([], ["help"])


def test_help_is_quick_and_needs_no_model_and_no_venue(tmp_path):
    result = bot("paper", "--help", cwd=tmp_path, without=(*LIGHT, "sqlalchemy", "aiohttp"))
    assert result.returncode == 0
    assert "--venue" in result.stdout
    assert "Examples: bot paper" in result.stdout


def test_no_verb_is_a_wrong_call(call):
    assert call().returncode == 2
    assert call("fly").returncode == 2


# --- init and the config ----------------------------------------------------------------------


def test_init_writes_the_commented_config_and_overwrites_none(call, tmp_path):
    assert bot("init", cwd=tmp_path, without=LIGHT).returncode == 0
    written = tmp_path / "config.yaml"
    assert written.read_bytes() == default_config_path().read_bytes()
    assert "config.yaml exists" in one_line(call("init"))
    written.write_text("mine")
    assert call("init", "--force").returncode == 0
    assert written.read_text() != "mine"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("feed: {depht: 50}", "unknown key 'feed.depht'"),
        ("risk: {max_daily_loss: lots}", "risk.max_daily_loss = 'lots'"),
        ("a: [1", "not valid YAML"),
    ],
)
@pytest.mark.parametrize("verb", ["paper", "replay x", "fills"])
def test_a_config_with_a_typo_is_one_clear_line_for_every_verb_that_reads_it(
    call, tmp_path, verb, text, says
):
    (tmp_path / "config.yaml").write_text(text)
    line = one_line(call(*verb.split()))
    assert line.startswith("error: config.yaml: ")
    assert says in line


def test_a_strategy_that_cannot_be_loaded_is_one_clear_line(tmp_path):
    (tmp_path / "config.yaml").write_text("strategies: [{use: nowhere.Nothing}]")
    line = one_line(bot("paper", "--venue", "local", cwd=tmp_path))
    assert line == ("error: strategy 'nowhere.Nothing': no module 'nowhere' here or on the "
                    "Python path")  # fmt: skip


def test_a_config_that_is_not_there_is_one_clear_line(call):
    line = one_line(call("paper", "--config", "no.yaml"))
    assert line == "error: no.yaml: cannot be read: No such file or directory"


@pytest.mark.parametrize("time", ["soon", "-1", "10x", ""])
def test_a_time_that_is_none_is_a_wrong_call(time):
    with pytest.raises(typer.BadParameter, match="is no time: write 90s, 10m, 2h or 7d"):
        seconds(time)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("7d", 604_800)],
)
def test_a_time_is_written_with_its_unit(text, expected):
    assert seconds(text) == expected


# --- venues ---------------------------------------------------------------------------------------


def test_a_venue_that_cannot_be_reached_names_the_local_one(tmp_path):
    nowhere = f"http://127.0.0.1:{free_port()}"
    line = one_line(bot("paper", cwd=tmp_path, HTTPS_PROXY=nowhere, https_proxy=nowhere))
    assert "https://api.bybit.com cannot be reached" in line
    assert line.endswith("bot paper --venue local")


def test_a_port_in_use_is_one_clear_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = one_line(bot("venue", "--port", port, cwd=tmp_path))
        assert f"{port}: the address is already in use; choose another port, or 0" in line
        run = bot("paper", "--venue", "local", cwd=tmp_path, BOT__LOCAL_VENUE__PORT=str(port))
    assert run.returncode == 2
    assert "the local venue cannot be reached: it did not start" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("wrong", [("--port", "70000"), ("--events-per-s", "0")])
def test_a_venue_that_cannot_be_is_a_wrong_call(call, wrong):
    result = call("venue", *wrong)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("wrong", "says"), [(("--symbol", "BTC"), "BTC"), (("--capture", "no.zst"), "no.zst")]
)
def test_a_venue_of_nothing_is_one_clear_line(call, wrong, says):
    assert says in one_line(call("venue", "--port", 0, *wrong))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_venues_first_line_says_where_it_serves_what_bybit_serves(tmp_path, number):
    with subprocess.Popen(
        [sys.executable, "-m", "bot", "venue", "--port", "0", "--json"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        urls = json.loads(process.stdout.readline())
        assert set(urls) == {"ws", "rest"}
        port = urls["rest"].removeprefix("http://127.0.0.1:")
        assert urls["ws"] == f"ws://127.0.0.1:{port}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for category in ("linear", "spot"):
            path = f"/v5/market/instruments-info?category={category}"
            with opener.open(urls["rest"] + path, timeout=10) as answer:
                listed = json.load(answer)["result"]["list"]
            assert [entry["symbol"] for entry in listed] == ["BTCUSDT", "ETHUSDT"]
        process.send_signal(number)
        rest, errors = process.communicate(timeout=30)
        assert (process.returncode, rest, errors) == (0, "", "")


# --- reading verbs --------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", LISTS)
def test_a_reading_verb_prints_one_array_of_objects_or_a_table(recorded, call, verb):
    rows = told(call(verb, "--json", cwd=recorded.folder))
    assert rows
    assert all(isinstance(row, dict) for row in rows)
    table = call(verb, cwd=recorded.folder)
    assert table.returncode == 0
    assert len(table.stdout.splitlines()) > 3


@pytest.mark.parametrize("verb", ["runs", "fills"])
def test_a_reading_verb_needs_no_model_and_no_venue(recorded, verb):
    assert told(bot(verb, "--json", cwd=recorded.folder, without=(*LIGHT, "aiohttp", "alembic")))


def test_a_list_is_as_long_as_asked_and_of_the_symbol_asked(recorded, call):
    words = ("fills", "--limit", 2, "--symbol", "linear:ETHUSDT", "--json")
    fills = told(call(*words, cwd=recorded.folder))
    assert 1 <= len(fills) <= 2
    assert {fill["symbol"] for fill in fills} == {"linear:ETHUSDT"}


def test_money_in_json_is_exact(recorded, call):
    (*symbols, total) = told(call("pnl", "--json", cwd=recorded.folder))
    assert [row["symbol"] for row in (*symbols, total)] == [
        "linear:BTCUSDT", "linear:ETHUSDT", "total",
    ]  # fmt: skip
    for name in ("realized_pnl", "fees", "funding"):
        assert sum(Decimal(row[name]) for row in symbols) == Decimal(total[name])
        assert Decimal(str(recorded.summary[name])) == Decimal(total[name])


def test_an_unknown_run_is_one_clear_line(recorded, call):
    for verb in sorted(set(LISTS) - {"runs"}):
        line = one_line(call(verb, "--run", "nosuchrun", cwd=recorded.folder))
        assert "nosuchrun" in line


@pytest.mark.parametrize("verb", LISTS)
def test_a_ledger_that_is_not_there_is_one_clear_line_and_is_not_made(call, tmp_path, verb):
    line = one_line(call(verb))
    assert line == ("error: data/kvtrader.db: no such ledger; name one with --db, or run "
                    "`bot paper` first")  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_a_newer_version_is_one_clear_line_for_every_verb(call, tmp_path):
    assert call("db", "upgrade").stdout == f"schema is at {REVISIONS[-1]}\n"
    with sqlite3.connect(tmp_path / "data" / "kvtrader.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    paper = bot("paper", "--venue", "local", cwd=tmp_path)
    for result in (call("fills"), call("db", "upgrade"), paper):
        line = one_line(result)
        assert "has schema '9999', newer than this program knows" in line
        assert "upgrade kvtrader or use another --db" in line


def test_a_database_that_no_ledger_can_be_kept_in_is_one_clear_line(call):
    line = one_line(call("fills", "--db", "mysql://u:secret@h/n"))
    assert "no ledger can be kept in 'mysql'" in line
    assert "secret" not in line


# --- scenarios and benches --------------------------------------------------------------------


def test_scenarios_that_pass_are_counted(tmp_path):
    folder = ROOT / "tests" / "scenarios"
    if not folder.is_dir():
        pytest.skip("no scenarios in tests/scenarios")
    result = told(bot("scenarios", folder, "--json", cwd=tmp_path, without=LIGHT))
    assert result == {"passed": len(list(folder.glob("*.yaml"))), "failed": []}


def test_a_scenario_with_another_outcome_fails_by_name(tmp_path):
    source = ROOT / "tests" / "scenarios" / "06-ioc-takes-what-is-shown.yaml"
    if not source.is_file():
        pytest.skip("no scenarios in tests/scenarios")
    shutil.copy(source, tmp_path / "one.yaml")
    text = (tmp_path / "one.yaml").read_text()
    (tmp_path / "one.yaml").write_text(text.replace('position: "100"', 'position: "99"'))
    result = bot("scenarios", "one.yaml", "--json", cwd=tmp_path)
    assert result.returncode == 1
    outcome = json.loads(result.stdout)
    assert outcome["passed"] == 0
    (failed,) = outcome["failed"]
    assert failed["differences"]


def test_no_scenarios_are_no_success(call, tmp_path):
    assert one_line(call("scenarios", tmp_path))
    assert one_line(call("scenarios", "nowhere"))


@pytest.mark.parametrize(("bench", "ledger"), [("feed", "none"), ("replay", "sqlite")])
def test_a_bench_prints_one_object_that_says_what_it_did(tmp_path, bench, ledger):
    result = told(bot("bench", bench, "--messages", 2000, "--rounds", 1, "--json", cwd=tmp_path,
                      without=("torch",)))  # fmt: skip
    assert result.keys() >= {"messages", "bytes_per_message", "levels_per_message", "orders",
                             "facts", "journal", "ledger", "wall_s", "messages_per_s", "p50_us",
                             "p99_us", "rss_mb"}  # fmt: skip
    assert (result["messages"], result["ledger"]) == (2000, ledger)
    assert 250 < result["bytes_per_message"] < 340
    assert 6 < result["levels_per_message"] < 9
    if bench == "feed":
        assert result["ratio_to_picows_book"] > 0
        assert result["pybit_raw_messages_per_s"] > 0
        assert 0 < result["p50_us"] <= result["p99_us"]
    if bench == "replay":
        assert result["orders"] > 0.15 * result["messages"] * 0.5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.nightly
def test_the_cache_bench_prints_a_list_and_draws(tmp_path):
    rows = told(bot("bench", "cache", "--context", 64, "--stream-tokens", 1000, "--plot",
                    tmp_path / "cache.svg", "--json", cwd=tmp_path))  # fmt: skip
    assert {row["measure"] for row in rows} == {"memory", "prefix", "eviction", "stream"}
    assert (tmp_path / "cache.svg").read_text().startswith("<?xml")


@pytest.mark.nightly
def test_the_decode_bench_prints_the_rows_of_the_design(tmp_path):
    rows = told(bot("bench", "decode", "--quick", "--model", "B", "--threads", 1, "--json",
                    cwd=tmp_path))  # fmt: skip
    assert {"no_cache", "torch"} <= {row["path"] for row in rows}
    assert {(row["model"], row["context"], row["threads"]) for row in rows} == {("B", 256, 1)}
    assert set(rows[0]) == {"path", "model", "context", "batch", "threads", "kv_cache_dtype",
                            "weight_dtype", "p50_us", "p99_us", "nbytes", "rel_error",
                            "roofline_us"}  # fmt: skip


def test_a_bench_takes_a_capture(real_capture, tmp_path):
    result = told(bot("bench", "feed", "--input", real_capture, "--rounds", 1, "--json",
                      cwd=tmp_path))  # fmt: skip
    assert result["messages"] == 3227
