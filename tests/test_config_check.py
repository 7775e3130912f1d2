"""`bot config show|check`: what holds, from where, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.cli import app
from bot.config import load
from bot.config_check import problems, shown, table


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["config", *words])
    return result.exit_code, result.output


def test_a_setting_says_where_it_is_from(monkeypatch):
    Path("config.yaml").write_text("feed: {depth: 200, interval: 15}\nlog: {level: error}")
    monkeypatch.setenv("BOT__LOG__LEVEL", "debug")
    monkeypatch.setenv("BOT__RISK", '{"max_open_orders": 3}')
    rows = {row["key"]: (row["value"], row["from"]) for row in table(load(), None)}
    assert rows["feed.depth"] == (200, "file")
    assert rows["log.level"] == ("debug", "BOT__LOG__LEVEL")
    assert rows["risk.max_open_orders"] == (3, "BOT__RISK")
    assert rows["feed.queue_size"] == (20_000, "default")


def test_secrets_are_not_shown_but_that_they_are_there_is(monkeypatch):
    monkeypatch.setenv("BOT__MQTT__PASSWORD", "hunter22")
    monkeypatch.setenv("BOT__NOTIFY__URLS", '["json://u:hunter22@host"]')
    db = "postgresql://me:hunter22@host/db?password=hunter22"
    values = shown(load(db=db))
    assert "hunter22" not in json.dumps(values)
    assert values["mqtt"]["password"] == "***"
    assert values["notify"]["urls"] == ["***"]
    assert values["ledger"]["db"].startswith("postgresql://me:***@host/db")
    monkeypatch.setenv("BOT__LEDGER__DB", db)
    for words in (("show",), ("show", "--json"), ("show", "--changed")):
        code, output = call(*words)
        assert code == 0
        assert "***" in output
        assert "hunter22" not in output


def test_what_is_changed_is_what_is_not_the_default():
    Path("config.yaml").write_text("feed: {depth: 200, interval: '5'}")
    code, output = call("show", "--changed")
    assert code == 0
    assert "feed.depth" in output
    assert "feed.interval" not in output
    assert "log.level" not in output


def test_a_good_file_has_no_problem():
    assert problems(None) == []
    assert call("check") == (0, call("check")[1])
    assert json.loads(call("check", "--json")[1])["ok"]


def test_every_problem_is_told_at_once_with_its_key():
    Path("config.yaml").write_text("""
symbols: [linear:BTCUSDT]
strategies: [{use: nowhere.Nothing}]
ledger: {db: mysql://host/db}
mqtt: {password_file: no.txt, ca_file: none.pem}
schedule: {backup: {when: 61 3 * * *}, report: {when: 0 0 * * 0}}
""")
    found = {problem.key: problem.says for problem in problems(None)}
    assert "no module 'nowhere'" in found["strategies"]
    assert "mysql" in found["ledger.db"]
    assert "61" in found["schedule.backup.when"]
    assert "name the days" in found["schedule.report.when"]
    assert "no such file" in found["mqtt.ca_file"]
    assert "cannot be read" in found[""]
    code, output = call("check", "--json")
    assert code == 2
    assert {each["key"] for each in json.loads(output)["problems"]} == set(found)


def test_a_file_that_cannot_be_used_at_all_is_one_problem_a_key():
    Path("config.yaml").write_text("feed: {depth: 51}\nlog: {level: wran}")
    found = {problem.key: problem for problem in problems(None)}
    assert found["feed.depth"].value == "51"
    assert "1, 50, 200 or 1000" in found["feed.depth"].says
    assert found["log.level"].closest == "warning"
    code, _ = call("check")
    assert code == 2
