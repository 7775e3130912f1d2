"""Bybit's daily archive files over HTTP into the store: trades and order books.

A file appears under its name only when it is whole and its checksums are right. What an
interrupted download left is continued.
"""

from __future__ import annotations

import asyncio
import os
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import aiohttp
import structlog
from msgspec import Struct

from bot.venue.address import VenueUnreachable, cause_of
from bot.venue.answers import MalformedAnswer
from bot.venue.archive_text import ArchiveError, Damage, Place, lines
from bot.venue.history import Fetched, Progress, StoreError
from bot.venue.rest import VenueRefused
from bot.venue.store import Span, Store

log = structlog.get_logger()

FileKind: TypeAlias = Literal["trades", "orderbook"]
BASES: dict[FileKind, str] = {
    "trades": "https://public.bybit.com",
    "orderbook": "https://quote-saver.bycsi.com",
}
"""Where https://www.bybit.com/derivatives/en/history-data leads."""
TRIES = 3
_PART_BYTES = 1 << 18
_DAY_NS = 86_400 * 10**9
_GOES_AWAY = (408, 425, 429, 500, 502, 503, 504)
_SHALLOW_SINCE = date(2025, 8, 21)
"""From here on the order-book files have 200 levels a side instead of 500, more or less."""


class _Remote(Struct, frozen=True):
    """One day's file: the paths at which it may be, the likeliest first."""

    day: date
    paths: tuple[str, ...]


def remote_paths(kind: FileKind, symbol: str, day: date) -> tuple[str, ...]:
    """Where Bybit has a symbol's file of a day, below the base; the last part is its name."""
    category, _, name = symbol.partition(":")
    if kind == "orderbook":
        depths = (200, 500) if day >= _SHALLOW_SINCE else (500, 200)
        folder = f"orderbook/{category}/{name}"
        return tuple(f"{folder}/{day}_{name}_ob{depth}.data.zip" for depth in depths)
    if category == "spot":
        return (f"spot/{name}/{name}_{day}.csv.gz",)
    return (f"trading/{name}/{name}{day}.csv.gz",)


async def fetch_files(
    store: Store,
    kind: FileKind,
    symbol: str,
    start_ts: int,
    end_ts: int,
    progress: Progress,
    *,
    base: str | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Fetched:
    """Bring the files of the days in [start, end) into ``<symbol's folder>/<kind>/``.

    A day that the server does not have is a gap. Raises VenueUnreachable, VenueRefused,
    MalformedAnswer for files that are damaged at the server, and StoreError.
    """
    base = (base or BASES[kind]).rstrip("/")
    folder = store.folder_of(symbol) / kind
    days = _days(start_ts, end_ts)
    remotes = [_Remote(day, remote_paths(kind, symbol, day)) for day in days]
    missing: list[date] = []
    added = 0
    is_near = urlsplit(base).hostname in ("127.0.0.1", "::1", "localhost")
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=not is_near) as session:
        source = _Server(session, base, folder, sleep)
        for number, remote in enumerate(remotes, 1):
            if not any((folder / path.rpartition("/")[2]).exists() for path in remote.paths):
                found = await source.fetch_first(remote.paths)
                added += found
                if not found:
                    missing.append(remote.day)
            progress(number, len(remotes))
    return Fetched(
        symbol, kind, folder, len(days) - len(missing), added, start_ts, end_ts, _spans(missing)
    )


class _Server:
    """One host, and the folder into which its files go."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: str,
        folder: Path,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._session = session
        self._base = base
        self._folder = folder
        self._sleep = sleep

    async def fetch_first(self, paths: Sequence[str]) -> bool:
        """The first of the paths that the server has; False if it has none."""
        for path in paths:
            if await self._fetch(path):
                return True
        return False

    async def _fetch(self, path: str) -> bool:
        url = f"{self._base}/{path}"
        target = self._folder / path.rpartition("/")[2]
        part = target.with_name(f".{target.name}.part")
        for attempt in range(1, TRIES + 1):
            try:
                if not await self._into(url, part):
                    return False
                break
            except (aiohttp.ClientError, TimeoutError) as error:
                if attempt == TRIES:
                    raise _final(url, error) from error
                log.warning("download interrupted", url=url, cause=cause_of(error))
                await self._sleep(2.0**attempt)
            except OSError as error:
                raise StoreError(f"{part}: cannot be written: {error.strerror or error}") from error
        problem = await asyncio.to_thread(_problem, part)
        if problem is not None:
            part.unlink()
            raise MalformedAnswer(f"{url}: {problem}; it was thrown away, try again")
        await asyncio.to_thread(_finish, part, target)
        return True

    async def _into(self, url: str, part: Path) -> bool:
        """Append to ``part`` what it lacks; False if the server has no such file."""
        have = _size(part)
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        async with self._session.get(url, headers=headers) as response:
            if response.status in (403, 404):  # 403 is how some stores say that there is none
                log.debug("no such file", url=url, status=response.status)
                return False
            if response.status == 416:  # nothing is missing, or the part is of another file
                return True
            if response.status in _GOES_AWAY:
                response.raise_for_status()
            if response.status not in (200, 206):
                raise VenueRefused(url, response.status, response.reason or "no file")
            with part.open("ab" if response.status == 206 else "wb") as file:
                async for data in response.content.iter_chunked(_PART_BYTES):
                    file.write(data)
        return True


def _final(url: str, error: Exception) -> VenueRefused | VenueUnreachable:
    if isinstance(error, aiohttp.ClientResponseError):
        return VenueRefused(url, error.status, error.message)
    return VenueUnreachable(url, cause_of(error))


def _problem(part: Path) -> str | None:
    """Why a file is not whole, None if it is: every byte is unpacked and checked."""
    try:
        if part.suffixes[-2] == ".zip":
            with zipfile.ZipFile(part) as packed:
                damaged = packed.testzip()
            return None if damaged is None else f"{damaged} in it is damaged"
        for _ in lines(Place(part, Damage())):
            pass
    except (zipfile.BadZipFile, zlib.error, EOFError, ArchiveError) as error:
        return str(error)
    return None


def _size(part: Path) -> int:
    part.parent.mkdir(parents=True, exist_ok=True)
    return part.stat().st_size if part.exists() else 0


def _finish(part: Path, target: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


def _days(start_ts: int, end_ts: int) -> list[date]:
    first = datetime.fromtimestamp(start_ts // 10**9, UTC).date()
    count = max(0, -(-(end_ts - start_ts // _DAY_NS * _DAY_NS) // _DAY_NS))
    return [first + timedelta(days=number) for number in range(count)]


def _spans(days: Sequence[date]) -> list[Span]:
    """Missing days in a row as one span."""
    spans: list[Span] = []
    for day in days:
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 10**9
        if spans and spans[-1].end_ts == start:
            last = spans.pop()
            spans.append(Span(last.start_ts, start + _DAY_NS, last.missing + 1))
        else:
            spans.append(Span(start, start + _DAY_NS, 1))
    return spans
