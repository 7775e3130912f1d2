import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core import events
from bot.core.events import BookUpdate, Connected, Frame, Horizon, Prediction, Tick, Trade
from bot.ledger.journal import (
    JournalError,
    JournalReader,
    JournalWriter,
    is_journal,
    read,
    read_header,
)
from tests.ledger.strategies import of

KINDS = [kind for kind in get_args(events.Input) if kind not in (Trade, BookUpdate)]


def write(folder, items, *, flush_every=10**9, **options):
    writer = JournalWriter(folder, {}, **options)
    for index, item in enumerate(items, 1):
        writer.append(item)
        if index % flush_every == 0:
            writer.flush()
    writer.close()
    return writer.path


def ticks(first, last):
    return [Tick(ts) for ts in range(first, last)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_input_comes_back_exactly(kind, tmp_path_factory):
    @settings(max_examples=30, deadline=None)
    @given(st.lists(of(kind), min_size=1, max_size=5))
    def check(items):
        path = write(tmp_path_factory.mktemp("run"), items)
        again = list(read(path))
        assert again == items
        assert [repr(item) for item in again] == [repr(item) for item in items]

    check()


def test_the_lines_are_the_documented_ones(tmp_path):
    items = [
        Frame(7, "linear-1", b'{"a":"1.50"}\n'),
        Frame(8, "linear-1", b"\xff\x00"),
        Connected(9, "linear-1", "linear"),
        events.Disconnected(10, "linear-1", "stale"),
        Tick(11),
    ]
    path = write(tmp_path / "r1", items, clock_ns=lambda: 5)
    unzip = zstandard.ZstdDecompressor()
    text = unzip.stream_reader(path.read_bytes(), read_across_frames=True).read()
    lines = [msgspec.json.decode(line) for line in text.splitlines()]
    assert lines == [
        {
            "t": "header",
            "format": "kvtrader-journal",
            "version": 1,
            "run": "r1",
            "segment": 1,
            "first_position": 0,
            "created_ts": 5,
        },
        {"t": "recv", "conn": "linear-1", "ts": 7, "data": '{"a":"1.50"}\n'},
        {"t": "recv", "conn": "linear-1", "ts": 8, "data": "/wA=", "b64": True},
        {"t": "connect", "conn": "linear-1", "ts": 9, "category": "linear"},
        {"t": "disconnect", "conn": "linear-1", "ts": 10, "reason": "stale"},
        {"t": "event", "event": {"type": "Tick", "ts": 11, "exchange_ts": 0}},
    ]


@pytest.mark.parametrize(
    "item",
    [
        Trade(1, 1, "linear:BTCUSDT", 1, "Buy", 10**30, 1),
        BookUpdate(1, 1, "linear:BTCUSDT", 50, 1, 1, True, [(10**30, 1)], []),
        Prediction(1, "s", "m", 0, 0, 0, float("nan"), ()),
        Prediction(1, "s", "m", 0, 0, 0, 1.0, (Horizon(1, 0.0, 0.5, 0.5, (float("inf"),)),)),
        Connected(1, "\ud800", "linear"),
    ],
    ids=["trade", "book", "nan", "inf", "surrogate"],
)
def test_an_input_that_would_not_come_back_is_refused_and_nothing_else_is_lost(item, tmp_path):
    writer = JournalWriter(tmp_path, {})
    writer.append(Tick(1))
    with pytest.raises(JournalError, match="not fit for the journal"):
        writer.append(item)
    assert writer.append(Tick(2)) == 1
    writer.close()
    assert list(read(writer.path)) == ticks(1, 3)


def test_a_file_cut_at_any_byte_gives_the_whole_frames_before_the_cut(tmp_path):
    items = ticks(0, 12)
    whole = write(tmp_path, items, flush_every=4).read_bytes()
    cut = tmp_path / "cut.zst"
    seen = set()
    for size in range(len(whole) + 1):
        cut.write_bytes(whole[:size])
        reader = JournalReader(cut)
        got = list(reader)
        assert got == items[: len(got)]
        seen.add(len(got))
        complete_frames = size in ends_of_frames(whole)
        assert (reader.torn is None) == complete_frames, size
    assert seen == {0, 4, 8, 12}


def ends_of_frames(whole):
    ends = {0}
    rest = whole
    while rest:
        one = zstandard.ZstdDecompressor().decompressobj()
        one.decompress(rest)
        rest = one.unused_data
        ends.add(len(whole) - len(rest))
    return ends


def test_a_flipped_byte_never_raises_and_never_invents_an_entry(tmp_path):
    items = ticks(0, 8)
    whole = write(tmp_path, items, flush_every=4).read_bytes()
    header_ends = sorted(ends_of_frames(whole))[1]
    bad = tmp_path / "bad.zst"
    for at in range(header_ends, len(whole)):
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        reader = JournalReader(bad)
        got = list(reader)
        assert got == items[: len(got)]
        assert len(got) < len(items)
        assert reader.torn


def test_a_whole_frame_with_half_a_line_ends_the_reading(tmp_path):
    path = write(tmp_path, ticks(0, 3))
    squeeze = zstandard.ZstdCompressor(write_checksum=True).compress
    line = b'{"t":"event","event":{"type":"Tick","ts":3,"exchange_ts":0}}\n'
    with path.open("ab") as file:
        file.write(squeeze(line + line[:20]))
        file.write(squeeze(line))
    reader = JournalReader(path)
    assert list(reader) == ticks(0, 3)
    assert "within a line" in reader.torn


def test_a_restart_opens_the_next_segment_and_positions_go_on(tmp_path):
    write(tmp_path, ticks(0, 5))
    second = JournalWriter(tmp_path, {"seed": 7})
    assert second.append(Tick(5)) == 5
    assert (second.durable_position, second.pending) == (5, 1)
    second.close()
    assert second.durable_position == 6
    assert second.path.name == "journal-000002.jsonl.zst"
    assert read_header(second.path)["first_position"] == 5
    assert read_header(second.path)["seed"] == 7
    assert list(read(tmp_path)) == ticks(0, 6)


def test_a_restart_after_a_torn_tail_goes_on_where_the_whole_frames_end(tmp_path):
    first = write(tmp_path, ticks(0, 9), flush_every=3)
    os.truncate(first, first.stat().st_size - 1)
    write(tmp_path, ticks(100, 102))
    reader = JournalReader(tmp_path)
    assert list(reader) == ticks(0, 6) + ticks(100, 102)
    assert first.name in reader.torn


@pytest.mark.parametrize("start", range(12))
def test_reading_may_start_at_any_position(start, tmp_path):
    for first in (0, 4, 8):
        write(tmp_path, ticks(first, first + 4), flush_every=2)
    assert list(read(tmp_path, start)) == ticks(start, 12)


def test_a_full_segment_is_followed_by_the_next(tmp_path):
    write(tmp_path, ticks(0, 40), flush_every=5, segment_bytes=400)
    assert len(list(tmp_path.iterdir())) > 2
    assert list(read(tmp_path)) == ticks(0, 40)


def test_a_missing_segment_is_named(tmp_path):
    for first in (0, 4, 8):
        write(tmp_path, ticks(first, first + 4))
    (tmp_path / "journal-000002.jsonl.zst").unlink()
    with pytest.raises(JournalError, match=r"journal-000002.*missing"):
        JournalReader(tmp_path)


def test_a_missing_first_segment_is_told_but_later_positions_can_be_read(tmp_path):
    for first in (0, 4):
        write(tmp_path, ticks(first, first + 4))
    (tmp_path / "journal-000001.jsonl.zst").unlink()
    with pytest.raises(JournalError, match="begins at position 4, not at 0"):
        JournalReader(tmp_path)
    assert list(read(tmp_path, start=5)) == ticks(5, 8)


def test_damage_before_the_last_segment_is_an_error_not_a_silent_gap(tmp_path):
    first = write(tmp_path, ticks(0, 9), flush_every=3)
    write(tmp_path, ticks(9, 12))
    os.truncate(first, first.stat().st_size - 1)
    with pytest.raises(JournalError, match=r"starts at position 9.*ends at 6.*cut short"):
        list(read(tmp_path))


def test_what_is_no_journal_is_refused_in_one_line(tmp_path):
    squeeze = zstandard.ZstdCompressor().compress
    cases = {
        "text.jsonl": (b'{"t":"header"}\n', "not zstd"),
        "json.zst": (squeeze(b"hello\n"), "not JSON"),
        "other.zst": (squeeze(b'{"format":"other","version":1}\n'), "no header of format"),
        "list.zst": (squeeze(b"[1]\n"), "no header of format"),
        "newer.zst": (squeeze(b'{"format":"kvtrader-journal","version":2}\n'), "newer.*upgrade"),
        "bare.zst": (squeeze(b'{"format":"kvtrader-journal","version":1}\n'), "first_position"),
    }
    for name, (data, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(JournalError, match=message) as caught:
            JournalReader(path)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
        assert not is_journal(path)
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(JournalError, match=r"cannot be read|holds no journal segment"):
            JournalReader(path)


def test_a_header_key_of_the_format_is_refused(tmp_path):
    with pytest.raises(JournalError, match="first_position"):
        JournalWriter(tmp_path, {"first_position": 3})


def test_a_run_has_one_writer_at_a_time(tmp_path):
    writer = JournalWriter(tmp_path, {})
    with pytest.raises(JournalError, match=r"another process writes this run.*--new"):
        JournalWriter(tmp_path, {})
    writer.close()
    JournalWriter(tmp_path, {}).close()


def test_a_chunk_is_due_when_full_or_old(tmp_path):
    now = [0]
    writer = JournalWriter(tmp_path, {}, chunk_entries=3, chunk_s=1.0, clock_ns=lambda: now[0])
    assert not writer.due(10**18)
    writer.append(Tick(1))
    assert not writer.due(10**9 - 1)
    assert writer.due(10**9)
    writer.append(Tick(2))
    writer.append(Tick(3))
    assert writer.due(0)
    writer.flush()
    assert not writer.due(10**18)
    writer.close()


def test_a_late_flush_still_writes_frames_of_at_most_chunk_entries(tmp_path):
    path = write(tmp_path, ticks(0, 10), chunk_entries=4)
    assert len(ends_of_frames(path.read_bytes())) == 1 + 1 + 3


def test_a_full_disk_keeps_the_entries_and_the_file_whole(tmp_path):
    writer = JournalWriter(tmp_path, {})
    writer.append(Tick(1))
    writer.flush()
    size = writer.path.stat().st_size
    for item in (Frame(ts, "c", os.urandom(50)) for ts in range(50)):
        writer.append(item)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert writer.path.stat().st_size == size
    assert (writer.durable_position, writer.pending) == (1, 50)
    reader = JournalReader(writer.path)
    assert list(reader) == [Tick(1)]
    assert reader.torn is None
    writer.close()
    assert len(list(read(writer.path))) == 51


async def test_appending_goes_on_while_a_thread_flushes(tmp_path):
    writer = JournalWriter(tmp_path, {}, chunk_entries=50)
    items = [Frame(ts, "c", b'{"n":%d}' % ts) for ts in range(5000)]
    for start in range(0, 5000, 100):
        flushing = asyncio.create_task(asyncio.to_thread(writer.flush))
        await asyncio.sleep(0)
        for item in items[start : start + 100]:
            writer.append(item)
        await flushing
    writer.close()
    assert list(read(writer.path)) == items


CHILD = """
import sys
from pathlib import Path
from bot.core.events import Tick
from bot.ledger.journal import JournalWriter
writer = JournalWriter(Path(sys.argv[1]), {}, chunk_entries=20)
for ts in range(10**9):
    writer.append(Tick(ts))
    if writer.due(0):
        writer.flush()
        print(writer.durable_position, flush=True)
"""


def test_kill_9_loses_at_most_what_was_not_flushed(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with child:
        durable = 0
        while durable < 2000:
            durable = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        last = child.stdout.read().split()
    durable = int(last[-1]) if last else durable
    items = list(read(tmp_path))
    assert items == ticks(0, len(items))
    assert durable <= len(items) <= durable + 20
    write(tmp_path, [Tick(len(items))])
    assert list(read(tmp_path)) == ticks(0, len(items) + 1)
