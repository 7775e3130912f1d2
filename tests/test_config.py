"""config.yaml and the environment to settings, or to one line that says what is wrong."""

from __future__ import annotations

import json
import traceback
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from bot import build
from bot.begin import record_of
from bot.config import ConfigError, Settings, load, recorded, write_default


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)


SECRET = "hunter22"


def read(text: str) -> Settings:
    Path("config.yaml").write_text(text)
    return load()


def test_without_a_file_the_shipped_one_holds():
    assert load() == Settings()


def test_an_empty_file_changes_nothing():
    assert read("") == read("# nothing") == Settings()


def test_what_is_left_out_keeps_its_default():
    settings = read("feed: {depth: 200}\nexchange: {fees: {linear: {maker_rate: -0.00005}}}")
    assert (settings.feed.depth, settings.feed.interval) == (200, "5")
    fees = settings.exchange.fees
    assert fees.linear.maker_rate == Decimal("-0.00005")
    assert fees.linear.taker_rate == Decimal("0.00055")
    assert fees.spot.maker_rate == Decimal("0.001")


def test_a_number_is_exact_as_it_is_written():
    assert read("account: {usdt: 0.1}").account.usdt == Decimal("0.1")


@pytest.mark.parametrize("text", ["feed: {interval: 5}", "feed: {interval: '5'}"])
def test_an_interval_may_be_written_as_a_number(text):
    assert read(text).feed.interval == "5"


def test_the_environment_wins_over_the_file(monkeypatch):
    monkeypatch.setenv("BOT__FEED__DEPTH", "200")
    monkeypatch.setenv("BOT__SYMBOLS", '["spot:BTCUSDT"]')
    settings = read("feed: {depth: 1, interval: '15'}")
    assert (settings.feed.depth, settings.feed.interval) == (200, "15")
    assert settings.symbols == ("spot:BTCUSDT",)


def test_a_database_that_is_named_wins_over_both(monkeypatch):
    monkeypatch.setenv("BOT__LEDGER__DB", "sqlite:///other.db")
    assert load(db="sqlite:///this.db").ledger.db == "sqlite:///this.db"


def test_the_ledgers_password_can_come_from_a_file():
    Path("secret").write_text("a/b c\n")
    settings = read("ledger: {db: postgresql://me@host:5/db, password_file: secret}")
    assert settings.ledger.db == "postgresql://me:a%2Fb%20c@host:5/db"
    assert load(db="sqlite:///x.db").ledger.db == "sqlite:///x.db"
    for text in ("ledger: {password_file: secret}", "ledger: {db: 'p://me@h/d', password_file: x}"):
        with pytest.raises(ConfigError, match=r"ledger\.password_file"):
            read(text)


def test_settings_cannot_be_changed():
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.feed.depth = 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("feeed: {}", "unknown key 'feeed'"),
        ("feed: {depht: 50}", "unknown key 'feed.depht'.*did you mean 'feed.depth'"),
        ("riks: {}", "did you mean 'risk'"),
        ("log: {level: wran}", "log.level = 'wran': Input should be .*did you mean 'warning'"),
        ("schedule: {backup: {when: sometimes}}", "schedule.backup.when = 'sometimes'"),
        ("mqtt: {password: hunter22}", "mqtt.password.*BOT__MQTT__PASSWORD.*mqtt.password_file"),
        ("notify: {urls: ['json://x']}", "notify.urls.*BOT__NOTIFY__URLS.*notify.urls_file"),
        ("feed: {depht: 50}\nlog: {colour: red}", "'feed.depht'.*'log.colour'"),
        ("1: 2", "unknown key '1'"),
        ("on: 2", "unknown key 'True'"),
        ("_env_file: x", "unknown key '_env_file'"),
        ("_cli_parse_args: true", "unknown key '_cli_parse_args'"),
        ("feed: {1: 2}", "feed.1"),
        ("feed: 3", "feed = 3"),
        ("- feed", "must hold keys and values, holds a list"),
        ("a: [1", "not valid YAML"),
        ("feed: {depth: 51}", "feed.depth = 51: Input should be 1, 50, 200 or 1000"),
        ("feed: {depth: true}", "feed.depth"),
        ("feed: {interval: 2}", "feed.interval"),
        ("feed: {silence_s: .inf}", "feed.silence_s = inf"),
        ("exchange: {order_latency_ms: .nan}", "order_latency_ms"),
        ("exchange: {order_latency_ms: 1e300}", "order_latency_ms"),
        ("exchange: {market_slippage: 1}", "market_slippage"),
        ("exchange: {fees: {spot: {taker_rate: 5}}}", "fees.spot.taker_rate = 5"),
        ("exchange: {fees: {spot: {taker_rate: 1e-13}}}", "no more than 12 decimal places"),
        ("exchange: {seed: -1}", "exchange.seed"),
        ("account: {leverage: 3.3333333333333}", "no more than 12 decimal places"),
        ("account: {usdt: 1e400}", "account.usdt"),
        ("symbols: []", "at least 1 item"),
        ("symbols: [BTCUSDT]", "symbols.0 = 'BTCUSDT'"),
        ("symbols: [linear:BTCUSDT, linear:BTCUSDT]", "linear:BTCUSDT stands there more than once"),
        ("strategies: [{use: nodots}]", "strategies.0.use = 'nodots'"),
        ("strategies: [{use: a.B, params: {1: 2}}]", "params"),
        ("models: {predictor: {window: 1}}", "models.predictor.window = 1"),
        ("instance: a b", "instance = 'a b'"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_key_value_and_file(text, says):
    with pytest.raises(ConfigError, match=says) as caught:
        read(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("config.yaml: ")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("BOT__FEED__DEPHT", "1", "unknown key 'feed.depht'"),
        ("BOT__FEEED__DEPTH", "1", "unknown variable BOT__FEEED__DEPTH: known are BOT__INSTANCE"),
        ("BOT__SYMBOLS", "linear:BTCUSDT", "lists and sections are JSON"),
        ("BOT__FEED", '{"depth":', "lists and sections are JSON"),
        ("BOT__RIKS__MAX_DAILY_LOSS", "5", "did you mean 'BOT__RISK__MAX_DAILY_LOSS'"),
        ("BOT__FEED__DEPTH", "51", "BOT__FEED__DEPTH: feed.depth = 51"),
    ],
)
def test_a_variable_that_cannot_be_used_is_one_line_with_its_name(monkeypatch, name, text, says):
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError, match=says) as caught:
        load()
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_or_written_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read: No such file"):
        load(Path("no.yaml"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    Path("bytes.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=r"bytes\.yaml: not valid YAML"):
        load(Path("bytes.yaml"))
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        write_default(Path("no/where.yaml"), overwrite=False)


def test_a_record_of_settings_comes_back_the_same_through_json_whatever_the_environment(
    monkeypatch,
):
    settings = read("account: {usdt: 0.1}\nfeed: {interval: 15}")
    record = json.loads(json.dumps(record_of(settings)))
    monkeypatch.setenv("BOT__ACCOUNT__USDT", "7")
    assert recorded(record, "x").model_dump() == settings.model_dump()
    assert record_of(recorded(record, "x")) == record
    with pytest.raises(ConfigError, match="x: unknown key 'later'"):
        recorded({**record, "later": 1}, "x")


def test_a_record_holds_no_address_and_no_secret(monkeypatch):
    monkeypatch.setenv("BOT__MQTT__PASSWORD", "secret")
    monkeypatch.setenv("BOT__NOTIFY__URLS", '["json://secret"]')
    settings = load(db="postgresql://me:secret@host/db")
    assert "secret" not in json.dumps(record_of(settings))
    assert recorded(record_of(settings), "x").risk == settings.risk


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BOT__MQTT", '"hunter22"'),
        ("BOT__MQTT", '{"password": ["hunter22"]}'),
        ("BOT__NOTIFY__URLS", "json://user:hunter22@host"),
        ("BOT__NOTIFY__URLS", '[["hunter22"]]'),
        ("BOT__LEDGER", '["postgresql://me:hunter22@host/db"]'),
    ],
)
def test_an_error_shows_no_secret_nor_does_its_traceback(monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError) as caught:
        load()
    assert "hunter22" not in "".join(traceback.format_exception(caught.value))


def test_a_broken_line_of_the_file_is_named_and_not_quoted():
    with pytest.raises(ConfigError, match="not valid YAML in line 3") as caught:
        read(f"ledger:\n  db: [postgresql://me:{SECRET}@host/db\n")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_every_number_that_is_allowed_is_one_that_core_takes():
    text = """
    account: {usdt: 1000000000000, leverage: 1.123456789012}
    exchange: {market_slippage: 0.000000000001, order_latency_ms: 60000, seed: 9223372036854775807,
               fees: {linear: {maker_rate: -0.999999999999}}}
    risk: {max_daily_loss: 0.000000000000000001}
    """
    settings = read(text)
    engine = build.engine(settings)
    for fees in build.fees(settings, 0):
        engine.step(fees)
