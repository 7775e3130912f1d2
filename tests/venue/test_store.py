"""The store: tables that are whole at every moment, and that every reader of archives reads."""

from __future__ import annotations

import gzip
import itertools
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.events import Candle, FundingRate
from bot.venue import store as storing
from bot.venue.archive_feed import Archive, ArchiveError, ArchiveOptions
from bot.venue.store import TABLE_COLUMNS, Span, Store, Table, candle_row, funding_row
from tests.venue.archive_files import T0

MINUTE = 60 * 10**9
MS = 10**6


def bar(number: int) -> Candle:
    opened = T0 + number * MINUTE
    numbers = [Decimal(100 + number + extra) for extra in (0, 5, -5, 2)]
    return Candle(
        opened + MINUTE, opened + MINUTE, "linear:BTCUSDT", "1", opened, *numbers,
        Decimal("1e-8"), Decimal(number),
    )  # fmt: skip


def add(table: Table, *numbers: int) -> int:
    return table.add(candle_row(bar(number)) for number in numbers)


def test_what_is_stored_comes_back_and_is_an_archive(tmp_path):
    store = Store(tmp_path)
    table = store.candle_table("linear:BTCUSDT", "1")
    assert list(store.candles("linear:BTCUSDT", "1")) == []
    assert add(table, 0, 1, 2) == 3
    assert list(store.candles("linear:BTCUSDT", "1")) == [bar(0), bar(1), bar(2)]
    assert list(Archive([tmp_path], ArchiveOptions())) == [bar(0), bar(1), bar(2)]
    with gzip.open(tmp_path / "linear" / "BTCUSDT" / "1.csv.gz", "rt") as file:
        assert file.readline() == "ts_ms,open,high,low,close,volume,turnover\n"
        assert file.readline() == f"{T0 // MS},100,105,95,102,0.00000001,0\n"


def test_rates_are_stored_beside_the_candles(tmp_path):
    store = Store(tmp_path)
    rate = FundingRate(T0, T0, "linear:BTCUSDT", Decimal("-1E-7"), T0)
    assert store.funding_table("linear:BTCUSDT").add([funding_row(rate)]) == 1
    assert list(store.funding("linear:BTCUSDT")) == [rate]
    assert list(Archive([tmp_path], ArchiveOptions())) == [rate]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=6))
def test_rows_added_in_any_order_are_there_once_and_in_order(tmp_path_factory, batches):
    store = Store(tmp_path_factory.mktemp("s"))
    table = store.candle_table("linear:BTCUSDT", "1")
    wanted: set[int] = set()
    for batch in batches:
        assert add(table, *batch) == len(set(batch) - wanted)
        wanted |= set(batch)
        again = store.candle_table("linear:BTCUSDT", "1")
        assert list(again.stamps) == list(table.stamps)
        assert [one.open_ts for one in store.candles("linear:BTCUSDT", "1")] == [
            T0 + number * MINUTE for number in sorted(wanted)
        ]


@given(st.sets(st.integers(0, 20)), st.integers(0, 20), st.integers(0, 20))
def test_holes_are_exactly_what_is_missing(have, first, count):
    table = Table(Path("/nowhere/1.csv.gz"), TABLE_COLUMNS)
    table.stamps.extend(sorted((T0 + number * MINUTE) // MS for number in have))
    start, end = T0 + first * MINUTE, T0 + (first + count) * MINUTE
    holes = table.holes(start, end, MINUTE)
    missing = [number for number in range(first, first + count) if number not in have]
    opened = [at for hole in holes for at in range(hole.start_ts, hole.end_ts, MINUTE)]
    assert opened == [T0 + number * MINUTE for number in missing]
    assert sum(hole.missing for hole in holes) == len(missing)
    assert all(a.end_ts < b.start_ts for a, b in itertools.pairwise(holes))


def test_a_hole_is_a_span_with_its_count():
    table = Table(Path("/nowhere/1.csv.gz"), TABLE_COLUMNS)
    assert table.holes(T0, T0 + 3 * MINUTE, MINUTE) == [Span(T0, T0 + 3 * MINUTE, 3)]


@pytest.mark.parametrize("earlier", [[], [0, 1], [0, 5]])
def test_a_write_that_fails_changes_nothing(tmp_path, monkeypatch, earlier):
    table = Store(tmp_path).candle_table("linear:BTCUSDT", "1")
    add(table, *earlier)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storing.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        add(table, 2, 3)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert add(table, 2, 3) == 2
    assert len(list(Store(tmp_path).candles("linear:BTCUSDT", "1"))) == len(earlier) + 2


def test_a_damaged_table_is_named(tmp_path):
    store = Store(tmp_path)
    add(store.candle_table("linear:BTCUSDT", "1"), 0, 1)
    path = tmp_path / "linear" / "BTCUSDT" / "1.csv.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(ArchiveError, match=r"1\.csv\.gz.*ends early"):
        store.candle_table("linear:BTCUSDT", "1")
    path.write_bytes(gzip.compress(b"ts_ms,funding_rate\n1,2\n"))
    with pytest.raises(ArchiveError, match="no column open"):
        store.candle_table("linear:BTCUSDT", "1")
    header = ",".join(TABLE_COLUMNS).encode()
    path.write_bytes(gzip.compress(header + b"\n5,1,1,1,1,1,1\n5,1,1,1,1,1,1\n"))
    with pytest.raises(ArchiveError, match="ts_ms 5 after 5"):
        store.candle_table("linear:BTCUSDT", "1")
    path.write_bytes(gzip.compress(header + b"\nx,1,1,1,1,1,1\n"))
    with pytest.raises(ArchiveError, match="line 2: ts_ms is b'x'"):
        store.candle_table("linear:BTCUSDT", "1")


@pytest.mark.parametrize("symbol", ["BTCUSDT", "option:BTCUSDT", "linear:", "linear:../x"])
def test_a_symbol_never_leads_out_of_the_store(tmp_path, symbol):
    with pytest.raises(ArchiveError, match="give linear:NAME"):
        Store(tmp_path).folder_of(symbol)
