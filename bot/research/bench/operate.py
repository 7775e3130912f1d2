"""What watching a run costs: paper runs on a busy local venue with and without the extras.

Each round is a ``bot paper`` in a process of its own: one bare, one with dashboard, metrics and
MQTT (a browser's stream, a scraper and a subscriber behind a mosquitto), in turns. CPU is that of
the bot's process, its inference thread included and its start left out. No run is without a
journal: what that costs is measured by writing the run's own inputs once more. Where there are two
processors the bot has one of its own, and venue, broker and listeners have the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bot.core.errors import PlainError
from bot.ledger.journal import JournalReader, JournalWriter
from bot.research.bench.cores import load_apart, move, move_child
from bot.venue.emulator.flow import TRADE_SHARE
from bot.venue.emulator.streams import BOOK_CADENCE_MS

SYMBOLS: Final = 10
SCRAPE_EVERY_S: Final = 5.0
_DEPTH: Final = 50
_TICKERS_PER_S: Final = 10
_FIGURES: Final = (
    "messages_per_s", "loop_lag_p50_ms", "loop_lag_p99_ms", "loop_lag_own_p99_ms", "cpu_cores",
    "journal_cores",
)  # fmt: skip
_FLUSH_EVERY_NS: Final = 10**9
_TOKEN: Final = "a-token-for-the-bench"  # noqa: S105 - of a run on loopback that lasts seconds
_CONFIG: Final = """\
symbols: [{symbols}]
feed: {{warmup_candles: 20, connect_timeout_s: 60}}
local_venue: {{events_per_s: {events_per_s}}}
models: {{predictor: {{window: 64}}, analyzer: {{window: 64}}}}
log: {{level: error}}
"""
_NAMES: Final = ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "LINK", "AVAX", "LTC", "DOT")


class BenchError(PlainError):
    """A round could not be run; the text is the bot's last line."""


def operate(
    *, seconds: float, rounds: int, messages_per_s: float, apart: bool = True
) -> list[dict[str, Any]]:
    """Rows {extras, messages_per_s, loop_lag_p50_ms, loop_lag_p99_ms, loop_lag_own_p99_ms,
    cpu_cores, journal_cores, rounds}: the medians of the rounds without and with the extras.

    ``loop_lag_own_p99_ms`` counts of each lag at most what the loop's own thread computed, so other
    work on the machine is not in it. ``extras_cores`` is what dashboard, metrics, MQTT and journal
    cost together. Raises BenchError."""
    found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    with load_apart() if apart else contextlib.nullcontext() as processors:
        for _ in range(rounds):
            for extras in (False, True):
                found[extras].append(_round(extras, seconds, messages_per_s, processors))
    rows = [_row("none", found[False]), _row("dashboard, metrics, MQTT", found[True])]
    cost = rows[1]["cpu_cores"] - rows[0]["cpu_cores"] + rows[1]["journal_cores"]
    return [{**row, "extras_cores": round(cost, 3)} for row in rows]


def _row(extras: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    middle = {name: round(statistics.median(each[name] for each in found), 3) for name in _FIGURES}
    worst = max(each["loop_lag_p99_ms"] for each in found)
    return {"extras": extras, **middle, "worst_p99_ms": worst, "rounds": len(found)}


def _events_per_s(messages_per_s: float) -> float:
    """Events of one symbol's market for so many messages of all: books and tickers come at their
    own pace however much happens, so the others must be trades."""
    wanted = messages_per_s / SYMBOLS
    paced = 1_000 / BOOK_CADENCE_MS[_DEPTH] + _TICKERS_PER_S
    return max((wanted - paced) / TRADE_SHARE, wanted / (1 + TRADE_SHARE))


def _round(
    extras: bool, seconds: float, messages_per_s: float, processors: set[int] | None
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        symbols = ", ".join(f"linear:{coin}USDT" for coin in _NAMES[:SYMBOLS])
        text = _CONFIG.format(symbols=symbols, events_per_s=_events_per_s(messages_per_s))
        (folder / "config.yaml").write_text(text)
        told: Counter[str] = Counter()
        port = stack.enter_context(_broker(folder, told)) if extras else 1883
        summary = _paper(folder, _environment(extras, port), seconds, told, processors)
        if extras and not (told["states"] and told["metrics"] and told["messages"]):
            raise BenchError(f"nobody could watch the run: {dict(told)}")
        journal_s = _journal_s(folder / summary["journal"], folder / "again")
        journal = {"journal_cores": journal_s / seconds}
        return {"messages_per_s": summary["frames"] / seconds, **summary, **journal}


def _environment(extras: bool, mqtt_port: int) -> dict[str, str]:
    on = str(extras).lower()
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("BOT__")},
        "BOT__DASHBOARD__ENABLED": on,
        "BOT__DASHBOARD__TOKEN": _TOKEN,
        "BOT__METRICS__ENABLED": on,
        "BOT__METRICS__PORT": "0",
        "BOT__MQTT__ENABLED": on,
        "BOT__MQTT__PORT": str(mqtt_port),
        "BOT__LOG__LEVEL": "info",
    }


def _paper(
    folder: Path,
    environment: dict[str, str],
    seconds: float,
    told: Counter[str],
    processors: set[int] | None,
) -> dict[str, Any]:
    """The summary of a paper run that is watched. Raises BenchError."""
    words = ("paper", "--venue", "local", "--for", f"{seconds:g}s", "--json")
    with subprocess.Popen(  # noqa: S603 - this very program
        [sys.executable, "-m", "bot", *words], cwd=folder, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stdout is not None
        if processors is not None:
            venues = os.sched_getaffinity(0)
            move(process.pid, processors)  # before it has threads, which inherit it
            move_child(process.pid, venues)
        lines: list[str] = []
        with _asking(process.stderr, lines, told):
            output = process.stdout.read()  # its errors are read beside
            process.wait()
    if process.returncode:
        raise BenchError(f"the bot ended with code {process.returncode}: {lines[-1:]}")
    summary: dict[str, Any] = json.loads(output)
    return summary


def _journal_s(written: Path, again: Path) -> float:
    """CPU seconds that it takes to write a run's inputs to a journal, with its compression."""
    inputs = list(JournalReader(written))
    journal = JournalWriter(again, {})
    began_s = time.process_time()
    flush_ts = 0
    for item in inputs:
        journal.append(item)
        if item.ts - flush_ts >= _FLUSH_EVERY_NS:
            flush_ts = item.ts
            journal.flush()
    journal.close()
    return time.process_time() - began_s


@contextlib.contextmanager
def _broker(folder: Path, told: Counter[str]) -> Iterator[int]:
    """A mosquitto and one who listens to all that the bot tells. Raises BenchError."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        raise BenchError("mosquitto is not installed: apt-get install mosquitto")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen(  # noqa: S603 - the program found
        [found, "-c", str(folder / "mosquitto.conf")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    listener = paho.Client(CallbackAPIVersion.VERSION2)
    listener.on_connect = lambda client, *_: client.subscribe("kvtrader/#")
    listener.on_message = lambda *_: told.update(("messages",))
    try:
        listener.connect_async("127.0.0.1", port)
        listener.loop_start()
        yield port
    finally:
        listener.disconnect()
        listener.loop_stop()
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _asking(errors: IO[str], lines: list[str], told: Counter[str]) -> Iterator[None]:
    """Read the bot's log; ask what it says it serves, as a browser and Prometheus would."""
    ended = threading.Event()

    def read() -> None:
        for line in errors:
            lines.append(line.strip())
            page = re.match(r"dashboard: (http://\S+)", line)
            metrics = re.search(r"url=(http://\S+/metrics)", line)
            if page is not None:
                threading.Thread(target=_stream, args=(page[1], ended, told), daemon=True).start()
            elif metrics is not None:
                threading.Thread(
                    target=_scrape, args=(metrics[1], ended, told), daemon=True
                ).start()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    finally:
        reader.join()
        ended.set()


def _stream(url: str, ended: threading.Event, told: Counter[str]) -> None:
    """One browser: the stream of the state, and what the page asks for now and then."""
    opener = build_opener(ProxyHandler({}))
    headers = {"authorization": f"Bearer {_TOKEN}"}
    asked = [f"{url}api/{name}?symbol=linear:BTCUSDT" for name in ("candles", "fills", "quality")]
    last_s = 0.0
    with contextlib.suppress(URLError, OSError):
        stream = Request(f"{url}api/stream?symbol=linear:BTCUSDT", headers=headers)  # noqa: S310
        with opener.open(stream, timeout=10) as answer:
            while not ended.is_set() and answer.readline():
                told["states"] += 1
                if time.monotonic() - last_s > SCRAPE_EVERY_S:
                    last_s = time.monotonic()
                    for each in asked:
                        opener.open(Request(each, headers=headers), timeout=10).close()  # noqa: S310


def _scrape(url: str, ended: threading.Event, told: Counter[str]) -> None:
    opener = build_opener(ProxyHandler({}))
    with contextlib.suppress(URLError, OSError):
        while not ended.wait(SCRAPE_EVERY_S):
            told["metrics"] += len(opener.open(url, timeout=10).read()) > 0
