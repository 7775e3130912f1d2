"""Daily files over real HTTP from a server on this machine that breaks off, refuses and resumes."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import pytest

from bot.venue.address import VenueUnreachable
from bot.venue.answers import MalformedAnswer
from bot.venue.archive_feed import Archive, ArchiveOptions
from bot.venue.daily_files import fetch_files, remote_paths
from bot.venue.rest import VenueRefused
from bot.venue.store import Span, Store
from tests.venue.archive_files import (
    T0,
    T0_S,
    book_zip,
    linear_row,
    linear_trades,
    snapshot,
)

DAY = 86_400 * 10**9
SYMBOL = "linear:BTCUSDT"


class Host:
    """Files by path. ``cuts`` are lengths after which an answer breaks off, one a request."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.ranges: list[str] = []
        self.asked: Counter[str] = Counter()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1].decode().lstrip("/")
        start = 0
        while line := (await reader.readline()).strip():
            if line.lower().startswith(b"range: bytes="):
                start = int(line.partition(b"=")[2].rstrip(b"-"))
                self.ranges.append(line.decode())
        self.asked[path] += 1
        body = self.files.get(path)
        status = self.statuses.pop(0) if self.statuses else 206 if start else 200
        if body is None:
            status, body = 404, b""
        elif start >= len(body) and start:
            status, body = 416, b""
        data = body[start:]
        writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                     % (status, len(data)))  # fmt: skip
        writer.write(data[: self.cuts.pop(0)] if self.cuts else data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def serving(host: Host):
    server = await asyncio.start_server(host, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def no_pause(seconds: float) -> None:
    """Wait for nothing."""


def days_of_trades(folder: Path, *days: int) -> dict[str, bytes]:
    files = {}
    for day in days:
        rows = [linear_row(T0_S + day * 86_400 + n, "Buy", f"{n % 97 + 1}", f"{n + 1}")
                for n in range(500)]  # fmt: skip
        name = f"BTCUSDT2025-01-{day + 1:02}.csv.gz"
        files[f"trading/BTCUSDT/{name}"] = linear_trades(folder / name, *rows).read_bytes()
    return files


async def fetch(host: Host, store: Store, days: int = 3, kind: str = "trades", symbol=SYMBOL):
    async with serving(host) as base:
        return await fetch_files(
            store, kind, symbol, T0, T0 + days * DAY, lambda *_: None, base=base, sleep=no_pause
        )


async def test_files_of_the_days_come_into_the_store_and_replay_from_there(tmp_path):
    host = Host(days_of_trades(tmp_path / "made", 0, 1, 2))
    got = await fetch(host, Store(tmp_path / "store"))
    assert (got.rows, got.added, got.gaps) == (3, 3, [])
    events = list(Archive([tmp_path / "store"], ArchiveOptions()))
    assert len(events) == 1_500
    assert {event.symbol for event in events} == {SYMBOL}
    again = await fetch(host, Store(tmp_path / "store"))
    assert (again.rows, again.added) == (3, 0)
    assert set(host.asked.values()) == {1}, "a file that is there is not asked for"


async def test_a_day_that_the_server_does_not_have_is_a_gap(tmp_path):
    host = Host(days_of_trades(tmp_path / "made", 0))
    got = await fetch(host, Store(tmp_path / "store"), days=4)
    assert (got.rows, got.added) == (1, 1)
    assert got.gaps == [Span(T0 + DAY, T0 + 4 * DAY, 3)]


async def test_an_answer_that_breaks_off_is_continued_where_it_stopped(tmp_path):
    files = days_of_trades(tmp_path / "made", 0)
    host = Host(files)
    host.cuts = [1_000, 500]
    await fetch(host, Store(tmp_path / "store"), days=1)
    assert host.ranges == ["Range: bytes=1000-", "Range: bytes=1500-"]
    (path,) = (tmp_path / "store").rglob("*.gz")
    assert [path.read_bytes()] == list(files.values())


async def test_a_later_run_continues_what_an_earlier_one_left(tmp_path):
    host = Host(days_of_trades(tmp_path / "made", 0))
    host.cuts = [100, 200, 300]
    with pytest.raises(VenueUnreachable):
        await fetch(host, Store(tmp_path / "store"), days=1)
    assert not list((tmp_path / "store").rglob("*.gz")), "half a file has no name"
    got = await fetch(host, Store(tmp_path / "store"), days=1)
    assert (got.added, host.ranges[-1]) == (1, "Range: bytes=600-")


async def test_a_busy_server_is_asked_again_and_a_refusal_is_told(tmp_path):
    host = Host(days_of_trades(tmp_path / "made", 0))
    host.statuses = [503, 429]
    assert (await fetch(host, Store(tmp_path / "a"), days=1)).added == 1
    host.statuses = [503, 503, 503]
    with pytest.raises(VenueRefused, match="refused with 503"):
        await fetch(host, Store(tmp_path / "b"), days=1)
    host.statuses = [401]
    with pytest.raises(VenueRefused, match="refused with 401"):
        await fetch(host, Store(tmp_path / "b"), days=1)


async def test_a_file_that_is_damaged_at_the_server_is_thrown_away(tmp_path):
    ((path, whole),) = days_of_trades(tmp_path / "made", 0).items()
    host = Host({path: whole[:-6] + b"xx" + whole[-4:]})
    with pytest.raises(MalformedAnswer, match="thrown away, try again"):
        await fetch(host, Store(tmp_path / "store"), days=1)
    assert not [one for one in (tmp_path / "store").rglob("*") if one.is_file()]


async def test_order_books_are_looked_for_at_either_depth(tmp_path):
    made = book_zip(tmp_path / "2025-01-01_BTCUSDT_ob200.data.zip", snapshot(1, name="BTCUSDT"))
    host = Host({f"orderbook/linear/BTCUSDT/{made.name}": made.read_bytes()})
    got = await fetch(host, Store(tmp_path / "store"), days=1, kind="orderbook")
    assert (got.added, list(host.asked)) == (
        1,
        [f"orderbook/linear/BTCUSDT/2025-01-01_BTCUSDT_ob{depth}.data.zip" for depth in (500, 200)],
    )
    assert len(list(Archive([tmp_path / "store"], ArchiveOptions()))) == 2


def test_bybits_names_are_those_of_its_archive():
    day = date(2025, 9, 1)
    assert remote_paths("trades", SYMBOL, day) == ("trading/BTCUSDT/BTCUSDT2025-09-01.csv.gz",)
    assert remote_paths("trades", "spot:BTCUSDT", day) == (
        "spot/BTCUSDT/BTCUSDT_2025-09-01.csv.gz",
    )
    assert remote_paths("orderbook", "spot:BTCUSDT", day)[0] == (
        "orderbook/spot/BTCUSDT/2025-09-01_BTCUSDT_ob200.data.zip"
    )


async def test_nobody_there_is_told_with_the_address(tmp_path):
    with pytest.raises(VenueUnreachable, match=r"http://127\.0\.0\.1:9/trading"):
        await fetch_files(
            Store(tmp_path), "trades", SYMBOL, T0, T0 + DAY, lambda *_: None,
            base="http://127.0.0.1:9", sleep=no_pause,
        )  # fmt: skip
