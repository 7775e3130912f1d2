"""A dashboard on a real socket, over a small ledger, with a bot that only answers."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import aiohttp
import pytest
from msgspec import Struct

from bot.ledger import reading
from bot.ledger.rows import RECORDED_LIVE
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from bot.operate.dashboard import Books, Live, application
from bot.operate.dashboard.site import STATIC
from bot.operate.serving import bind, serve
from tests.ledger.samples import T, fed, started

TOKEN = "a-token-of-more-than-16-characters"
HEADERS = {"authorization": f"Bearer {TOKEN}"}
OWN = {"x-kvtrader": "1"}


class Served(Struct):
    """Where it listens, and what it was told to do."""

    port: int
    books: Books
    told: list[tuple[str, str]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
async def ledger(url):
    engine = await open_ledger(url)
    await started(engine)
    writer = fed(LedgerWriter(engine, "r1", recorded=RECORDED_LIVE))
    for n in range(3):
        writer.add_equity(30 + n, T + n * 10**10, Decimal(10_000 - n), Decimal(10_000))
    await writer.commit(None)
    await engine.dispose()
    return url


@pytest.fixture
async def served(ledger):
    """The page of a run that is served by the bot itself."""
    async with asyncio.TaskGroup() as group:
        found, task = await serving(group, ledger, is_live=True)
        yield found
        task.cancel()


async def serving(group, ledger, *, is_live):
    books = Books(ledger, "r1")
    told: list[tuple[str, str]] = []
    stored = await books.state()
    live = Live(lambda _: stored, lambda _: b"\0" * 24, lambda *each: told.append(each))
    bound = bind("dashboard", "127.0.0.1", 0)
    port = bound.getsockname()[1]
    app = application(
        books, live if is_live else None, token=TOKEN, port=port, names=("bot.example",)
    )
    task = group.create_task(serve(app, bound))
    await asyncio.sleep(0.1)
    return Served(port, books, told), task


@pytest.fixture
async def client():
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


def every_path() -> list[str]:
    """Each route that shows something, every file of the page among them."""
    files = [f"/static/{path.relative_to(STATIC)}" for path in STATIC.rglob("*") if path.is_file()]
    questions = ("run", "state", "candles", "forecasts", "quality", "equity", "fills", "orders",
                 "gaps", "log", "depth", "stream", "command")  # fmt: skip
    return ["/", "/nowhere", *(f"/api/{name}" for name in questions), *files]


def read(ledger, question, **words):
    return reading.read(ledger, question, **words)
