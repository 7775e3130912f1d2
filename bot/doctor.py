"""`bot doctor`: is everything there that a run needs. Each check ends in one line, good or bad."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from bot import __version__, build, local_venue
from bot.config import Settings
from bot.core.errors import PlainError
from bot.ledger.database import is_file, parse_url, shown
from bot.ledger.reading import read
from bot.local_venue import Urls
from bot.operate.mqtt import reach
from bot.operations import broker_of
from bot.venue.address import public_url, rest_url
from bot.venue.probe import ping
from bot.venue.rest import Rest

OFFSET_MAX_MS = 1_000.0
"""Bybit takes a request stamped at most a second ahead of its clock (retCode 10002)."""
LEAST_FREE_MB = 1_024
PYTHON_LEAST = (3, 11)
NEEDED = ("aiohttp", "aiomqtt", "aiosqlite", "alembic", "apscheduler", "asyncpg", "msgspec",
          "numpy", "picows", "pybit", "pydantic-settings", "rich", "safetensors", "sqlalchemy",
          "structlog", "torch", "typer", "zstandard")  # fmt: skip

Answer: TypeAlias = str
"""What is well, in one line; what is not well is a PlainError."""


class Check(Struct, frozen=True):
    """One line of the doctor's."""

    name: str
    ok: bool
    detail: str


class NotWell(PlainError):
    """Something that a run needs is missing; the text says what and the way out."""


async def examine(settings: Settings, venue: str = "bybit") -> AsyncIterator[Check]:
    """Every check in turn, on Bybit or ("local") on a venue started for it. Raises nothing."""
    yield await _checked("versions", _versions)
    yield await _checked("strategies", lambda: _strategies(settings))
    yield await _checked("database", lambda: _database(settings))
    yield await _checked("disk", lambda: _disk(settings))
    for name in ("predictor", "analyzer"):
        yield await _checked(f"model {name}", lambda name=name: _model(settings, name))  # type: ignore[misc]
    yield await _awaited("broker", lambda: _broker(settings))
    async with AsyncExitStack() as stack:
        urls = Urls(settings.network, settings.network)
        if venue == "local":
            try:
                urls = (await stack.enter_async_context(local_venue.started(settings))).urls
            except PlainError as error:
                yield Check("local venue", ok=False, detail=str(error))
                return
        async for check in _network(settings, urls):
            yield check


async def _network(settings: Settings, urls: Urls) -> AsyncIterator[Check]:
    timeout_s = settings.feed.connect_timeout_s
    rest = Rest(rest_url(urls.rest), timeout_s=timeout_s)
    try:
        yield await _awaited("rest", lambda: _rest(rest, urls))
        yield await _awaited("clock", lambda: _clock(rest))
    finally:
        await rest.close()
    for category in dict.fromkeys(symbol.partition(":")[0] for symbol in settings.symbols):
        url = public_url(urls.ws, category)
        yield await _awaited(f"stream {category}", lambda url=url: _stream(url, timeout_s))  # type: ignore[misc]


async def _checked(name: str, check: Callable[[], Answer]) -> Check:
    try:
        return Check(name, ok=True, detail=check())
    except PlainError as error:
        return Check(name, ok=False, detail=str(error))


async def _awaited(name: str, check: Callable[[], Awaitable[Answer]]) -> Check:
    try:
        return Check(name, ok=True, detail=await check())
    except PlainError as error:
        return Check(name, ok=False, detail=str(error))


# --- On this machine ------------------------------------------------------------------------


def _versions() -> Answer:
    if sys.version_info < PYTHON_LEAST:
        raise NotWell(f"Python {platform.python_version()}: 3.11 or newer is needed")
    found: list[str] = []
    missing: list[str] = []
    for name in NEEDED:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise NotWell(f"not installed: {', '.join(missing)}; pip install kvtrader brings them")
    python = f"kvtrader {__version__}, Python {platform.python_version()}"
    return ", ".join([python, *found])


def _strategies(settings: Settings) -> Answer:
    loaded = build.strategies(settings)
    return ", ".join(name for name, _, _ in loaded) or "none configured: nothing will be traded"


def _database(settings: Settings) -> Answer:
    url = parse_url(settings.ledger.db)
    if is_file(url) and not Path(url.database or "").exists():
        _require_writable(Path(url.database or "").absolute().parent)
        return f"{shown(url)}: not there yet, the first run makes it"
    read(settings.ledger.db, lambda connection: connection.engine.name)
    return f"{shown(url)}: reachable, its schema is current"


def _disk(settings: Settings) -> Answer:
    folder = settings.journal.folder.absolute()
    there = _require_writable(folder)
    free_mb = shutil.disk_usage(there).free >> 20
    if free_mb < LEAST_FREE_MB:
        raise NotWell(
            f"{folder}: {free_mb} MB free, fewer than {LEAST_FREE_MB}; a run may end any moment: "
            "make room, or choose another journal.folder"
        )
    return f"{folder}: {free_mb} MB free"


def _require_writable(folder: Path) -> Path:
    """The nearest folder that exists. Raises NotWell if nothing can be made in it."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not _is_writable(there):
        raise NotWell(f"{there}: nothing can be written there; needed for {folder}")
    return there


def _is_writable(folder: Path) -> bool:
    probe = folder / f".kvtrader-doctor-{id(folder)}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError:
        return False
    return True


def _model(settings: Settings, name: str) -> Answer:
    model = getattr(settings.models, name)
    if not model.enabled:
        return "not enabled"
    if importlib.util.find_spec("torch") is None:
        raise NotWell(f"models.{name} is enabled, but torch is not installed")
    if model.checkpoint is None:
        return f"no checkpoint: UNTRAINED, from seed {model.seed}"
    from bot.model.checkpoint import load  # noqa: PLC0415 - 2 s, which runs without models save
    from bot.model.registry import Registry  # noqa: PLC0415

    card = load(Registry().path_of(name, model.checkpoint)).card
    state = "trained" if card.trained else "UNTRAINED"
    return f"{model.checkpoint}: {card.name}, {state}, weights {card.weights_sha256[:12]}"


# --- On the network ---------------------------------------------------------------------------


async def _broker(settings: Settings) -> Answer:
    """Connects as a run would, and says nothing there."""
    if not settings.mqtt.enabled:
        return "mqtt is not enabled"
    broker = broker_of(settings)
    await reach(broker, settings.feed.connect_timeout_s)
    return f"mqtt://{broker.host}:{broker.port} lets us in"


async def _rest(rest: Rest, urls: Urls) -> Answer:
    await rest.server_ns()
    return f"{rest_url(urls.rest)} answers"


async def _clock(rest: Rest) -> Answer:
    offset_ms = (await rest.clock_offset()).offset_ns / 1e6
    if abs(offset_ms) > OFFSET_MAX_MS:
        raise NotWell(
            f"this machine's clock is {offset_ms:+.0f} ms from the venue's: set it (chrony, ntpd)"
        )
    return f"{offset_ms:+.1f} ms from the venue's"


async def _stream(url: str, timeout_s: float) -> Answer:
    return f"{url} answers a ping after {await ping(url, timeout_s) * 1000:.0f} ms"
