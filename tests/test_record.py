"""Recordings of a venue on this machine: what is written, what goes, and what replays."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.config import Settings
from bot.core.book import Book
from bot.core.events import (
    BookUpdate,
    ClockOffset,
    Connected,
    FeedDown,
    Frame,
    Instrument,
    Ticker,
)
from bot.core.measurements import FeedLatency
from bot.inbox import Inbox
from bot.ledger.journal import JournalError, JournalReader, JournalWriter
from bot.ledger.segment import opening_lines, segments_of
from bot.local_venue import Urls
from bot.opening import Opening
from bot.record import RecordOptions, record
from bot.replay import ReplayOptions, open_recording, replay
from bot.terms import RulesUnknown
from bot.venue.archive import read_capture
from bot.venue.emulator import Venue
from bot.venue.emulator.control import Control, FaultRequest
from bot.venue.emulator.limits import AddressGuard
from bot.venue.wire import Codec
from tests.processes import bot, told
from tests.venue.real_data import real

SYMBOLS = ("linear:BTCUSDT", "spot:ETHUSDT")
SETTINGS = Settings()
TOPICS = ("orderbook.50", "orderbook.1", "publicTrade", "tickers")


@asynccontextmanager
async def venue(events_per_s: float = 200.0):
    local = Venue(SYMBOLS, seed=3, events_per_s=events_per_s, history_hours=2)
    ws, rest = await local.start()
    try:
        yield local, Urls(ws, rest)
    finally:
        await local.close()


def options(folder: Path, **more) -> RecordOptions:
    return RecordOptions(folder, SYMBOLS, **({"topics": TOPICS, "seconds": 1.5} | more))


def run_of(folder: Path) -> dict:
    return replay(folder, SETTINGS.model_copy(update={"strategies": ()}), ReplayOptions())


def last_books(inputs) -> dict[tuple[str, int], tuple]:
    """Every book at the end, by a codec of its own."""
    codec, books = Codec(), {}
    for item in inputs:
        for event in codec.decode(item):
            if type(event) is BookUpdate:
                books.setdefault((event.symbol, event.depth), Book()).apply(event)
    return {key: (book.u, book.seq, book.bids, book.asks) for key, book in books.items()}


async def test_what_was_recorded_replays_without_a_gap(tmp_path):
    async with venue() as (_, urls):
        wanted = options(tmp_path / "rec", latency_every_s=0.5)
        summary = await record(SETTINGS, wanted, urls=urls)
    assert summary["clean"]
    assert summary["ended_by"] == "time: 1.5 s are over"
    assert (summary["lost_inputs"], summary["gaps"], summary["segments"]) == (0, 0, 1)
    result = run_of(tmp_path / "rec")
    assert (result["inputs"], result["frames"]) == (summary["inputs"], summary["frames"])
    assert result["frames"] > 100
    assert (result["gaps"], result["skipped"], result["run"]) == (0, 0, None)
    found = [*open_recording(tmp_path / "rec").inputs]
    assert {type(item) for item in found} >= {Instrument, Connected, Frame}
    measured = [item for item in found if type(item) is FeedLatency]
    assert {each.category for each in measured} == {"linear", "spot"}
    assert all(each.messages > 0 and each.p50_ns <= each.p99_ns for each in measured)
    assert set(summary["feed_latency_ms"]) == {"linear", "spot"}
    (offset,) = [item for item in found if type(item) is ClockOffset]
    assert offset.round_trip_ns > 0
    assert summary["clock_offset_ms"] == offset.offset_ns / 1e6


async def test_every_segment_opens_with_the_market_as_it_was(tmp_path):
    folder = tmp_path / "rec"
    async with venue() as (_, urls):
        summary = await record(SETTINGS, options(folder, segment_s=0.4), urls=urls)
    assert summary["segments"] >= 3
    whole = last_books(JournalReader(folder))
    assert {key[1] for key in whole} == {1, 50}
    segments = [*segments_of(folder).values()]
    entries = summary["inputs"]
    for path in segments[:-1]:
        assert last_books(JournalReader(segments[-1])) == whole, "a segment alone is enough"
        path.unlink()
        reader = JournalReader(folder)
        assert last_books(reader) == whole
        assert run_of(folder)["gaps"] == 0
        assert sum(1 for _ in reader) - len(reader.opening) < entries


async def test_the_oldest_segments_go_beyond_what_is_to_be_kept(tmp_path):
    folder = tmp_path / "rec"
    async with venue(2_000.0) as (_, urls):
        summary = await record(SETTINGS, options(folder, seconds=3.0, keep_bytes=20_000), urls=urls)
    numbers = [*segments_of(folder)]
    assert summary["removed_segments"] > 0
    assert numbers[0] == summary["removed_segments"] + 1
    assert numbers == [*range(numbers[0], summary["segments"] + 1)]
    assert summary["bytes_on_disk"] < 20_000 + 2 * 20_000 // 4 + 40_000
    assert run_of(folder)["gaps"] == 0


async def test_segments_that_are_too_old_go(tmp_path):
    folder = tmp_path / "rec"
    async with venue() as (_, urls):
        await record(SETTINGS, options(folder, seconds=0.6), urls=urls)
        old = segments_of(folder)[1]
        os.utime(old, (1, 1))
        summary = await record(SETTINGS, options(folder, segment_s=0.5, keep_s=3_600.0), urls=urls)
    assert summary["removed_segments"] == 1
    assert not old.exists()


async def test_a_later_recording_goes_on_in_a_new_segment(tmp_path):
    folder = tmp_path / "rec"
    async with venue() as (_, urls):
        first = await record(SETTINGS, options(folder, seconds=0.6), urls=urls)
        second = await record(SETTINGS, options(folder, seconds=0.6), urls=urls)
    assert [*segments_of(folder)] == [1, 2]
    result = run_of(folder)
    assert result["inputs"] == first["inputs"] + second["inputs"]
    assert result["gaps"] > 0, "nothing is known of the time between"


async def test_a_full_disk_ends_the_recording_and_keeps_what_was_written(tmp_path, monkeypatch):
    folder = tmp_path / "rec"
    written = JournalWriter._write
    chunks = []

    def full(self, frames: bytes) -> None:
        chunks.append(frames)
        if len(chunks) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(self, frames)

    monkeypatch.setattr(JournalWriter, "_write", full)
    async with venue() as (_, urls):
        summary = await record(SETTINGS, options(folder, seconds=60.0), urls=urls)
    assert not summary["clean"]
    assert summary["ended_by"].startswith("disk: ")
    assert summary["ended_by"].endswith("No space left on device")
    assert summary["lost_inputs"] > 0
    reader = JournalReader(folder)
    assert sum(1 for _ in reader) == summary["inputs"]
    assert reader.torn is None


async def test_recording_ends_before_the_disk_is_full_and_loses_nothing(tmp_path):
    folder, free = tmp_path / "rec", iter([10**9, 10**9, 10**9, 5 << 20])
    async with venue() as (_, urls):
        summary = await record(
            SETTINGS, options(folder, seconds=60.0), urls=urls, free_bytes=lambda _: next(free)
        )
    assert (summary["clean"], summary["lost_inputs"]) == (False, 0)
    assert f"disk: only 5 MB are free at {folder}" in summary["ended_by"]
    assert sum(1 for _ in JournalReader(folder)) == summary["inputs"]


async def test_a_lost_book_is_asked_for_again_at_every_depth(tmp_path):
    folder = tmp_path / "rec"
    async with venue() as (local, urls):
        task = asyncio.create_task(record(SETTINGS, options(folder, seconds=3.0), urls=urls))
        await asyncio.sleep(1.0)
        gap = FaultRequest("gap", "linear:orderbook.50.BTCUSDT")
        Control(local.hub, AddressGuard()).cause(gap)
        summary = await task
    assert summary["gaps"] == 1
    assert (summary["clean"], summary["lost_inputs"]) == (True, 0)
    codec, downs = Codec(), []
    for item in JournalReader(folder):
        downs += [event for event in codec.decode(item) if type(event) is FeedDown]
    assert [down.symbol for down in downs] == ["linear:BTCUSDT"]
    assert run_of(folder)["gaps"] == 1
    ups = [e for e in _events(folder) if type(e) is BookUpdate and e.depth == 50 and e.snapshot
           and e.symbol == "linear:BTCUSDT"]  # fmt: skip
    assert len(ups) == 2, "and it came back"


def _events(folder: Path) -> list:
    codec = Codec()
    return [event for item in JournalReader(folder) for event in codec.decode(item)]


async def test_a_signal_ends_it_cleanly(tmp_path):
    async with venue() as (_, urls):
        task = asyncio.create_task(
            record(SETTINGS, options(tmp_path / "rec", seconds=60.0), urls=urls)
        )
        await asyncio.sleep(0.8)
        os.kill(os.getpid(), signal.SIGTERM)
        summary = await task
    assert (summary["clean"], summary["ended_by"]) == (True, "user: SIGTERM")
    assert sum(1 for _ in JournalReader(tmp_path / "rec")) == summary["inputs"]


async def test_a_folder_that_another_process_records_into_is_refused(tmp_path):
    held = JournalWriter(tmp_path / "rec", {})
    async with venue() as (_, urls):
        with pytest.raises(JournalError, match="another process writes"):
            await record(SETTINGS, options(tmp_path / "rec"), urls=urls)
    held.close()


async def test_nobody_there_is_an_error(tmp_path):
    nowhere = Urls("ws://127.0.0.1:9", "http://127.0.0.1:9")
    with pytest.raises(RulesUnknown, match=r"127\.0\.0\.1:9"):
        await record(SETTINGS, options(tmp_path / "rec"), urls=nowhere)


def test_the_command_records_the_local_venue_and_its_recording_replays(tmp_path):
    words = ("--symbol", "linear:BTCUSDT", "--topic", "orderbook.50", "--out", "rec", "--json")
    summary = told(bot("record", "--venue", "local", "--for", "2s", *words, cwd=tmp_path))
    assert summary["frames"] > 10
    result = told(bot("replay", "rec", "--json", cwd=tmp_path))
    assert (result["frames"], result["gaps"]) == (summary["frames"], 0)


# --- The opening ----------------------------------------------------------------------------------


def test_an_opening_of_real_traffic_leads_to_the_same_books_and_tickers(tmp_path):
    inputs = list(read_capture(real("bybit_v5_capture/BYBIT.jsonl.zst")))
    for share in (0.3, 0.7):
        cut = int(len(inputs) * share)
        opening, straight, late = Opening(), Codec(), Codec()
        for item in inputs[:cut]:
            opening.take(item)
            straight.decode(item)
        folder = tmp_path / str(cut)
        writer = JournalWriter(folder, {"opening": opening_lines(opening.inputs())})
        writer.close()
        begun = last_books(opening.inputs())
        assert begun == last_books(inputs[:cut])
        for item in opening.inputs():
            late.decode(item)
        for item in inputs[cut:]:
            got, wanted = late.decode(item), straight.decode(item)
            assert [e for e in got if type(e) is not Ticker] == [
                e for e in wanted if type(e) is not Ticker
            ]
            assert [e for e in got if type(e) is Ticker] == [e for e in wanted if type(e) is Ticker]


def test_an_opening_is_stamped_in_order():
    opening, inbox = Opening(), Inbox(100, iter(range(1, 99)).__next__)
    opening.take(Connected(inbox.now(), "a", "linear"))
    stamps = [item.ts for item in opening.inputs()]
    assert stamps == sorted(stamps)
