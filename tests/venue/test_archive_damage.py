"""Damaged archives: one clear error that names file, line and value, or an honest repair."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.errors import PlainError
from bot.core.events import BookUpdate, FeedDown, FeedUp
from bot.venue.archive_feed import Archive, ArchiveError, ArchiveOptions
from tests.venue.archive_files import (
    T0,
    T0_MS,
    T0_S,
    book_zip,
    candle_rows,
    candle_table,
    gz,
    linear_row,
    linear_trades,
    message,
    snapshot,
    spot_trades,
)


def repaired(*paths: Path) -> tuple[list, dict[str, int]]:
    archive = Archive(paths, ArchiveOptions(repair=True))
    return list(archive), dict(archive.damage.counts)


def refused(*paths: Path) -> str:
    with pytest.raises(ArchiveError) as raised:
        list(Archive(paths, ArchiveOptions()))
    text = str(raised.value)
    assert "\n" not in text
    return text


def good_trades(tmp_path: Path, count: int = 600) -> Path:
    rows = [linear_row(T0_S + n, "Buy", f"{n * 7919 % 997 + 1}", f"{n + 1}") for n in range(count)]
    return linear_trades(tmp_path / "t.csv.gz", *rows)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (linear_row(T0_S, "Buy", "1", "abc"), "'abc'"),
        (linear_row(T0_S, "Hold", "1", "2"), "'Hold'"),
        (linear_row(T0_S, "Buy", "0", "2"), "quantity '0' must be positive"),
        (linear_row(T0_S, "Buy", "1", "-2"), "'-2'"),
        (linear_row("soon", "Buy", "1", "2"), "soon"),
        (linear_row(T0_MS, "Buy", "1", "2"), f"time '{T0_MS}' is not between 2010 and 2100"),
        (linear_row(T0_S, "Buy", "1", "2", "ETHUSDT"), "'ETHUSDT', in a file of 'BTCUSDT'"),
        ("1,2,3", "3 columns, not 10"),
        ("\xff\xfe", "columns"),
    ],
)
def test_a_bad_row_is_named_with_file_line_and_value_or_left_out(tmp_path, row, says):
    good = linear_row(T0_S, "Buy", "1", "2")
    path = linear_trades(tmp_path / "t.csv.gz", good, row, good)
    text = refused(path)
    assert text.startswith(f"{path}: line 3: ")
    assert says in text
    assert "--repair" in text
    events, counts = repaired(path)
    assert (len(events), counts) == (2, {"bad row": 1})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "truncated"),
        ("[1]", "object"),
        (message(11).replace('"u": 11', '"u": "x"'), "data.u"),
        (message(11, name="BTCUSDT"), "'BTCUSDT', in a file of 'XRPUSDT'"),
        (message(11, bids=[("-1", "2")]), "-1"),
        (message(11, kind="patch"), "patch"),
    ],
)
def test_a_bad_book_line_is_named_or_takes_the_book_down(tmp_path, line, says):
    lines = [snapshot(10), line, message(12, T0_MS + 9), message(13, T0_MS + 10),
             snapshot(20, T0_MS + 30), message(21, T0_MS + 40)]  # fmt: skip
    path = book_zip(tmp_path / "b.zip", *lines)
    text = refused(path)
    assert text.startswith(f"{path}: line 2: ")
    assert says in text
    events, counts = repaired(path)
    assert counts == {"bad row": 1, "gap": 1}
    assert [type(event) for event in events] == [
        FeedUp, BookUpdate, FeedDown, FeedUp, BookUpdate, BookUpdate,
    ]  # fmt: skip
    assert events[2].exchange_ts == T0 + 9 * 10**6
    assert events[2].reason == "gap in u: 12 after 10"


def test_a_book_message_that_was_there_already_is_an_overlap(tmp_path):
    path = book_zip(tmp_path / "b.zip", snapshot(10), message(11), message(11), message(12))
    assert "line 3: u 11 after 11 (overlap" in refused(path)
    events, counts = repaired(path)
    assert [event.u for event in events if type(event) is BookUpdate] == [10, 11, 12]
    assert counts == {"overlap": 1}


def test_a_book_that_begins_with_a_delta_waits_for_a_snapshot(tmp_path):
    path = book_zip(tmp_path / "b.zip", message(10), message(11), snapshot(12))
    assert "line 1: a delta (u 10) before any snapshot" in refused(path)
    events, counts = repaired(path)
    assert [type(event) for event in events] == [FeedUp, BookUpdate]
    assert counts == {"gap": 1}


def test_a_missing_day_takes_the_book_down_a_minute_after_its_last_word(tmp_path):
    day_ms = 86_400_000
    first = book_zip(tmp_path / "1.zip", snapshot(10), message(11, T0_MS + 50))
    third = book_zip(tmp_path / "3.zip", snapshot(99, T0_MS + 2 * day_ms))
    assert "no book for 172800 s" in refused(first, third)
    events, counts = repaired(first, third)
    assert [type(event) for event in events] == [
        FeedUp, BookUpdate, BookUpdate, FeedDown, FeedUp, BookUpdate,
    ]  # fmt: skip
    assert events[3].exchange_ts == T0 + 50 * 10**6 + 60 * 10**9
    assert counts == {"gap": 1}


def test_the_same_day_twice_is_an_overlap_that_repair_reads_once(tmp_path):
    rows = [linear_row(T0_S + n, "Buy", "1", "2") for n in range(5)]
    first = linear_trades(tmp_path / "1.csv.gz", *rows[:4])
    second = linear_trades(tmp_path / "2.csv.gz", *rows[2:])
    text = refused(first, second)
    assert text.startswith(f"{second}: line 2: begins at {T0 + 2 * 10**9}, the file before ends")
    events, counts = repaired(first, second)
    # The one trade at the seam's own time is in both: a time is no proof of being the same.
    assert [event.exchange_ts // 10**9 - T0_S for event in events] == [0, 1, 2, 3, 3, 4]
    assert counts == {"overlap": 1}


def test_candles_with_a_hole_or_twice_are_told(tmp_path):
    rows = candle_rows(6)
    hole = candle_table(tmp_path / "hole_BTCUSDT.csv.gz", rows[:2] + rows[4:])
    assert f"line 4: a bar at {T0_MS + 240_000} ms, {T0_MS + 120_000} was due (gap" in refused(hole)
    assert len(repaired(hole)[0]) == 4
    twice = candle_table(tmp_path / "twice_BTCUSDT.csv.gz", [*rows[:3], rows[2], *rows[3:]])
    assert "line 5: " in refused(twice)
    events, counts = repaired(twice)
    assert (len(events), counts) == (6, {"overlap": 1})


@pytest.mark.parametrize(
    "row", ["1,2,2,2,2", f"{T0_MS},5,4,3,4,1", f"{T0_MS},2,3,0,2,1", f"{T0_MS},2,3,1,2,-1",
            f"{T0_MS},nan,3,1,2,1", f"{T0_MS},2,inf,1,2,1", f"{T0_S},2,3,1,2,1"],
)  # fmt: skip
def test_an_impossible_candle_is_a_bad_row(tmp_path, row):
    path = candle_table(tmp_path / "BTCUSDT.csv.gz", [*candle_rows(2), row])
    assert refused(path).startswith(f"{path}: line 4: ")
    assert repaired(path)[1] == {"bad row": 1}


def test_missing_ids_of_spot_trades_are_told(tmp_path):
    rows = [f"{n},{T0_MS + n},2,3,buy" for n in (1, 2, 5, 5, 6)]
    path = spot_trades(tmp_path / "AUSDT.csv.gz", *rows)
    assert "line 4: id 5 after 2 (gap" in refused(path)
    events, counts = repaired(path)
    assert (len(events), counts) == (4, {"gap": 1, "overlap": 1})


def test_unsorted_rows_keep_their_place_if_they_are_a_little_late(tmp_path):
    rows = [linear_row(at, "Buy", "1", "2") for at in (T0_S, T0_S + 9, f"{T0_S + 8}.5", T0_S + 2)]
    path = linear_trades(tmp_path / "t.csv.gz", *rows)
    assert f"line 4: time {T0 + 8_500_000_000} after {T0 + 9 * 10**9} (unsorted" in refused(path)
    events, counts = repaired(path)
    assert [event.exchange_ts - T0 for event in events] == [0, 9 * 10**9, 9 * 10**9]
    assert counts == {"unsorted": 2}


def test_wrong_columns_name_what_is_missing(tmp_path):
    path = gz(tmp_path / "t.csv.gz", "timestamp,symbol,side,price\n1,2,3,4\n")
    assert "no archive of" in refused(path)
    assert "timestamp,symbol,side,price" in refused(path)


def test_empty_files_are_told(tmp_path):
    (tmp_path / "e.csv").write_bytes(b"")
    assert "e.csv: has no line (empty" in refused(tmp_path / "e.csv")
    assert "has no line" in refused(gz(tmp_path / "e.csv.gz", ""))
    (tmp_path / "none").mkdir()
    assert "holds no journal and no archive" in refused(tmp_path / "none")
    assert "no such file or folder" in refused(tmp_path / "gone")
    headed = linear_trades(tmp_path / "BTCUSDT.csv.gz")
    assert list(Archive([headed], ArchiveOptions())) == []


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_cut_gzip_is_an_error_and_repair_gives_the_whole_rows_before_it(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    path = good_trades(folder)
    whole = path.read_bytes()
    full = list(Archive([path], ArchiveOptions()))
    cut = data.draw(st.integers(300, len(whole) - 1))
    path.write_bytes(whole[:cut])
    text = refused(path)
    assert "ends early" in text
    events, counts = repaired(path)
    assert events == full[: len(events)]
    assert counts == {"truncated": 1}


def test_flipped_bytes_are_an_error(tmp_path):
    path = good_trades(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[-6] ^= 0xFF  # the checksum
    path.write_bytes(whole)
    assert "(corrupt" in refused(path)
    path.write_bytes(path.read_bytes() + b"garbage")
    assert "(corrupt" in refused(path)


def test_gzip_members_follow_each_other(tmp_path):
    path = tmp_path / "BTCUSDT.csv.gz"
    header, *rows = gzip.decompress(good_trades(tmp_path).read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(header + rows[0]) + gzip.compress(rows[1]) + b"\0" * 8)
    assert len(list(Archive([path], ArchiveOptions()))) == 2


def test_a_damaged_zip_and_one_of_two_files_are_errors(tmp_path):
    path = book_zip(tmp_path / "b.zip", snapshot(1), *(message(u) for u in range(2, 400)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged or cut off" in refused(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(ArchiveError):
        list(Archive([path], ArchiveOptions()))
    path.write_bytes(whole)
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("second", "x")
    assert "2 files in the zip, want one" in refused(path)


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 3))
def test_no_bytes_make_anything_but_an_error_of_one_line(tmp_path_factory, junk, kind):
    heads = (b"", b"id,timestamp,price,volume,side\n", b"ts_ms,open,high,low,close,volume\n", b"{")
    path = tmp_path_factory.mktemp("junk") / "AUSDT_5.csv"
    path.write_bytes(heads[kind] + junk)
    for repair in (False, True):
        try:
            list(Archive([path], ArchiveOptions(repair=repair)))
        except PlainError as error:
            assert str(path) in str(error)  # noqa: PT017 - only if it is raised
