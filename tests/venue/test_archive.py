"""Captures: written here byte for byte, and the real one where it is at hand."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bot.core.events import Connected, Disconnected, Frame, Instrument
from bot.venue.archive import CaptureError, is_capture, read_capture
from tests.venue.test_answers import LINEAR, SPOT

LINEAR_URL = "wss://stream.bybit.com/v5/public/linear"
SPOT_URL = "wss://stream.bybit.com/v5/public/spot"
RULES_URL = "https://api.bybit.com/v5/market/instruments-info?&category={}&limit=1000"


def recv(ts: float, data: str, conn: str = "a") -> dict:
    return {"t": "recv", "conn": conn, "ts": ts, "data": data}


def connect(ts: float, conn: str = "a", addr: str = LINEAR_URL) -> dict:
    return {"t": "connect", "conn": conn, "ts": ts, "addr": addr}


def send(*topics: str, addr: str = LINEAR_URL, op: str = "subscribe") -> dict:
    request = json.dumps({"op": op, "args": topics})
    return {"t": "send", "conn": "a", "ts": 1.0, "addr": addr, "data": request}


def rules(ts: float, category: str, *entries: dict, code: int = 0) -> dict:
    answer = {"retCode": code, "retMsg": "", "result": {"list": entries}, "time": 900}
    url = RULES_URL.format(category)
    return {"t": "http", "conn": "h", "ts": ts, "url": url, "data": json.dumps(answer)}


def text_of(*lines: dict) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def write(path: Path, *lines: dict) -> Path:
    path.write_bytes(text_of(*lines))
    return path


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def test_connections_are_merged_by_time_and_equal_times_keep_the_files_order(tmp_path):
    path = write(
        tmp_path / "c.jsonl",
        {"t": "header", "format": 2},
        connect(1.0, "a"),
        recv(1.5, "one"),
        recv(1.5, "two"),
        recv(3.0, "five"),
        connect(1.25, "b", SPOT_URL),
        recv(1.5, "three", "b"),
        recv(2.0, "four", "b"),
    )
    assert list(read_capture(path)) == [
        Connected(1_000_000_000, "a", "linear"),
        Connected(1_250_000_000, "b", "spot"),
        Frame(1_500_000_000, "a", b"one"),
        Frame(1_500_000_000, "a", b"two"),
        Frame(1_500_000_000, "b", b"three"),
        Frame(2_000_000_000, "b", b"four"),
        Frame(3_000_000_000, "a", b"five"),
    ]


def test_stamps_are_exact(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_bytes(
        text_of(connect(1.0))
        + b'{"t":"recv","conn":"a","ts":1786310819.5264041,"data":""}\n'
        + b'{"t":"recv","conn":"a","ts":1786310820.123456789,"data":""}\n'
        + b'{"t":"recv","conn":"a","ts":1786310821,"data":""}\n'
    )
    assert [item.ts for item in read_capture(path)][1:] == [
        1_786_310_819_526_404_100,
        1_786_310_820_123_456_789,
        1_786_310_821_000_000_000,
    ]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.text(max_size=30))))
def test_no_frame_is_lost_or_changed(tmp_path_factory, frames):
    lines = [recv(10 + ts, data, conn) for conn, ts, data in frames]
    path = write(tmp_path_factory.mktemp("c") / "c.jsonl", connect(1, "a"), connect(1, "b"), *lines)
    got = [item for item in read_capture(path) if isinstance(item, Frame)]
    wanted = sorted(lines, key=lambda line: line["ts"])
    assert [(item.conn, item.data.decode()) for item in got] == [
        (line["conn"], line["data"]) for line in wanted
    ]


def test_rules_of_subscribed_symbols_become_instruments(tmp_path):
    path = write(
        tmp_path / "c.jsonl",
        rules(0.5, "linear", LINEAR, {**LINEAR, "symbol": "ETHUSDT"}, {"symbol": "ODD"}),
        rules(0.75, "spot", SPOT),
        {**rules(0.8, "linear", LINEAR), "url": "https://api.bybit.com/v5/market/tickers"},
        connect(1.0),
        send("tickers.BTCUSDT", "orderbook.50.BTCUSDT"),
        send("kline.1.ETHUSDT", op="unsubscribe"),
    )
    rule, connected = read_capture(path)
    assert isinstance(rule, Instrument)
    assert (rule.ts, rule.exchange_ts) == (500_000_000, 900_000_000)
    assert (rule.symbol, rule.qty_step) == ("linear:BTCUSDT", Decimal("0.001"))
    assert isinstance(connected, Connected)


def test_all_rules_become_instruments_where_nothing_was_subscribed(tmp_path):
    path = write(tmp_path / "c.jsonl", rules(0.5, "linear", LINEAR), rules(0.7, "spot", SPOT))
    assert [item.symbol for item in read_capture(path)] == ["linear:BTCUSDT", "spot:BTCUSDT"]


def test_a_refused_request_for_rules_is_logged_and_gives_none(tmp_path):
    path = write(tmp_path / "c.jsonl", rules(0.5, "linear", LINEAR, code=10006))
    with capture_logs() as logs:
        assert list(read_capture(path)) == []
    assert [entry["code"] for entry in logs] == [10006]


def test_a_second_connect_means_that_the_first_was_lost(tmp_path):
    path = write(tmp_path / "c.jsonl", connect(1.0), recv(2.0, "x"), connect(3.0))
    kinds = [type(item) for item in read_capture(path)]
    assert kinds == [Connected, Frame, Disconnected, Connected]


def test_lines_of_unknown_kinds_are_counted(tmp_path):
    path = write(tmp_path / "c.jsonl", connect(1.0), {"t": "note", "x": 1}, {"t": "note"})
    with capture_logs() as logs:
        capture = read_capture(path)
    assert (len(capture.inputs), capture.ignored, logs[0]["lines"]) == (1, 2, 2)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"not json", "malformed"),
        (b"[]", "Expected `object`"),
        (b"{}", "`t`"),
        (b"", "truncated"),
        (b'{"t":"recv","ts":1.0,"conn":"a"}', "`data`"),
        (b'{"t":"recv","ts":"soon","conn":"a","data":""}', "decimal"),
        (b'{"t":"recv","ts":1.0,"conn":"b","data":""}', "'b', which did not connect"),
        (b'{"t":"recv","ts":1.0,"conn":"a","data":"\xff"}', "utf-8"),
        (b'{"t":"connect","ts":1.0,"conn":"b","addr":"wss://x/v5/private"}', "no stream of linear"),
        (b'{"t":"send","addr":"%b","data":"{"}' % LINEAR_URL.encode(), "truncated"),
        (text_of(rules(1.0, "linear", {"symbol": "X"})).strip(), "no baseCoin"),
        (text_of(rules(1.0, "option")).strip(), "category 'option'"),
    ],
)
def test_a_bad_line_is_an_error_with_its_number(tmp_path, line, cause):
    path = tmp_path / "c.jsonl"
    path.write_bytes(text_of(connect(1.0)) + line + b"\n" + text_of(recv(2.0, "")))
    with pytest.raises(CaptureError) as raised:
        read_capture(path)
    assert str(raised.value).startswith(f"{path}: line 2: ")
    assert cause in str(raised.value)


def test_what_is_missing_empty_or_not_zstd_is_an_error(tmp_path):
    with pytest.raises(CaptureError, match="cannot be read: No such file"):
        read_capture(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    with pytest.raises(CaptureError, match="is empty"):
        read_capture(tmp_path / "empty.jsonl")
    (tmp_path / "text").write_bytes(b"no line")
    with pytest.raises(CaptureError, match="text: a line is cut off after line 0"):
        read_capture(tmp_path / "text")
    (tmp_path / "c.jsonl.zst").write_bytes(text_of(connect(1.0)))
    with pytest.raises(CaptureError, match="not zstd after line 0"):
        read_capture(tmp_path / "c.jsonl.zst")


def test_zstd_frames_follow_each_other_and_the_name_does_not_matter(tmp_path):
    path = tmp_path / "capture"
    path.write_bytes(
        zstd(text_of(connect(1.0)) + b'{"t":"recv","conn":"a",') + zstd(b'"ts":2.0,"data":"x"}\n')
    )
    assert list(read_capture(path))[1] == Frame(2_000_000_000, "a", b"x")


def test_damage_within_zstd_is_an_error(tmp_path):
    data = bytearray(zstd(text_of(connect(1.0), *(recv(2.0, f"{n * n}") for n in range(500)))))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "c.jsonl.zst"
    path.write_bytes(bytes(data))
    with pytest.raises(CaptureError):
        read_capture(path)


def test_garbage_behind_the_last_zstd_frame_is_an_error(tmp_path):
    path = tmp_path / "c.jsonl.zst"
    path.write_bytes(zstd(text_of(connect(1.0))) + b"garbage garbage")
    with pytest.raises(CaptureError, match="not zstd after line 1"):
        read_capture(path)


@given(st.data())
def test_a_cut_file_gives_its_whole_lines_and_says_so(tmp_path_factory, data):
    lines = [connect(1.0), *(recv(2.0 + n, f"frame {n} \N{EURO SIGN}") for n in range(20))]
    encoded = [text_of(line) for line in lines]
    if data.draw(st.booleans(), "zstd"):
        pieces = [zstd(b"".join(encoded[:9])), zstd(b"".join(encoded[9:]))]
    else:
        pieces = encoded
    whole = b"".join(pieces)
    cut = data.draw(st.integers(1, len(whole) - 1), "cut")
    path = tmp_path_factory.mktemp("c") / "c"
    path.write_bytes(whole[:cut])
    ends = {len(b"".join(pieces[: n + 1])) for n in range(len(pieces))}
    # Without a whole line there is nothing to give, and under 4 bytes no telling that it is zstd.
    empty = cut < (4 if pieces is not encoded else len(encoded[0]) - 1)
    try:
        capture = read_capture(path)
    except CaptureError as error:
        failure = str(error)
        capture = None
    if capture is None:
        assert "is cut off after line 0" in failure or empty
        assert cut < len(pieces[0])
        return
    assert not empty
    full = read_capture(write_bytes(path, whole))
    assert capture.inputs == full.inputs[: len(capture.inputs)]
    at_line_end = pieces is encoded and (cut in ends or cut + 1 in ends)
    assert bool(capture.truncated) == (not at_line_end and cut not in ends)
    if pieces is encoded:
        assert len(capture.inputs) == sum(end - 1 <= cut for end in ends)
    else:
        assert len(capture.inputs) >= 9 * (cut >= len(pieces[0]))


def write_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_captures_are_told_from_other_files(tmp_path):
    capture = text_of({"t": "header", "format": 2}, connect(1.0))
    assert is_capture(write_bytes(tmp_path / "a.jsonl", capture))
    assert is_capture(write_bytes(tmp_path / "b.jsonl.zst", zstd(capture)))
    assert is_capture(write(tmp_path / "c", recv(1.0, "x")))
    for other in (b"", b"ts_ms,open\n1,2\n", b'{"type":"Frame"}\n', b'{"t":"Frame"}\n', b"\xff",
                  zstd(b'{"v":1}\n'), zstd(capture)[:9]):  # fmt: skip
        assert not is_capture(write_bytes(tmp_path / "d", other))
    assert not is_capture(write_bytes(tmp_path / "d.zst", capture))
    assert not is_capture(tmp_path)
    assert not is_capture(tmp_path / "none")


# --- The real capture -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def captured(real_capture) -> list[dict]:
    """The lines of the real capture, by another JSON reader and zstd's own multi-frame one."""
    with real_capture.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return [json.loads(line, parse_float=Decimal) for line in reader.read().splitlines()]


def test_the_real_capture_gives_every_frame_in_order(captured, real_capture):
    capture = read_capture(real_capture)
    assert (capture.truncated, capture.ignored) == ("", 0)
    frames = [item for item in capture if isinstance(item, Frame)]
    assert len(frames) == 3227
    wanted = sorted((line for line in captured if line["t"] == "recv"), key=lambda line: line["ts"])
    assert frames == [
        Frame(int(line["ts"].scaleb(9)), line["conn"], line["data"].encode()) for line in wanted
    ]
    stamps = [item.ts for item in capture]
    assert stamps == sorted(stamps)


def test_the_real_capture_has_a_linear_and_a_spot_connection(real_capture):
    capture = read_capture(real_capture)
    connects = [item for item in capture if isinstance(item, Connected)]
    assert {item.conn: item.category for item in connects} == {
        "BYBIT.ws.2": "linear",
        "BYBIT.ws.3": "spot",
    }
    per_conn = Counter(item.conn for item in capture if isinstance(item, Frame))
    assert per_conn == {"BYBIT.ws.2": 2546, "BYBIT.ws.3": 681}


def test_the_real_capture_gives_the_rules_of_its_six_symbols(captured, real_capture):
    entries = {
        (line["url"].split("category=")[1].split("&")[0], entry["symbol"]): entry
        for line in captured
        if line["t"] == "http"
        for entry in json.loads(line["data"])["result"]["list"]
    }
    got = {item.symbol: item for item in read_capture(real_capture) if isinstance(item, Instrument)}
    assert set(got) == {
        *(f"linear:{base}USDT" for base in ("BTC", "ETH", "SOL", "DOGE")),
        *(f"spot:{base}USDT" for base in ("BTC", "ETH")),
    }
    for symbol, rule in got.items():
        category, name = symbol.split(":")
        entry = entries[category, name]
        lot, risk = entry["lotSizeFilter"], entry["riskParameters"]
        names = (
            ("qtyStep", "minNotionalValue", "maxOrderQty", "maxMktOrderQty")
            if category == "linear"
            else ("basePrecision", "minOrderAmt", "maxLimitOrderQty", "maxMarketOrderQty")
        )
        numbers = (rule.qty_step, rule.min_notional, rule.max_limit_qty, rule.max_market_qty)
        assert [str(number) for number in numbers] == [lot[key] for key in names]
        assert str(rule.tick_size) == entry["priceFilter"]["tickSize"]
        assert rule.min_qty == Decimal(lot["minOrderQty"])
        assert (str(rule.price_limit_x), str(rule.price_limit_y)) == (
            risk["priceLimitRatioX"],
            risk["priceLimitRatioY"],
        )
        assert (rule.base, rule.quote) == (entry["baseCoin"], entry["quoteCoin"])
        assert rule.funding_interval_min == entry.get("fundingInterval", 0)
