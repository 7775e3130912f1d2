"""The doctor: a line a check, and the truth about what is missing."""

from __future__ import annotations

import sqlite3
import time

import pytest

from bot.config import parse
from bot.doctor import Check, _network, examine
from bot.ledger.schema import upgrade
from bot.local_venue import Urls
from bot.venue.emulator import Venue
from bot.venue.probe import ping
from tests.operate.brokers import amqtt_broker
from tests.processes import bot, free_port, told

NOWHERE = Urls("ws://127.0.0.1:9", "http://127.0.0.1:9")


def settings(tmp_path, **more):
    raw = {
        "ledger": {"db": f"sqlite:///{tmp_path}/data/kvtrader.db"},
        "journal": {"folder": str(tmp_path / "runs")},
        "feed": {"connect_timeout_s": 3},
        "models": {"predictor": {"enabled": False}, "analyzer": {"enabled": False}},
    }
    return parse(raw | more, "a test")


async def found(tmp_path, **more) -> dict[str, Check]:
    """The checks that need no network."""
    checks = {}
    generator = examine(settings(tmp_path, **more))
    async for check in generator:
        checks[check.name] = check
        if check.name == "model analyzer":
            break
    await generator.aclose()
    return checks


async def test_a_fresh_machine_is_well(tmp_path):
    checks = await found(tmp_path)
    assert all(check.ok for check in checks.values()), checks
    assert "the first run makes it" in checks["database"].detail
    assert "kvtrader" in checks["versions"].detail
    assert checks["model predictor"].detail == "not enabled"
    assert not (tmp_path / "data").exists(), "looking makes nothing"
    assert not list(tmp_path.iterdir())


def test_a_ledger_that_is_current_is_well(tmp_path):
    upgrade(f"sqlite:///{tmp_path}/data/kvtrader.db")
    rows = told(bot("doctor", "--venue", "local", "--json", cwd=tmp_path,
                    BOT__MODELS__PREDICTOR__ENABLED="false",
                    BOT__MODELS__ANALYZER__ENABLED="false"))  # fmt: skip
    assert [row["check"] for row in rows] == [
        "versions", "strategies", "database", "disk", "model predictor", "model analyzer", "broker",
        "rest", "clock", "stream linear",
    ]  # fmt: skip
    assert all(row["ok"] for row in rows)
    assert "its schema is current" in rows[2]["detail"]


async def test_a_foreign_database_is_a_problem(tmp_path):
    (tmp_path / "data").mkdir()
    sqlite3.connect(tmp_path / "data" / "kvtrader.db").close()
    (tmp_path / "data" / "kvtrader.db").write_bytes(b"no database at all, but long enough" * 9)
    check = (await found(tmp_path))["database"]
    assert not check.ok
    assert "kvtrader.db" in check.detail


async def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("")
    check = (await found(tmp_path, journal={"folder": str(tmp_path / "file" / "runs")}))["disk"]
    assert not check.ok
    assert "nothing can be written" in check.detail


async def test_a_checkpoint_that_is_missing_is_a_problem(tmp_path):
    models = {"predictor": {"checkpoint": str(tmp_path / "no.safetensors")},
              "analyzer": {"enabled": False}}  # fmt: skip
    check = (await found(tmp_path, models=models))["model predictor"]
    assert not check.ok
    assert "no.json" in check.detail


async def test_a_strategy_that_is_missing_is_a_problem(tmp_path):
    check = (await found(tmp_path, strategies=[{"use": "nosuch.Thing"}]))["strategies"]
    assert not check.ok
    assert "nosuch" in check.detail


async def test_a_venue_that_answers_is_well_and_a_wrong_clock_is_not(tmp_path):
    behind_ns = 5 * 10**9
    for behind, is_well in ((0, True), (behind_ns, False)):
        local = Venue(
            ("linear:BTCUSDT",),
            history_hours=1,
            clock_ns=lambda behind=behind: time.time_ns() - behind,
        )
        ws, rest = await local.start()
        try:
            checks = {c.name: c async for c in _network(settings(tmp_path), Urls(ws, rest))}
        finally:
            await local.close()
        assert [checks["rest"].ok, checks["stream linear"].ok] == [True, True]
        assert checks["clock"].ok is is_well
    assert "ms from the venue's: set it" in checks["clock"].detail


async def test_a_venue_that_is_away_is_told_in_every_check(tmp_path):
    checks = [check async for check in _network(settings(tmp_path), NOWHERE)]
    assert [check.name for check in checks] == ["rest", "clock", "stream linear"]
    assert not any(check.ok for check in checks)
    assert all("cannot be reached: Connection refused" in check.detail for check in checks)


def test_a_problem_is_exit_code_1_and_a_line(tmp_path):
    result = bot("doctor", cwd=tmp_path, BOT__FEED__CONNECT_TIMEOUT_S="2",
                 BOT__MODELS__PREDICTOR__CHECKPOINT="no.safetensors",
                 HTTPS_PROXY="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")  # fmt: skip
    assert result.returncode == 1, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 10
    assert all(line.startswith(("ok ", "PROBLEM ")) for line in lines)
    (line,) = [line for line in lines if "model predictor" in line]
    assert line.startswith("PROBLEM model predictor  no.json: ")


async def test_a_port_that_speaks_no_websocket_is_no_stream(tmp_path):
    local = Venue(("linear:BTCUSDT",), history_hours=1)
    ws, _ = await local.start()
    try:
        assert await ping(f"{ws}/v5/public/linear", 3.0) > 0
        with pytest.raises(Exception, match="cannot be reached"):
            await ping(f"{ws}/nowhere", 3.0)
    finally:
        await local.close()


async def broker(tmp_path, port: int, **more) -> Check:
    """What the doctor says of the broker at ``port``."""
    mqtt = {"enabled": True, "port": port, **more}
    async for check in examine(settings(tmp_path, mqtt=mqtt)):
        if check.name == "broker":
            return check
    raise AssertionError


async def test_a_broker_that_lets_us_in_is_well_and_one_that_does_not_is_a_problem(tmp_path):
    nobody = free_port()
    found = await broker(tmp_path, nobody)
    assert not found.ok
    assert f"mqtt://127.0.0.1:{nobody}" in found.detail
    async with amqtt_broker(free_port()) as port:
        found = await broker(tmp_path, port)
        assert (found.ok, found.detail) == (True, f"mqtt://127.0.0.1:{port} lets us in")
