"""Archive files in, events out: every kind, told by content, merged by exchange time."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.events import (
    BookUpdate,
    Candle,
    FeedDown,
    FeedUp,
    FundingRate,
    Instrument,
    Ticker,
    Trade,
)
from bot.core.instrument import to_e12
from bot.venue.archive_feed import Archive, ArchiveError, ArchiveOptions
from bot.venue.archive_kinds import recognise
from bot.venue.archive_trades import ns_of_seconds, with_candles
from bot.venue.store import Store
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

MS = 10**6
MINUTE = 60 * 10**9


def read(*paths, **options) -> list:
    return list(Archive(paths, ArchiveOptions(**options)))


def e12(text: str) -> int:
    return to_e12(Decimal(text))


# --- Each kind ----------------------------------------------------------------------------------


def test_perpetual_trades_have_exact_times_and_their_own_symbol(tmp_path):
    path = linear_trades(
        tmp_path / "x.csv.gz",
        linear_row(f"{T0_S}.0547", "Buy", "0.038", "65065.80"),
        linear_row(f"{T0_S + 1}.123456", "Sell", "1e-05", "65065.7"),
        linear_row(f"{T0_S + 2}", "Sell", "2", "65065"),
    )
    first, second, third = read(path, delay_ns=7)
    assert first == Trade(
        T0 + 54_700_007, T0 + 54_700_000, "linear:BTCUSDT", 0, "Buy", e12("65065.8"), e12("0.038")
    )
    assert (second.exchange_ts, second.side, second.qty) == (
        T0 + 1_123_456_000,
        "Sell",
        e12("0.00001"),
    )
    assert third.exchange_ts == T0 + 2 * 10**9


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1735689600", T0),
        ("1735689600.1", T0 + 10**8),
        ("1735689600.123456789", T0 + 123_456_789),
        ("1.7356896e9", T0),
    ],
)
def test_seconds_become_nanoseconds_exactly(text, ns):
    assert ns_of_seconds(text) == ns


@pytest.mark.parametrize("text", ["", "soon", "-5", "1735689600000", "nan", "inf", "17356896.00.1"])
def test_what_is_no_time_in_seconds_is_refused(text):
    with pytest.raises((ValueError, ArithmeticError)):
        ns_of_seconds(text)


def test_columns_are_found_by_name_and_rpi_trades_are_marked(tmp_path):
    path = linear_trades(
        tmp_path / "x.csv.gz",
        f"0,100,Buy,BTCUSDT,2,{T0_S}",
        f"1,100,Buy,BTCUSDT,2,{T0_S}",
        header="RPI,price,side,symbol,size,timestamp",
    )
    assert [trade.rpi for trade in read(path)] == [False, True]


def test_a_file_with_the_newest_trade_first_is_read_backwards(tmp_path):
    rows = [linear_row(T0_S + n // 3, "Buy", "1", str(n + 1)) for n in range(9_000)]
    forwards = linear_trades(tmp_path / "up.csv.gz", *rows)
    backwards = linear_trades(tmp_path / "down.csv.gz", *reversed(rows))
    assert read(backwards) == read(forwards)
    assert [trade.price for trade in read(backwards)] == [e12(str(n + 1)) for n in range(9_000)]


def test_spot_trades_take_their_symbol_from_the_name(tmp_path):
    path = spot_trades(
        tmp_path / "1INCHUSDT_2025-01-01.csv.gz",
        f"1,{T0_MS + 5},0.2271,220.16,buy,0",
        f"2,{T0_MS + 9},0.2259,150.99,sell,1",
        header="id,timestamp,price,volume,side,rpi",
    )
    assert read(path) == [
        Trade(T0 + 5 * MS, T0 + 5 * MS, "spot:1INCHUSDT", 0, "Buy", e12("0.2271"), e12("220.16")),
        Trade(
            T0 + 9 * MS, T0 + 9 * MS, "spot:1INCHUSDT", 0, "Sell", e12("0.2259"), e12("150.99"),
            rpi=True,
        ),
    ]  # fmt: skip


def test_a_symbol_that_nothing_names_must_be_given(tmp_path):
    path = spot_trades(tmp_path / "trades.csv.gz", f"1,{T0_MS},1,2,buy")
    with pytest.raises(ArchiveError, match="give --symbol"):
        read(path)
    (trade,) = read(path, symbol="spot:ABCUSDT")
    assert trade.symbol == "spot:ABCUSDT"
    with pytest.raises(ArchiveError, match="'ABCUSDT': give linear:NAME"):
        read(path, symbol="ABCUSDT")


def test_a_book_prefers_the_matching_engines_time_and_brings_its_feed_up(tmp_path):
    path = book_zip(
        tmp_path / "2025-01-01_XRPUSDT_ob500.data.zip",
        snapshot(10, cts=T0_MS - 3),
        message(11, T0_MS + 20, bids=[("1.95", "0")]),
    )
    up, first, second = read(path)
    assert up == FeedUp(T0 - 3 * MS, "linear:XRPUSDT", T0 - 3 * MS)
    assert first == BookUpdate(
        T0 - 3 * MS, T0 - 3 * MS, "linear:XRPUSDT", 500, 10, 1010, True,
        [(e12("1.95"), e12("10")), (e12("1.94"), e12("5"))], [(e12("1.96"), e12("7"))],
    )  # fmt: skip
    assert (second.exchange_ts, second.snapshot, second.bids) == (
        T0 + 20 * MS,
        False,
        [(e12("1.95"), 0)],
    )


def test_a_second_snapshot_resets_the_book_without_a_gap(tmp_path):
    path = book_zip(
        tmp_path / "b.data.zip",
        snapshot(10),
        message(11, T0_MS + 1),
        snapshot(500, T0_MS + 2),
        message(501, T0_MS + 3),
        message(1, T0_MS + 4),  # u = 1 is a snapshot, whatever it says
        message(2, T0_MS + 5),
    )
    events = read(path)
    assert [type(event) for event in events].count(FeedUp) == 1
    assert not any(type(event) is FeedDown for event in events)
    assert [event.snapshot for event in events if type(event) is BookUpdate] == [
        True, False, True, False, True, False,
    ]  # fmt: skip


def test_a_folder_named_spot_makes_a_book_a_spot_one(tmp_path):
    folder = tmp_path / "spot" / "XRPUSDT"
    folder.mkdir(parents=True)
    assert recognise(book_zip(folder / "b.zip", snapshot(1))).symbol == "spot:XRPUSDT"


def test_a_candle_table_gives_its_interval_by_its_steps(tmp_path):
    path = candle_table(tmp_path / "linear_BTCUSDT_from2025.csv.gz", candle_rows(3, step_min=15))
    first, _, last = read(path, delay_ns=5)
    assert first == Candle(
        T0 + 15 * MINUTE + 5, T0 + 15 * MINUTE, "linear:BTCUSDT", "15", T0,
        Decimal(100), Decimal(102), Decimal(99), Decimal(101), Decimal("0.5"), Decimal(0),
    )  # fmt: skip
    assert last.exchange_ts == T0 + 45 * MINUTE


def test_a_single_bar_takes_its_interval_from_the_name(tmp_path):
    for name, interval in (("X_5m_y", "5"), ("X_1h", "60"), ("X_60_2025", "60"), ("X_D", "D")):
        path = candle_table(tmp_path / f"{name}_BTCUSDT.csv.gz", candle_rows(1))
        assert recognise(path).interval == interval
    with pytest.raises(ArchiveError, match="no interval of Bybit's"):
        recognise(candle_table(tmp_path / "BTCUSDT.csv.gz", candle_rows(1)))


def test_a_table_without_volumes_is_one_of_marks(tmp_path):
    rows = [row.rpartition(",")[0] + "," for row in candle_rows(2)]
    first, second = read(candle_table(tmp_path / "BTCUSDT_mark.csv.gz", rows))
    stamp = T0 + MINUTE
    assert first == Ticker(stamp, stamp, "linear:BTCUSDT", mark=Decimal(101))
    assert second.mark == Decimal(102)


def test_funding_rates_are_events_at_their_settlement(tmp_path):
    path = gz(tmp_path / "ETHUSDT.csv.gz", f"ts_ms,funding_rate\n{T0_MS},-0.0001\n")
    assert read(path, delay_ns=3) == [
        FundingRate(T0 + 3, T0, "linear:ETHUSDT", Decimal("-0.0001"), T0)
    ]


def test_metatrader_minutes_are_three_hours_ahead_of_utc(tmp_path):
    text = "2025.01.01 03:00,100,102,99,101,5\n2025.01.01 03:05,101,103,100,102,6\n"
    first, second = read(gz(tmp_path / "BTCUSDT_5_2025-01-01_2025-01-31.csv.gz", text))
    assert (first.open_ts, first.interval, first.symbol) == (T0, "5", "linear:BTCUSDT")
    assert (second.open_ts, second.close) == (T0 + 5 * MINUTE, Decimal(102))


def answer(*opens: int) -> dict:
    rows = [[str(T0_MS + n * 60_000), "1", "3", "1", "2", "5", "10"] for n in opens]
    return {"retCode": 0, "result": {"category": "spot", "symbol": "AUSDT", "list": rows}}


@pytest.mark.parametrize("indent", [None, 2])
def test_rest_answers_are_read_whole_or_a_line_each(tmp_path, indent):
    path = tmp_path / "klines.json"
    path.write_text(json.dumps(answer(2, 1, 0), indent=indent))
    bars = read(path)
    assert [bar.open_ts for bar in bars] == [T0, T0 + MINUTE, T0 + 2 * MINUTE]
    assert (bars[0].symbol, bars[0].interval, bars[0].turnover) == ("spot:AUSDT", "1", Decimal(10))
    assert bars[0].ts == T0 + MINUTE
    path.write_text(json.dumps(answer(3, 2)) + "\n" + json.dumps(answer(2, 1, 0)) + "\n")
    assert len(read(path)) == 4


# --- Merging ----------------------------------------------------------------------------------


def test_at_equal_times_a_trade_comes_before_the_book_that_has_it(tmp_path):
    book = book_zip(tmp_path / "b.zip", snapshot(10), message(11, T0_MS + 10))
    trades = linear_trades(
        tmp_path / "t.csv.gz",
        linear_row(T0_S - 1, "Buy", "1", "1.96", "XRPUSDT"),
        linear_row(f"{T0_S}.01", "Buy", "1", "1.96", "XRPUSDT"),
        linear_row(f"{T0_S}.02", "Buy", "1", "1.96", "XRPUSDT"),
    )
    events = read(book, trades)
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["Trade", "FeedUp", "BookUpdate", "Trade", "BookUpdate", "Trade"]
    seqs = [event.seq for event in events if type(event) is not FeedUp]
    assert seqs == [0, 1010, 1011, 1011, 1012], "a trade lies behind the last book"


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=30), min_size=1, max_size=4))
def test_any_files_come_out_in_the_order_of_time_with_nothing_lost(tmp_path_factory, days):
    folder = tmp_path_factory.mktemp("a")
    for number, offsets in enumerate(days):
        rows = [linear_row(T0_S + n, "Buy", "1", str(i + 1), f"{'ABCD'[number]}USDT")
                for i, n in enumerate(sorted(offsets))]  # fmt: skip
        linear_trades(folder / f"{number}.csv.gz", *rows)
    events = read(folder)
    stamps = [event.exchange_ts for event in events]
    assert stamps == sorted(stamps)
    for number, offsets in enumerate(days):
        mine = [event for event in events if event.symbol == f"linear:{'ABCD'[number]}USDT"]
        assert [event.exchange_ts for event in mine] == [T0 + n * 10**9 for n in sorted(offsets)]
        assert [event.price for event in mine] == [e12(str(i + 1)) for i in range(len(offsets))]


def test_the_files_of_a_series_follow_each_other_whatever_their_names(tmp_path):
    linear_trades(tmp_path / "a.csv.gz", linear_row(T0_S + 100, "Buy", "1", "2"))
    linear_trades(tmp_path / "b.csv.gz", linear_row(T0_S, "Buy", "1", "1"))
    assert [trade.price for trade in read(tmp_path)] == [e12("1"), e12("2")]


def test_what_is_no_archive_is_left_out_of_a_folder_but_an_error_by_name(tmp_path):
    linear_trades(tmp_path / "a.csv.gz", linear_row(T0_S, "Buy", "1", "2"))
    (tmp_path / "INDEX.csv").write_text("file,rows\na,1\n")
    assert len(read(tmp_path)) == 1
    with pytest.raises(ArchiveError, match=r"INDEX.csv: no archive of .* begins 'file,rows'"):
        read(tmp_path / "INDEX.csv")


def test_rules_beside_the_files_come_first(tmp_path):
    rules = Instrument(
        1, 2, "linear:BTCUSDT", "BTC", "USDT", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"),
        Decimal(5),
    )  # fmt: skip
    store = Store(tmp_path)
    store.save_rules(rules)
    linear_trades(
        tmp_path / "linear" / "BTCUSDT" / "trades" / "a.csv.gz",
        linear_row(T0_S, "Buy", "1", "2"),
    )
    first, second = read(tmp_path)
    assert first == Instrument(
        T0, T0, *[getattr(rules, name) for name in rules.__struct_fields__][2:]
    )
    assert type(second) is Trade


# --- Candles from trades ----------------------------------------------------------------------


def test_candles_are_built_from_trades_and_closed_by_the_clock(tmp_path):
    path = linear_trades(
        tmp_path / "t.csv.gz",
        linear_row(T0_S + 1, "Buy", "1", "100"),
        linear_row(T0_S + 30, "Sell", "2.5", "103"),
        linear_row(f"{T0_S + 59}.999", "Sell", "0.5", "99"),
        linear_row(T0_S + 180, "Buy", "4", "101"),
    )
    events = read(path, candles="1", delay_ns=9)
    bars = [event for event in events if type(event) is Candle]
    numbers = [(bar.open, bar.high, bar.low, bar.close, bar.volume, bar.turnover) for bar in bars]
    assert numbers == [
        (100, 103, 99, 99, 4, Decimal(100) + Decimal("257.5") + Decimal("49.5")),
        (99, 99, 99, 99, 0, 0),
        (99, 99, 99, 99, 0, 0),
    ]
    assert [bar.exchange_ts for bar in bars] == [T0 + n * MINUTE for n in (1, 2, 3)]
    assert {bar.ts - bar.exchange_ts for bar in bars} == {9}
    assert [type(event) for event in events[-4:]] == [Candle, Candle, Candle, Trade]


@given(
    st.lists(
        st.tuples(st.integers(0, 900), st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1
    )
)
def test_built_candles_keep_every_quantity_and_price(rows):
    trades = [Trade(0, T0 + at * 10**9, "linear:A", 0, "Buy", price, qty)
              for at, price, qty in sorted(rows)]  # fmt: skip
    bars = [event for event in with_candles(trades, "1") if type(event) is Candle]
    for bar in bars:
        inside = [one for one in trades if bar.open_ts <= one.exchange_ts < bar.exchange_ts]
        assert bar.volume.scaleb(12) == sum(one.qty for one in inside)
        if inside:
            prices = [one.price for one in inside]
            want = (prices[0], max(prices), min(prices), prices[-1])
            got = (bar.open, bar.high, bar.low, bar.close)
            assert tuple(number.scaleb(12) for number in got) == want
    last_close = bars[-1].exchange_ts if bars else trades[0].exchange_ts // MINUTE * MINUTE
    assert trades[-1].exchange_ts - last_close < MINUTE
